"""Addresses and networks as objects write them, brought to the one form that rules use (pure)."""

from __future__ import annotations

import ipaddress
import re
import socket

from .portal import Family

_DECIMAL = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,10}){3}")
_MAPPED = "::ffff:"


def parse(text: str) -> tuple[Family, str] | None:
    """Return the family of an address and its canonical form, None if it is no address.

    As the peer does, ``010.0.0.1`` is taken as 10.0.0.1 (old objects have such), and an IPv4
    address that is written as IPv6 (``::ffff:10.0.0.1``) is one of IPv4.
    """
    try:
        if ":" not in text:
            socket.inet_pton(socket.AF_INET, text)
            return Family.V4, text
        canonical = socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text))
    except (OSError, ValueError):
        return _sloppy(text)
    if canonical.startswith(_MAPPED) and "." in canonical:
        return Family.V4, canonical.removeprefix(_MAPPED)
    return Family.V6, canonical


def _sloppy(text: str) -> tuple[Family, str] | None:
    if not _DECIMAL.fullmatch(text):
        return None
    parts = [int(part) for part in text.split(".")]
    return (Family.V4, ".".join(map(str, parts))) if max(parts) < 256 else None


def network(text: str) -> tuple[Family, str] | None:
    """Return the family of a CIDR and its canonical form (host bits cleared), None if it is none.

    Blanks around it are taken off: validation of the API server lets them pass.
    """
    address, slash, length = text.strip().partition("/")
    parsed = parse(address)
    if not slash or parsed is None or not length.isascii() or not length.isdigit():
        return None
    family, canonical = parsed
    bits = int(length) - (96 if family is Family.V4 and ":" in address else 0)
    if not 0 <= bits <= (32 if family is Family.V4 else 128):
        return None
    return family, str(ipaddress.ip_network(f"{canonical}/{bits}", strict=False))


def endpoint_problem(canonical: str) -> str:
    """Return why an address cannot be an endpoint's, or "".

    What the API server refuses in EndpointSlices: a controller that got such an address in would
    make the node's own loopback services reachable by a Service (CVE-2021-25737).
    """
    if canonical.startswith("127.") or canonical == "::1":
        return "a loopback address"
    first, _, rest = canonical.partition("." if "." in canonical else ":")
    if "." in canonical and ":" not in canonical:
        number = int(first)
        if number == 0:
            return "an unspecified address"
        if number >= 224:
            return "a multicast or reserved address"
        return "a link-local address" if number == 169 and rest.startswith("254.") else ""
    if canonical == "::":
        return "an unspecified address"
    if first.startswith("ff") and len(first) == 4:
        return "a multicast address"
    return "a link-local address" if first[:3] in ("fe8", "fe9", "fea", "feb") else ""
