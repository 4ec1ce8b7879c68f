"""Types of the flags of ``kubeletpy apiserver``: each says what is wrong with a value of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import click

from controlplane.options import ADDRESS_TYPES

_SMALLEST_RANGE = 8


class Checked(click.ParamType[Any]):
    """A value that a function reads.

    Args:
        name: shown in the help.
        read: returns the value of a text; a ValueError says why it is none.
    """

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def read_address(text: str) -> str:
    """Return an IP address.

    Raises:
        ValueError: it is none.
    """
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"{text!r} is no IP address, such as 127.0.0.1 or ::") from None


def read_ranges(text: str) -> tuple[str, ...]:
    """Return the networks of ClusterIPs: one, or one of each family.

    Raises:
        ValueError: they are not.
    """
    try:
        found = [ipaddress.ip_network(part.strip()) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{error}: give a network such as 10.96.0.0/16") from None
    if len(found) > 2 or len({network.version for network in found}) != len(found):
        raise ValueError(f"{text!r}: at most one network of each family, IPv4 and IPv6")
    for network in found:
        if network.num_addresses < _SMALLEST_RANGE:
            raise ValueError(f"{network} has fewer than {_SMALLEST_RANGE} addresses")
    return tuple(str(network) for network in found)


def read_ports(text: str) -> tuple[int, int]:
    """Return the first and the last node port: ``30000-32767``, or ``30000+2767``.

    Raises:
        ValueError: it is no such range.
    """
    for mark in ("-", "+"):
        first, found, last = text.partition(mark)
        if found and first.isdecimal() and last.isdecimal():
            begin = int(first)
            end = int(last) + (begin if mark == "+" else 0)
            if 0 < begin <= end < 65536:
                return begin, end
    raise ValueError(f"{text!r} is no range of ports, such as 30000-32767")


def read_address_types(text: str) -> tuple[str, ...]:
    """Return kinds of addresses of nodes.

    Raises:
        ValueError: one is none.
    """
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [part for part in found if part not in ADDRESS_TYPES]
    if unknown or not found:
        raise ValueError(f"{', '.join(unknown) or 'nothing'}: known are {', '.join(ADDRESS_TYPES)}")
    return found


def read_issuer(text: str) -> str:
    """Return the issuer of tokens: an https URL without query (OpenID Connect Discovery, 3).

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is no https URL without query and fragment")
    return text


ADDRESS = Checked("ip", read_address)
RANGES = Checked("cidrs", read_ranges)
PORTS = Checked("first-last", read_ports)
TYPES = Checked("types", read_address_types)
ISSUER = Checked("url", read_issuer)
