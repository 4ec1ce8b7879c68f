"""What the kernel has, kept up to date by what it announces.

Our own changes are announced too, before they are acknowledged: who drains what was announced
knows them. Whatever is not an entry of ours but may count (addresses, links, routes of others)
makes the mirror `stale`: it is to be read anew.
"""

from __future__ import annotations

import struct
from typing import Final

from kubeletpy_common import netlink

from . import wire
from .entries import OVERLAY, PROTOCOL, Entries, Facts, Hop

RTM_NEWLINK, RTM_DELLINK = netlink.RTM_NEWLINK, netlink.RTM_DELLINK
_HEADER: Final = struct.Struct("=IHHII")


class Mirror:
    """The last state known.

    Attributes:
        entries: of ours.
        facts: of others.
        index: of the VXLAN device; 0 without one.
        stale: it is to be read anew.
        changed: an entry of ours is otherwise than we left it.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self.entries = Entries()
        self.facts = Facts()
        self.index = 0
        self.stale = True
        self.changed = False
        self._reading = False

    def begin(self) -> None:
        """All is about to be read: what is announced until `replace` makes that stale at once."""
        self.stale = self.changed = False
        self._reading = True

    def replace(self, entries: Entries, facts: Facts, index: int) -> None:
        """Take what was read."""
        self.entries, self.facts, self.index = entries, facts, index
        self.stale |= self.changed
        self._reading = False

    def take(self, data: bytes) -> None:
        """Take announcements, several in one datagram."""
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
            if length < _HEADER.size:
                return
            self._one(kind, data[offset : offset + length])
            offset += (length + 3) & ~3

    def _one(self, kind: int, message: bytes) -> None:
        if self.stale:
            return
        if kind in (netlink.RTM_NEWROUTE, netlink.RTM_DELROUTE):
            self._route(message, there=kind == netlink.RTM_NEWROUTE)
        elif kind in (netlink.RTM_NEWNEIGH, netlink.RTM_DELNEIGH):
            self._neighbour(message, there=kind == netlink.RTM_NEWNEIGH)
        elif kind in (RTM_NEWLINK, RTM_DELLINK):
            self._link(message, there=kind == RTM_NEWLINK)
        elif kind in (netlink.RTM_NEWADDR, netlink.RTM_DELADDR):
            self.stale |= wire.address_seen(message) is not None

    def _route(self, message: bytes, *, there: bool) -> None:
        seen = wire.route_seen(message)
        if seen is None:
            return
        if seen.protocol != PROTOCOL:
            self.stale |= seen.foreign is not None
            return
        routes, hop = self.entries.routes, hop_of(seen, self.index)
        if there and routes.get(seen.key) != hop:
            routes[seen.key] = hop
            self.changed = True
        elif not there and routes.get(seen.key) == hop:
            del routes[seen.key]
            self.changed = True

    def _neighbour(self, message: bytes, *, there: bool) -> None:
        seen = wire.neighbour_seen(message)
        if seen is not None and self._reading and seen.permanent:
            self.stale = True
        if seen is None or seen.link != self.index or not self.index:
            return
        if seen.family == wire.AF_BRIDGE:
            held, key, value = self.entries.forwarding, seen.mac, seen.address
        else:
            held, key, value = self.entries.neighbours, seen.address, seen.mac
        if there and seen.permanent:
            if held.get(key) != value:
                held[key] = value
                self.changed = True
        elif key in held:
            del held[key]
            self.changed = True

    def _link(self, message: bytes, *, there: bool) -> None:
        index, link = wire.link_seen(message)
        if index == self.index or link.name == self._device:
            self.stale = True
        elif index in self.facts.links:
            self.stale |= not there or self.facts.links[index] != link


def hop_of(seen: wire.RouteSeen, index: int) -> Hop:
    """Return where a route of ours leads; one that cannot be ours as it is leads nowhere.

    Args:
        seen: a route with our protocol.
        index: of the VXLAN device.
    """
    if seen.hop is None:
        return Hop(b"", -1)
    return Hop(seen.hop.gateway, OVERLAY if seen.hop.link == index else seen.hop.link)
