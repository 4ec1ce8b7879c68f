"""Reading and changing what the kernel has; blocking, for a thread of its own."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from kubeletpy_common import logs, netlink
from kubeletpy_common.netlink import Netlink, Request, open_socket

from . import device, wire
from .difference import Difference
from .entries import OVERLAY, PROTOCOL, Entries, Facts, Foreign, Hop, Link, Local
from .mirror import Mirror, hop_of

_log = logging.getLogger(__name__)
_AT_ONCE: Final = 256
"""Requests in one message: their answers fit into a socket's buffer."""
_SOL_NETLINK: Final = 270
_STRICT: Final = 12
_GROUPS: Final = (1, 3, 5, 7, 9, 11)
"""RTNLGRP_: LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE."""
_ADD_MEMBERSHIP: Final = 1
_RCVBUFFORCE: Final = 33
_BUFFER: Final = 4 << 20
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
_SYSCTLS: Final = Path("/proc/sys/net")
_DEVICE_SYSCTLS: Final = {
    # No address that announces itself to all (IN6_ADDR_GEN_MODE_NONE), and no router.
    "ipv6/conf/{}/addr_gen_mode": "1",
    "ipv6/conf/{}/accept_ra": "0",
    # Loose: a node may be asked by VXLAN and answer directly.
    "ipv4/conf/{}/rp_filter": "2",
}
_GONE: Final = (errno.ESRCH, errno.ENOENT, errno.ENODEV)


def watch_socket() -> socket.socket:
    """Return a socket that hears what changes; not blocking.

    Raises:
        OSError: the kernel refused.
    """
    made = socket.socket(
        socket.AF_NETLINK,
        socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
        socket.NETLINK_ROUTE,
    )
    try:
        try:
            made.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER)
        except PermissionError:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        made.bind((0, 0))
        for group in _GROUPS:
            made.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    except BaseException:
        made.close()
        raise
    return made


class Kernel:
    """The routes, neighbours and the device of the network namespace that the process is in."""

    def __init__(self, name: str) -> None:
        self._name = name
        opened = open_socket()
        # Dumps are then of the table asked for (Linux 4.20); without it all are sent.
        with contextlib.suppress(OSError):
            opened.setsockopt(_SOL_NETLINK, _STRICT, 1)
        self._netlink = Netlink(opened)

    def close(self) -> None:
        """Let go of the socket."""
        self._netlink.__exit__()

    # Reading -------------------------------------------------------------------------------------

    def read(self) -> tuple[Entries, Facts, int]:
        """Return all there is, and the index of the device.

        Raises:
            OSError: the kernel refused.
        """
        links = dict(wire.link_seen(each) for each in self._dump(wire.get_links()))
        index = next((i for i, link in links.items() if link.name == self._name), 0)
        there = device.read(self._netlink, self._name, index) if index else None
        locals_ = [wire.address_seen(each) for each in self._dump(wire.get_addresses())]
        found = [each for each in locals_ if each is not None]
        entries = Entries(
            there, frozenset(each.address.packed for each in found if index and each.link == index)
        )
        foreign = self._read_routes(index, entries)
        if index:
            self._read_neighbours(index, entries)
        addresses = tuple(each for each in found if each.link != index)
        routes = tuple(each for each in foreign if not index or each.link != index)
        return entries, Facts(_used(links, addresses, routes), addresses, routes), index

    def _dump(self, request: Request) -> list[bytes]:
        return [reply.data for reply in self._netlink.dump(request)]

    def _read_routes(self, index: int, entries: Entries) -> list[Foreign]:
        foreign = []
        for family in _FAMILIES:
            for data in self._dump(wire.get_routes(family)):
                seen = wire.route_seen(data)
                if seen is None:
                    continue
                if seen.protocol == PROTOCOL:
                    entries.routes[seen.key] = hop_of(seen, index)
                elif seen.foreign is not None:
                    foreign.append(seen.foreign)
        return foreign

    def _read_neighbours(self, index: int, entries: Entries) -> None:
        for family in (*_FAMILIES, wire.AF_BRIDGE):
            for data in self._dump(wire.get_neighbours(family)):
                seen = wire.neighbour_seen(data)
                if seen is None or seen.link != index or not seen.permanent:
                    continue
                if family == wire.AF_BRIDGE:
                    entries.forwarding[seen.mac] = seen.address
                else:
                    entries.neighbours[seen.address] = seen.mac

    # Changing ------------------------------------------------------------------------------------

    def apply(self, made: Difference, index: int) -> None:
        """Carry out a difference; what can be done is done, whatever fails.

        Args:
            made: what is to be done.
            index: of the device as it is now; 0 without one.

        Raises:
            OSError: the first failure.
        """
        failures: list[OSError] = []
        with _kept(failures):
            index = self._device(made, index)
        self._all(failures, self._new(made, index))
        self._all(failures, _old(made, index))
        if made.old_device:
            self._all(failures, [device.remove(self._name)])
        if failures:
            raise failures[0]

    def _device(self, made: Difference, index: int) -> int:
        """Make or change the device; return its index."""
        wanted = made.device
        if wanted is None:
            return index
        if made.anew or not index:
            if index:
                self._netlink.exchange(device.remove(self._name))
            self._netlink.exchange(device.make(self._name, wanted))
            index = socket.if_nametoindex(self._name)
            logs.event(
                _log, logging.INFO, "VXLAN device made", device=self._name, vni=wanted.vni,
                port=wanted.port, mtu=wanted.mtu,
            )  # fmt: skip
        for path, value in _DEVICE_SYSCTLS.items():
            self._set(path.format(self._name), value)
        self._netlink.exchange(*device.change(self._name, index, wanted))
        return index

    def _set(self, path: str, value: str) -> None:
        """Set a sysctl; on a machine without that family there is none."""
        file = _SYSCTLS / path
        try:
            if file.read_text().strip() != value:
                file.write_text(value)
        except FileNotFoundError:
            return
        except OSError as error:
            logs.event(
                _log, logging.WARNING, "a sysctl could not be set", name=path, value=value,
                reason=error.strerror,
            )  # fmt: skip

    def _new(self, made: Difference, index: int) -> Iterator[Request]:
        yield from (device.address(index, each, there=True) for each in made.addresses)
        new, put = netlink.RTM_NEWNEIGH, wire.REPLACE
        for mac, remote in made.forwarding.items():
            yield wire.forwarding(new, put, index, mac, remote)
        for address, mac in made.neighbours.items():
            yield wire.neighbour(new, put, index, address, mac)
        for key, hop in made.routes.items():
            # What is there of somebody else is never replaced: the plan left it out.
            yield wire.route(netlink.RTM_NEWROUTE, put, key, _at(hop, index))

    def _all(self, failures: list[OSError], requests: Iterable[Request]) -> None:
        for batch in batches(requests):
            with _kept(failures):
                self._netlink.exchange(*batch)


