"""Checks of IP addresses and networks in objects (pure).

Source: Kubernetes, KEP-4858 (strict validation of addresses); RFC 5952.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import wrong

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

_DOTTED: Final = re.compile(r"\d{1,9}(\.\d{1,9}){3}", re.ASCII)
_NO_ADDRESS: Final = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_NO_NETWORK: Final = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


def parse_ip(text: str) -> IPAddress | None:
    """Return an address, also one written the old way (zeros in front, IPv4 in IPv6)."""
    if _DOTTED.fullmatch(text):
        text = ".".join(str(int(part)) for part in text.split("."))
    if "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_network(text: str) -> tuple[IPAddress, IPNetwork] | None:
    """Return the address and the network of a CIDR value, also one written the old way."""
    head, slash, length = text.partition("/")
    address = parse_ip(head)
    if address is None or not slash or not length.isdecimal() or not length.isascii():
        return None
    try:
        return address, ip_network(f"{address}/{int(length)}", strict=False)
    except ValueError:
        return None


def is_ipv6(text: str) -> bool:
    """Say whether it is an address of IPv6."""
    return isinstance(parse_ip(text), IPv6Address)


def family_of(text: str) -> str:
    """Return ``IPv4`` or ``IPv6``; "" for no address."""
    address = parse_ip(text)
    return "" if address is None else f"IPv{address.version}"


def check_ip(text: str, path: str, known: Collection[str] = ()) -> list[Cause]:
    """Return what is wrong with an address that is not among those ``known`` before."""
    if text in known:
        return []
    address = parse_ip(text)
    if address is None:
        return [wrong(path, text, _NO_ADDRESS)]
    if address.version == 4 and ":" in text:
        return [wrong(path, text, "must not be an IPv4-mapped IPv6 address")]
    if address.version == 4 and str(address) != text:
        return [wrong(path, text, "must not have leading 0s")]
    return []


def check_network(text: str, path: str, known: Collection[str] = ()) -> list[Cause]:
    """Return what is wrong with a CIDR value that is not among those ``known`` before."""
    if text in known:
        return []
    found = parse_network(text)
    if found is None:
        return [wrong(path, text, _NO_NETWORK)]
    address, network = found
    if address.version == 4 and ":" in text:
        return [wrong(path, text, "must not have an IPv4-mapped IPv6 address")]
    if address.version == 4 and text != f"{address}/{network.prefixlen}":
        return [wrong(path, text, "must not have leading 0s in IP or prefix length")]
    if address != network.network_address:
        return [wrong(path, text, "must not have bits set beyond the prefix length")]
    return []


def check_endpoint_ip(text: str, path: str) -> list[Cause]:
    """Return why an address cannot be that of an endpoint."""
    address = parse_ip(text)
    if address is None:
        return [wrong(path, text, "must be a valid IP address")]
    causes: list[Cause] = []
    if address.is_unspecified:
        causes.append(wrong(path, text, f"may not be unspecified ({text})"))
    if address.is_loopback:
        why = "may not be in the loopback range (127.0.0.0/8, ::1/128)"
        causes.append(wrong(path, text, why))
    if address.is_link_local:
        why = "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        causes.append(wrong(path, text, why))
    if address in ip_network("224.0.0.0/24" if address.version == 4 else "ff02::/16"):
        why = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        causes.append(wrong(path, text, why))
    return causes


def ip_warnings(text: str, path: str) -> list[str]:
    """Return what a user should hear about an address that is accepted."""
    address = parse_ip(text)
    if address is None or str(address) == text:
        return []
    if address.version == 4:
        return [f'{path}: non-standard IP address "{text}" is invalid: use "{address}"']
    canonical = f'should be in RFC 5952 canonical format ("{address}")'
    return [f'{path}: IPv6 address "{text}" {canonical}']


def network_warnings(text: str, path: str) -> list[str]:
    """Return what a user should hear about a CIDR value that is accepted."""
    found = parse_network(text)
    if found is None:
        return []
    address, network = found
    if address != network.network_address:
        one = f'"{address}/{address.max_prefixlen}"'
        return [
            f'{path}: CIDR value "{text}" is ambiguous in this context (should be "{network}" or '
            f"{one}?)"
        ]
    if str(network) == text:
        return []
    if address.version == 4:
        return [f'{path}: non-standard CIDR value "{text}" is invalid: use "{network}"']
    return [
        f'{path}: IPv6 CIDR value "{text}" should be in RFC 5952 canonical format ("{network}")'
    ]
