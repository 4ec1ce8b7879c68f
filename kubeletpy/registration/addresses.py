"""Which addresses the node has."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Collection, Sequence

import psutil

_LOOKUP_TIMEOUT = 2.0
# Addresses set aside for documentation: connecting a datagram socket sends nothing, but makes the
# kernel choose the source address by its default route.
_FAR = {4: (socket.AF_INET, "192.0.2.1"), 6: (socket.AF_INET6, "2001:db8::1")}


def usable(address: str, local: Collection[str]) -> str:
    """Return why an address cannot be the node's, or "" (the Go kubelet's rules; pure).

    Args:
        local: addresses of this machine.
    """
    ip = ipaddress.ip_address(address)
    for refused, word in (
        (ip.is_loopback, "loopback"), (ip.is_multicast, "multicast"),
        (ip.is_link_local, "link-local"), (ip.is_unspecified, "unspecified"),
    ):  # fmt: skip
        if refused:
            return f"node IP {address} can't be a {word} address"
    return "" if str(ip) in local else f"node IP {address} is not on any interface of this host"


def choose(
    asked: Sequence[str], named: Sequence[str], default: dict[int, str], local: Collection[str]
) -> tuple[str, ...]:
    """Return the node's addresses, the primary one first (pure).

    Args:
        asked: of --node-ip; an unspecified one asks for its family.
        named: what the node's name resolves to.
        default: by family, the address of the default route.
        local: addresses of this machine.
    """
    specified = [one for one in asked if not ipaddress.ip_address(one).is_unspecified]
    if specified and len(specified) == len(asked):
        return tuple(specified)
    family = ipaddress.ip_address(asked[0]).version if asked else 4
    fitting = [one for one in named if not usable(one, local)]
    fitting.sort(key=lambda one: ipaddress.ip_address(one).version != family)
    other = 10 - family
    for found in (*fitting[:1], default.get(family), default.get(other)):
        if found:
            return (found,)
    return ()


def node_addresses(asked: Sequence[str], name: str) -> tuple[str, ...]:
    """Return the addresses that the node is registered with; none if there is no way to any."""
    if asked and not any(ipaddress.ip_address(one).is_unspecified for one in asked):
        return tuple(asked)
    return choose(asked, _resolve(name), default_addresses(), local_addresses())


def default_addresses() -> dict[int, str]:
    """Return the addresses that this machine sends from by default, by family."""
    found = {}
    for version, (family, far) in _FAR.items():
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                found[version] = str(probe.getsockname()[0])
        except OSError:
            continue
    return found


def local_addresses() -> set[str]:
    """Return all addresses of the interfaces."""
    return {
        one.address.partition("%")[0]
        for addresses in psutil.net_if_addrs().values()
        for one in addresses
        if one.family in (socket.AF_INET, socket.AF_INET6)
    }


def _resolve(name: str) -> list[str]:
    """Return what the name resolves to; nothing where the resolver does not answer in time."""
    try:
        return [str(ipaddress.ip_address(name))]
    except ValueError:
        pass
    found: list[str] = []

    def look_up() -> None:
        try:
            entries = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
        except OSError:
            return
        found.extend(str(entry[4][0]) for entry in entries)

    thread = threading.Thread(target=look_up, name="resolve node name", daemon=True)
    thread.start()
    thread.join(_LOOKUP_TIMEOUT)
    return list(found)
