"""Which flows of UDP and SCTP are stale; how to remove them.

For a proxy, after rules were written::

    stale = flows.stale(before, after, options)   # pure; before: {} if it is not known
    if stale:
        removed = flows.remove(stale)             # Removed(removed, seen, seconds)

A flow is healthy if a sync of now could have made it for what its client asked for, or if its
endpoint still serves: policies, hints and termination are for new flows, not for old ones. With
``before`` unknown (the proxy was restarted) the kernel's whole table is compared; else only the
flows of portals that lost an endpoint, gained their first one, or got a new address.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..backend import RuleOptions
from ..model.portal import Family, Portal, PortalName, Protocol

NUMBERS = {Protocol.UDP: socket.IPPROTO_UDP, Protocol.SCTP: socket.IPPROTO_SCTP}
"""The protocols whose flows are looked at. Those of TCP end by themselves."""

_SOCKET_FAMILY = {Family.V4: socket.AF_INET, Family.V6: socket.AF_INET6}


class Flow(NamedTuple):
    """A flow of the kernel's table; addresses and ports as they are in packets.

    Attributes:
        asked, asked_port: where its client sends to.
        answers, answers_port: who answers: the endpoint, if the destination was translated.
        attributes: all that the kernel said of it.
    """

    protocol: int
    asked: bytes
    asked_port: bytes
    answers: bytes
    answers_port: bytes
    attributes: bytes = b""


@dataclass(frozen=True, slots=True)
class Stale:
    """What flows are looked at, and which of those may stay.

    Attributes:
        addresses: by protocol, address and port where clients send to: the endpoints (address
            and port, one after the other) that may answer.
        node_ports: by protocol and port; for flows to the node's own addresses.
    """

    family: Family
    addresses: Mapping[tuple[int, bytes, bytes], frozenset[bytes]] = field(default_factory=dict)
    node_ports: Mapping[tuple[int, bytes], frozenset[bytes]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.addresses or self.node_ports)

    @property
    def protocols(self) -> set[int]:
        """Numbers of the protocols whose flows are looked at."""
        return {each[0] for each in self.addresses} | {each[0] for each in self.node_ports}

    def holds(self, flow: Flow, node_addresses: frozenset[bytes]) -> bool:
        """Whether a flow is stale.

        Where no endpoint is left, a flow to one is stale, and one that bypassed the Service is
        not: there is nothing better for it.
        """
        protocol, asked, asked_port, answers, answers_port, _ = flow
        healthy = self.addresses.get((protocol, asked, asked_port))
        if healthy is None:
            healthy = self.node_ports.get((protocol, asked_port))
            if healthy is None or asked not in node_addresses:
                return False
        end = answers + answers_port
        if healthy:
            return end not in healthy
        return end != asked + asked_port


@dataclass(frozen=True, slots=True)
class Removed:
    """What was done: flows removed, flows looked at, and how many seconds it took."""

    removed: int
    seen: int
    seconds: float


def stale(
    before: Mapping[PortalName, Portal],
    after: Mapping[PortalName, Portal],
    options: RuleOptions,
) -> Stale:
    """Return which flows to look at, and how to tell the stale ones; false if there are none.

    Args:
        before: portals as they were; an unknown one is new or this proxy has just started.
        after: the same portals as they are; those that are gone leave their flows alone.
        options: of the rules.
    """
    addresses: dict[tuple[int, bytes, bytes], frozenset[bytes]] = {}
    node_ports: dict[tuple[int, bytes], frozenset[bytes]] = {}
    for name, portal in after.items():
        number = NUMBERS.get(portal.protocol)
        if number is None:
            continue
        old = before.get(name)
        healthy = _serving(portal)
        known = set(_ways(old)) if old is not None else set()
        gained = old is not None and bool(healthy) and not old.serving_endpoints
        lost = old is not None and bool(_serving(old) - healthy)
        for address, port in _ways(portal):
            if (address, port) in known and not gained and not lost:
                continue
            if not address:
                node_ports[number, port] = healthy
            else:
                addresses[number, address, port] = healthy
    return Stale(options.family, addresses, node_ports)


def remove(found: Stale) -> Removed:
    """Remove the stale flows from the kernel's table.

    Raises:
        OSError: the table cannot be read, or a flow cannot be removed.
    """
    from . import netlink

    return netlink.remove(found)


def _ways(portal: Portal) -> Iterator[tuple[bytes, bytes]]:
    """Yield address and port of each way into a portal; b"" for the node's addresses."""
    family = _SOCKET_FAMILY[portal.family]
    port = struct.pack(">H", portal.port)
    for ip in (portal.cluster_ip, *portal.external_ips, *portal.load_balancer_ips):
        yield socket.inet_pton(family, ip), port
    if portal.node_port:
        yield b"", struct.pack(">H", portal.node_port)


def _serving(portal: Portal) -> frozenset[bytes]:
    family = _SOCKET_FAMILY[portal.family]
    return frozenset(
        socket.inet_pton(family, each.ip) + struct.pack(">H", each.port)
        for each in portal.serving_endpoints
    )
