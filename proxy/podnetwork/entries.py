"""What is in the kernel, or is to be there: plain data that can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from .settings import Address, Network

PROTOCOL: Final = 88
"""Who made a route (``proto`` of iproute2): what bears this number is ours, all else is not."""
OVERLAY: Final = 0
"""Stands for the VXLAN device where a link is named by its index."""


class RouteKey(NamedTuple):
    """What tells routes of the main table apart; the network's address as in a packet."""

    network: bytes
    length: int
    metric: int


class Hop(NamedTuple):
    """Where a route leads: next address, index of the link."""

    gateway: bytes
    link: int


@dataclass(frozen=True)
class Device:
    """The VXLAN device.

    Attributes:
        local: address that packets come from, as in a packet; b"" for any.
        mac: its own.
        ipv6: whether the packets that carry others are of IPv6.
    """

    vni: int
    port: int
    local: bytes
    mac: bytes
    mtu: int
    ipv6: bool = False


@dataclass
class Entries:
    """All of it.

    Attributes:
        device: None if there is none.
        addresses: of the device, each with all bits.
        routes: by their key.
        neighbours: on the device: address to hardware address.
        forwarding: on the device: hardware address to address of a node.
    """

    device: Device | None = None
    addresses: frozenset[bytes] = frozenset()
    routes: dict[RouteKey, Hop] = field(default_factory=dict)
    neighbours: dict[bytes, bytes] = field(default_factory=dict)
    forwarding: dict[bytes, bytes] = field(default_factory=dict)


class Link(NamedTuple):
    """A link of this machine."""

    name: str
    mtu: int
    up: bool


class Foreign(NamedTuple):
    """A unicast route of the main table that is not ours.

    Attributes:
        direct: without a next hop: what it leads to is on the link.
        link: index; 0 where it has several ways.
    """

    network: Network
    direct: bool
    link: int
    protocol: int


class Local(NamedTuple):
    """An address of this machine."""

    address: Address
    link: int


@dataclass(frozen=True)
class Facts:
    """What the kernel has besides ours.

    Attributes:
        links: by index, without the VXLAN device.
        addresses: without those of the VXLAN device, and without link-local ones.
        routes: see `Foreign`.
    """

    links: Mapping[int, Link] = field(default_factory=dict)
    addresses: tuple[Local, ...] = ()
    routes: tuple[Foreign, ...] = ()