def _at(hop: Hop, index: int) -> Hop:
    return Hop(hop.gateway, index) if hop.link == OVERLAY else hop


def _old(made: Difference, index: int) -> Iterator[Request]:
    for key in made.old_routes:
        yield wire.route(netlink.RTM_DELROUTE, netlink.CHANGE, key, None, _GONE)
    if made.old_device:
        return
    gone = netlink.RTM_DELNEIGH
    for address in made.old_neighbours:
        yield wire.neighbour(gone, netlink.CHANGE, index, address, b"", _GONE)
    for mac, remote in made.old_forwarding.items():
        yield wire.forwarding(gone, netlink.CHANGE, index, mac, remote, _GONE)
    for each in made.old_addresses:
        yield device.address(index, each, there=False)


def batches(requests: Iterable[Request]) -> Iterator[Sequence[Request]]:
    """Return requests, as many together as go into one message."""
    rest = iter(requests)
    while batch := list(islice(rest, _AT_ONCE)):
        yield batch


@contextlib.contextmanager
def _kept(failures: list[OSError]) -> Iterator[None]:
    """Keep a failure, and go on."""
    try:
        yield
    except OSError as error:
        failures.append(error)


def _used(
    links: dict[int, Link], addresses: Iterable[Local], routes: Iterable[Foreign]
) -> dict[int, Link]:
    """Return the links that addresses or routes are on: a pod's own link does not count."""
    used = {each.link for each in addresses} | {each.link for each in routes}
    return {index: link for index, link in links.items() if index in used}


def clean_up(name: str) -> None:
    """Remove all routes and the device.

    Raises:
        OSError: the kernel refused.
    """
    kernel = Kernel(name)
    try:
        entries, _, index = kernel.read()
        made = Difference(old_routes=entries.routes, old_device=entries.device is not None)
        kernel.apply(made, index)
    finally:
        kernel.close()


def drain(listening: socket.socket, mirror: Mirror) -> None:
    """Take all announcements that are there; a flood that was lost makes the mirror stale."""
    while True:
        try:
            mirror.take(listening.recv(1 << 16))
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            logs.event(_log, logging.DEBUG, "announcements of the kernel were lost", fd=os.getpid())
            mirror.stale = True
