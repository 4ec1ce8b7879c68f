"""Messages of rtnetlink for routes, neighbours, links and addresses, as bytes.

pyroute2 needs 0.3 ms to encode one route and 0.15 ms to decode it; a thousand nodes have five
thousand entries, which would be seconds at each start. Those few fixed forms are here by struct;
what is made once (the device) goes by pyroute2. Names and numbers: linux/rtnetlink.h, neighbour.h,
if_link.h, if_addr.h.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple

from kubeletpy_common import netlink
from kubeletpy_common.netlink import Request

from .entries import PROTOCOL, Foreign, Hop, Link, Local, RouteKey

MAIN_TABLE: Final = 254
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_NDMSG: Final = struct.Struct("=BBHiHBB")
_IFINFOMSG: Final = struct.Struct("=BBHiII")
_IFADDRMSG: Final = struct.Struct("=BBBBI")
_NUMBER: Final = struct.Struct("=I")

_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 4, 5, 6
_RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA, _RTA_NH_ID = 9, 15, 18, 30
_NDA_DST, _NDA_LLADDR = 1, 2
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_EXT_MASK = 1, 3, 4, 29
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_TYPE_MASK: Final = 0x3FFF
_UNICAST: Final = 1
_SCOPE_UNIVERSE: Final = 0
_SCOPE_LINK: Final = 253
_ONLINK: Final = 4
_PERMANENT: Final = 0x80
_SELF: Final = 0x02
_IFF_UP: Final = 1
_IFF_RUNNING: Final = 0x40
_SKIP_STATS: Final = 1 << 3
AF_BRIDGE: Final = 7
FAMILIES: Final = {4: socket.AF_INET, 16: socket.AF_INET6}
"""By the bytes of an address."""

CREATE: Final = netlink.NLM_F_REQUEST | netlink.NLM_F_ACK | netlink.NLM_F_CREATE
ADD: Final = CREATE | netlink.NLM_F_EXCL
REPLACE: Final = CREATE | netlink.NLM_F_REPLACE


class RouteSeen(NamedTuple):
    """A route of the main table.

    Attributes:
        key, hop: as ours have them; hop is None where it has no single next hop.
        protocol: who made it.
        foreign: the same as what is not ours; None where it leads nowhere (not unicast).
    """

    key: RouteKey
    hop: Hop | None
    protocol: int
    foreign: Foreign | None


class NeighbourSeen(NamedTuple):
    """A neighbour, or a forwarding entry (``family`` is then `AF_BRIDGE`)."""

    family: int
    link: int
    permanent: bool
    address: bytes
    mac: bytes


def attributes(data: bytes, offset: int) -> dict[int, bytes]:
    """Return the attributes of a message from an offset on, by type."""
    found: dict[int, bytes] = {}
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & _TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def _attribute(kind: int, value: bytes) -> bytes:
    padding = -len(value) % 4
    return _ATTRIBUTE.pack(len(value) + 4, kind) + value + b"\0" * padding


def _request(
    purpose: str, kind: int, flags: int, body: bytes, tolerated: tuple[int, ...] = ()
) -> Request:
    head = _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0)
    return Request(purpose, kind, flags, tolerated=tolerated, ready=head + body)


def route(
    kind: int, flags: int, key: RouteKey, hop: Hop | None, tolerated: tuple[int, ...] = ()
) -> Request:
    """Make, replace or remove one of our routes; ``hop.link`` is a link's index here.

    A next hop that is not in a network of the link (the device has none) is taken as on it.
    """
    family = FAMILIES[len(key.network)]
    body = _RTMSG.pack(
        family, key.length, 0, 0, MAIN_TABLE, PROTOCOL, _SCOPE_UNIVERSE, _UNICAST,
        _ONLINK if hop else 0,
    )  # fmt: skip
    body += _attribute(_RTA_DST, key.network)
    if key.metric:
        body += _attribute(_RTA_PRIORITY, _NUMBER.pack(key.metric))
    if hop is not None:
        body += _attribute(_RTA_GATEWAY, hop.gateway) + _attribute(_RTA_OIF, _NUMBER.pack(hop.link))
    return _request(f"route to {_network(key)}", kind, flags, body, tolerated)


def neighbour(
    kind: int, flags: int, link: int, address: bytes, mac: bytes, tolerated: tuple[int, ...] = ()
) -> Request:
    """Make, replace or remove the hardware address of an address."""
    body = _NDMSG.pack(FAMILIES[len(address)], 0, 0, link, _PERMANENT, 0, 0)
    body += _attribute(_NDA_DST, address)
    if mac:
        body += _attribute(_NDA_LLADDR, mac)
    return _request(f"neighbour {ip_address(address)}", kind, flags, body, tolerated)


def forwarding(
    kind: int, flags: int, link: int, mac: bytes, remote: bytes, tolerated: tuple[int, ...] = ()
) -> Request:
    """Make, replace or remove the node that a hardware address is behind."""
    body = _NDMSG.pack(AF_BRIDGE, 0, 0, link, _PERMANENT, _SELF, 0)
    body += _attribute(_NDA_LLADDR, mac)
    if remote:
        body += _attribute(_NDA_DST, remote)
    return _request(f"forwarding entry {mac.hex(':')}", kind, flags, body, tolerated)


def get_routes(family: int) -> Request:
    """Ask for the main table of a family (with NETLINK_GET_STRICT_CHK; else for all tables)."""
    body = _RTMSG.pack(family, 0, 0, 0, MAIN_TABLE, 0, 0, 0, 0)
    body += _attribute(_RTA_TABLE, _NUMBER.pack(MAIN_TABLE))
    return _request("listing routes", netlink.RTM_GETROUTE, netlink.DUMP, body)


def get_neighbours(family: int) -> Request:
    """Ask for all neighbours of a family, or for all forwarding entries."""
    body = _NDMSG.pack(family, 0, 0, 0, 0, 0, 0)
    return _request("listing neighbours", netlink.RTM_GETNEIGH, netlink.DUMP, body)


def get_links() -> Request:
    """Ask for all links."""
    body = _IFINFOMSG.pack(0, 0, 0, 0, 0, 0) + _attribute(_IFLA_EXT_MASK, _NUMBER.pack(_SKIP_STATS))
    return _request("listing links", netlink.RTM_GETLINK, netlink.DUMP, body)


def get_addresses() -> Request:
    """Ask for all addresses."""
    return _request(
        "listing addresses", netlink.RTM_GETADDR, netlink.DUMP, _IFADDRMSG.pack(0, 0, 0, 0, 0)
    )


def route_seen(data: bytes) -> RouteSeen | None:
    """Read a message about a route; None if it is of another table or family, or cloned."""
    family, length, _, _, table, protocol, _, kind, flags = _RTMSG.unpack_from(data, 16)
    size = {socket.AF_INET: 4, socket.AF_INET6: 16}.get(family)
    if size is None or table != MAIN_TABLE or flags & 0x200:  # RTM_F_CLONED
        return None
    found = attributes(data, 16 + _RTMSG.size)
    if _RTA_TABLE in found and _NUMBER.unpack(found[_RTA_TABLE])[0] != MAIN_TABLE:
        return None
    network = found.get(_RTA_DST, b"\0" * size)
    metric = _NUMBER.unpack(found[_RTA_PRIORITY])[0] if _RTA_PRIORITY in found else 0
    gateway = found.get(_RTA_GATEWAY, b"")
    link = _NUMBER.unpack(found[_RTA_OIF])[0] if _RTA_OIF in found else 0
    several = _RTA_MULTIPATH in found or _RTA_NH_ID in found or _RTA_VIA in found
    key = RouteKey(network, length, metric)
    hop = Hop(gateway, link) if gateway and link and not several else None
    foreign = None
    if protocol != PROTOCOL and kind == _UNICAST:
        where = ip_network((network, length))
        foreign = Foreign(where, not gateway and not several, 0 if several else link, protocol)
    return RouteSeen(key, hop, protocol, foreign)


def neighbour_seen(data: bytes) -> NeighbourSeen | None:
    """Read a message about a neighbour or forwarding entry; None if it has no address."""
    family, _, _, link, state, _, _ = _NDMSG.unpack_from(data, 16)
    found = attributes(data, 16 + _NDMSG.size)
    if family not in (socket.AF_INET, socket.AF_INET6, AF_BRIDGE):
        return None
    return NeighbourSeen(
        family, link, bool(state & _PERMANENT), found.get(_NDA_DST, b""),
        found.get(_NDA_LLADDR, b""),
    )  # fmt: skip


def link_seen(data: bytes) -> tuple[int, Link]:
    """Read a message about a link; return its index too."""
    _, _, _, index, flags, _ = _IFINFOMSG.unpack_from(data, 16)
    found = attributes(data, 16 + _IFINFOMSG.size)
    name = found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
    mtu = _NUMBER.unpack(found[_IFLA_MTU])[0] if _IFLA_MTU in found else 0
    return index, Link(name, mtu, bool(flags & _IFF_UP))


def address_seen(data: bytes) -> Local | None:
    """Read a message about an address; None for a link-local one."""
    _, _, _, _, link = _IFADDRMSG.unpack_from(data, 16)
    found = attributes(data, 16 + _IFADDRMSG.size)
    raw = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
    if raw is None:
        return None
    address = ip_address(raw)
    return None if address.is_link_local else Local(address, link)


def _network(key: RouteKey) -> str:
    return f"{ip_address(key.network)}/{key.length}"
