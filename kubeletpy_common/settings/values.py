"""Values of flags and fields that are more than a text or a number."""

from __future__ import annotations

import ipaddress
from typing import Any

from .durations import ConfigurationError


def address(value: str, name: str) -> str:
    """Return an IP address.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ConfigurationError(f"{name}: {value!r} is not an IP address") from None


def addresses(value: str, name: str) -> tuple[str, ...]:
    """Return one address, or two of different families, separated by a comma.

    Raises:
        ConfigurationError: it is neither.
    """
    found = tuple(address(part.strip(), name) for part in value.split(",") if part.strip())
    families = {ipaddress.ip_address(one).version for one in found}
    if len(found) > 2 or len(families) != len(found):
        raise ConfigurationError(f"{name}: {value!r}: one address of each family at most")
    return found


def pairs(values: tuple[str, ...], name: str, separator: str = "=") -> dict[str, str]:
    """Return ``key=value,key=value`` as a mapping; of several flags all count.

    Raises:
        ConfigurationError: a part has no separator.
    """
    found: dict[str, str] = {}
    for part in split(values):
        key, sign, value = part.partition(separator)
        if not sign:
            raise ConfigurationError(f"{name}: {part!r} is not KEY{separator}VALUE")
        found[key.strip()] = value.strip()
    return found


def split(values: tuple[str, ...]) -> list[str]:
    """Return the parts of texts that are separated by commas; of several flags all count."""
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def headers(values: tuple[str, ...], name: str) -> dict[str, list[str]]:
    """Return ``a:x,b:y`` as a mapping to lists.

    Raises:
        ConfigurationError: a part has no colon.
    """
    found: dict[str, list[str]] = {}
    for part in split(values):
        key, sign, value = part.partition(":")
        if not sign:
            raise ConfigurationError(f"{name}: {part!r} is not NAME:VALUE")
        found.setdefault(key, []).append(value)
    return found


def taints(values: tuple[str, ...], name: str) -> list[dict[str, str]]:
    """Return ``key=value:effect`` or ``key:effect`` as taints.

    Raises:
        ConfigurationError: one is neither.
    """
    found = []
    for part in split(values):
        stem, sign, effect = part.rpartition(":")
        key, _, value = stem.partition("=")
        if not sign or not key or not effect:
            raise ConfigurationError(f"{name}: {part!r} is not KEY=VALUE:EFFECT")
        found.append({"key": key, "value": value, "effect": effect})
    return found


def reserved_memory(values: tuple[str, ...], name: str) -> list[dict[str, Any]]:
    """Return ``0:memory=1Gi,hugepages-1Gi=2Gi`` as memory reservations, one of each flag.

    Raises:
        ConfigurationError: one is something else.
    """
    found = []
    for each in values:
        for reservation in each.split(";"):
            node, sign, limits = reservation.partition(":")
            if not sign or not node.strip().isdigit():
                raise ConfigurationError(f"{name}: {reservation!r} is not NODE:memory=AMOUNT")
            found.append({"numaNode": int(node), "limits": dict(pairs((limits,), name))})
    return found
