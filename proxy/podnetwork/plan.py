"""What is to be in the kernel: a pure function of the Nodes, the settings and the kernel's facts.

A Node says which networks its pods have and at which addresses it is. It may lie, or be wrong: no
Node can draw traffic here but what is for the cluster's pods, and none can take what another has.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from .entries import OVERLAY, Device, Entries, Facts, Foreign, Hop, RouteKey
from .objects import Member
from .settings import Address, Mode, Network, Settings

OVERHEAD: Final = {4: 50, 6: 70}
"""Bytes that VXLAN adds to a packet, by the version of IP that carries it (RFC 7348)."""
METRIC: Final = {4: 0, 6: 1024}
"""What the kernel gives a route that names none."""
_DEFAULT_MTU: Final = 1500
_SMALLEST_MTU: Final = 1280


class Problem(NamedTuple):
    """Why pods of a node, or some of them, are not reached.

    Attributes:
        node: its name; that of this node where it is its own.
        reason: in CamelCase, for an event.
        text: what, why, and what to do.
    """

    node: str
    reason: str
    text: str


@dataclass
class Plan:
    """What is to be, and what cannot be.

    Attributes:
        entries: all that is to be in the kernel.
        mtu: of pods.
        problems: see `Problem`.
        reached: nodes with at least one route.
    """

    entries: Entries
    mtu: int
    problems: list[Problem] = field(default_factory=list)
    reached: int = 0


# What follows from one value alone is not found out anew for a thousand nodes when one changes.
_REMEMBERED: Final = 16384


@lru_cache(_REMEMBERED)
def _span(network: Network) -> tuple[int, int]:
    """Return the first and the last address of a network as numbers."""
    return int(network.network_address), int(network.broadcast_address)


@lru_cache(_REMEMBERED)
def _within(network: Network, others: tuple[Network, ...]) -> bool:
    return any(
        network.version == each.version and network.subnet_of(each)  # type: ignore[arg-type]
        for each in others
    )


@lru_cache(_REMEMBERED)
def _inside(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


@lru_cache(_REMEMBERED)
def _of_a_node(address: Address) -> bool:
    return not (
        address.is_loopback or address.is_multicast or address.is_unspecified
        or address.is_link_local or address.is_reserved
    )  # fmt: skip


@lru_cache(_REMEMBERED)
def mac_of(cidrs: tuple[Network, ...]) -> bytes:
    """Return the hardware address of a node's device; all nodes know it without being told.

    It is of the first IPv4 network, or a hash of the first IPv6 one, and locally administered.
    """
    for cidr in cidrs:
        if cidr.version == 4:
            return b"\x0a\x58" + cidr.network_address.packed
    return b"\x0a\x59" + hashlib.sha256(str(cidrs[0]).encode()).digest()[:4]


def next_hop(cidr: Network, mac: bytes) -> bytes:
    """Return the address that stands for a node on the device, in the network's family.

    For IPv4 it is the network's base address, which no pod has. For IPv6 it is link-local: the
    kernel refuses others while the network still has a route by another link, so that it could not
    be replaced without a gap (net/ipv6/route.c, ip6_route_check_nh_onlink).
    """
    if cidr.version == 4:
        return cidr.network_address.packed
    return b"\xfe\x80" + bytes(6) + mac[:3] + b"\xff\xfe" + mac[3:]


class Lookup:
    """Which route a packet to an address would take, of those that are not ours."""

    def __init__(self, routes: Iterable[Foreign]) -> None:
        self._by_length: dict[int, dict[int, dict[int, Foreign]]] = {4: {}, 6: {}}
        for each in routes:
            lengths = self._by_length[each.network.version]
            found = lengths.setdefault(each.network.prefixlen, {})
            number = int(each.network.network_address)
            # Of several metrics any that is direct will do.
            if number not in found or each.direct:
                found[number] = each
        self._lengths = {v: sorted(found, reverse=True) for v, found in self._by_length.items()}

    def exact(self, network: Network) -> Foreign | None:
        """Return the route to a network itself."""
        lengths = self._by_length[network.version]
        held = lengths.get(network.prefixlen)
        return held.get(_span(network)[0]) if held else None

    def best(self, address: Address) -> Foreign | None:
        """Return the route with the longest prefix."""
        number, bits = int(address), address.max_prefixlen
        for length in self._lengths[address.version]:
            shift = bits - length
            found = self._by_length[address.version][length].get(number >> shift << shift)
            if found is not None:
                return found
        return None

    def on_link(self, address: Address) -> int:
        """Return the index of the link that an address is on; 0 if it is beyond a router."""
        found = self.best(address)
        return found.link if found and found.direct and found.network.prefixlen else 0


class Claims:
    """Networks that are somebody's already."""

    def __init__(self) -> None:
        self._starts: dict[int, list[int]] = {4: [], 6: []}
        self._owners: dict[int, list[tuple[int, Network, str]]] = {4: [], 6: []}

    def owner(self, network: Network) -> tuple[Network, str] | None:
        """Return a network that overlaps, and whose it is."""
        owners = self._owners[network.version]
        first, last = _span(network)
        starts = self._starts[network.version]
        at = bisect.bisect_right(starts, first)
        # None of them overlap, so only two neighbours can.
        for place in (at - 1, at):
            if 0 <= place < len(owners) and starts[place] <= last and owners[place][0] >= first:
                return owners[place][1:]
        return None

    def take(self, network: Network, owner: str) -> None:
        """Note whose a network is; it must overlap with none."""
        first, last = _span(network)
        at = bisect.bisect_right(self._starts[network.version], first)
        self._starts[network.version].insert(at, first)
        self._owners[network.version].insert(at, (last, network, owner))


def make(settings: Settings, own: Member, others: Iterable[Member], facts: Facts) -> Plan:
    """Return what is to be.

    Args:
        settings: of this node.
        own: this node, which has pod CIDRs.
        others: all other nodes, in any order.
        facts: what the kernel has.
    """
    return _Planner(settings, own, facts).plan(others)


def underlay_of(settings: Settings, own: Member) -> Address | None:
    """Return the address of this node that other nodes reach it at."""
    found = settings.addresses or tuple(
        each for each in own.addresses if not _inside(each, settings.cluster)
    )
    return found[0] if found else None


class _Planner:
    """One run of `make`."""

    def __init__(self, settings: Settings, own: Member, facts: Facts) -> None:
        self._settings, self._own, self._facts = settings, own, facts
        self._lookup = Lookup(facts.routes)
        self._claims = Claims()
        self._locals = {each.address for each in facts.addresses}
        self._numbers: dict[int, list[tuple[int, Address]]] = {4: [], 6: []}
        for address in sorted(self._locals, key=lambda each: (each.version, int(each))):
            self._numbers[address.version].append((int(address), address))
        self._problems: list[Problem] = []
        self._entries = Entries()
        self._macs: dict[bytes, str] = {}
        self._address = underlay_of(settings, own)

    def plan(self, others: Iterable[Member]) -> Plan:
        own_cidrs = [each for each in self._own.cidrs if self._claim(each, self._own)]
        self._tell(self._own, "InvalidNode", *self._own.problems)
        if self._address is None:
            self._tell(
                self._own, "NoAddress", "this node has no InternalIP outside the pods' networks; "
                "set the kubelet's --node-ip, or --node-address of the pod network",
            )  # fmt: skip
        mtu = self._mtu()
        if self._settings.mode is not Mode.HOST_GW and self._address is not None and own_cidrs:
            self._make_device(own_cidrs, mtu)
        reached = 0
        for other in sorted(others, key=lambda each: each.seniority):
            before = len(self._entries.routes)
            self._add(other)
            reached += len(self._entries.routes) > before
        return Plan(self._entries, self._settings.mtu or mtu, self._problems, reached)

    def _tell(self, member: Member, reason: str, *texts: str) -> None:
        self._problems += [Problem(member.name, reason, text) for text in texts]

    # This node -----------------------------------------------------------------------------------

    def _uplink_mtu(self) -> int:
        """Return the MTU of the link with this node's address, else of the default route's."""
        links = self._facts.links
        for each in self._facts.addresses:
            if each.address == self._address and each.link in links:
                return links[each.link].mtu
        for route in self._facts.routes:
            if not route.network.prefixlen and route.link in links:
                return links[route.link].mtu
        return _DEFAULT_MTU

    def _mtu(self) -> int:
        uplink = self._uplink_mtu()
        if self._settings.mode is Mode.HOST_GW or self._address is None:
            return uplink
        return max(uplink - OVERHEAD[self._address.version], _SMALLEST_MTU)

    def _make_device(self, own_cidrs: Sequence[Network], mtu: int) -> None:
        assert self._address is not None
        local = self._address.packed if self._address in self._locals else b""
        mac = mac_of(self._own.cidrs)
        self._macs[mac] = self._own.name
        self._entries.device = Device(
            self._settings.vni, self._settings.port, local, mac, mtu, self._address.version == 6
        )
        # The source of what this node itself sends to pods there, so that answers come this way.
        # No pod has it: it is the network's base address.
        self._entries.addresses = frozenset(each.network_address.packed for each in own_cidrs)

    # Other nodes ---------------------------------------------------------------------------------

    def _claim(self, cidr: Network, member: Member) -> bool:
        """Have a network be a node's, unless that must not be."""
        wrong = self._objection(cidr, member)
        if wrong is not None:
            self._tell(member, *wrong)
            return False
        self._claims.take(cidr, member.name)
        return True

    def _objection(self, cidr: Network, member: Member) -> tuple[str, str] | None:
        cluster = self._settings.cluster
        if not _within(cidr, cluster):
            return "OutsideClusterCIDR", (
                f"pod CIDR {cidr} is not within {', '.join(map(str, cluster))}, the networks of "
                "the cluster's pods (--cluster-cidr); it is not routed"
            )
        taken = self._claims.owner(cidr)
        if taken is not None:
            return "OverlappingPodCIDR", (
                f"pod CIDR {cidr} overlaps with {taken[0]} of node {taken[1]}, which counts; "
                "it is not routed: delete this Node so that it gets another"
            )
        if member is self._own:
            return None
        first, last = _span(cidr)
        for number, address in self._numbers[cidr.version]:
            if first <= number <= last:
                return "CoversThisNode", (
                    f"pod CIDR {cidr} has {address} in it, which is an address of node "
                    f"{self._own.name}; it is not routed"
                )
        foreign = self._lookup.exact(cidr)
        if foreign is not None:
            return "RouteExists", (
                f"pod CIDR {cidr} has a route on node {self._own.name} that is not ours (protocol "
                f"{foreign.protocol}, {self._name(foreign.link)}); remove it, or the other network"
            )
        return None

    def _name(self, link: int) -> str:
        found = self._facts.links.get(link)
        return found.name if found else f"link {link}"

    def _add(self, other: Member) -> None:
        self._tell(other, "InvalidNode", *other.problems)
        cidrs = [each for each in other.cidrs if self._claim(each, other)]
        if not cidrs:
            return
        addresses = self._usable(other)
        if not addresses:
            return
        overlaid = [each for each in cidrs if not self._direct(other, each, addresses)]
        if overlaid:
            self._overlay(other, overlaid, addresses)

    def _usable(self, other: Member) -> list[Address]:
        """Return the addresses of a node that packets can be sent to."""
        found, wrong = [], []
        for each in other.addresses:
            if not _of_a_node(each):
                wrong.append(f"{each} is no address of a node")
            elif each in self._locals:
                wrong.append(
                    f"{each} is an address of node {self._own.name}, too: give each node a "
                    "--node-ip of its own"
                )
            elif _inside(each, self._settings.cluster):
                wrong.append(f"{each} is within the pods' networks")
            else:
                found.append(each)
        if not found:
            self._tell(
                other, "NoAddress",
                "its pods are not reached: " + ("; ".join(wrong) or "it has no InternalIP"),
            )  # fmt: skip
        return found

    def _direct(self, other: Member, cidr: Network, addresses: Sequence[Address]) -> bool:
        """Route a network by the node's own address, if that is wanted and can be."""
        if self._settings.mode is Mode.VXLAN:
            return False
        if self._settings.mode is Mode.AUTO and _says(other, Mode.VXLAN):
            return False
        for each in addresses:
            link = self._lookup.on_link(each) if each.version == cidr.version else 0
            if link:
                self._entries.routes[_key(cidr)] = Hop(each.packed, link)
                return True
        return False

    def _overlay(
        self, other: Member, overlaid: Sequence[Network], addresses: Sequence[Address]
    ) -> None:
        """Route networks by VXLAN."""
        wrong = self._no_overlay(other, overlaid, addresses)
        if wrong is not None:
            self._tell(other, *wrong)
            return
        assert self._address is not None
        version = self._address.version
        remote = next(each for each in addresses if each.version == version)
        mac = mac_of(other.cidrs)
        if self._macs.setdefault(mac, other.name) != other.name:
            self._tell(
                other, "SameHardwareAddress", f"its hardware address {mac.hex(':')} is that of "
                f"node {self._macs[mac]}; delete the Node so that it gets another pod CIDR",
            )  # fmt: skip
            return
        self._entries.forwarding[mac] = remote.packed
        for cidr in overlaid:
            hop = next_hop(cidr, mac)
            self._entries.neighbours[hop] = mac
            self._entries.routes[_key(cidr)] = Hop(hop, OVERLAY)

    def _no_overlay(
        self, other: Member, overlaid: Sequence[Network], addresses: Sequence[Address]
    ) -> tuple[str, str] | None:
        """Return why a node is not reached by VXLAN."""
        device, there = self._entries.device, other.announced
        if (
            device is not None
            and self._address is not None
            and (there is None or (there.vni, there.port) == (device.vni, device.port))
            and not _says(other, Mode.HOST_GW)
            and any(each.version == self._address.version for each in addresses)
        ):
            return None
        said = ", ".join(map(str, addresses))
        networks = ", ".join(map(str, overlaid))
        if self._settings.mode is Mode.HOST_GW:
            return "NotOnLink", (
                f"{networks} is not reached: {said} is on no network of node {self._own.name} "
                "(of the same version of IP), which mode host-gw needs; use mode auto or vxlan on "
                "all nodes"
            )
        if device is None or self._address is None:
            return "NoOverlay", f"{networks} is not reached: this node has no VXLAN device"
        if _says(other, Mode.HOST_GW):
            return "NoOverlay", (
                f"{networks} is not reached: {said} is on no network of node {self._own.name}, and "
                "that node has no VXLAN (mode host-gw); use mode auto or vxlan on all nodes"
            )
        if there is not None and (there.vni, there.port) != (device.vni, device.port):
            return "OtherOverlay", (
                f"{networks} is not reached: VXLAN there has VNI {there.vni} and port {there.port},"
                f" here {device.vni} and {device.port}; set the same on all nodes"
            )
        return "NoAddress", (
            f"{networks} is not reached: VXLAN of this node is over IPv{self._address.version},"
            f" and that node has {said}"
        )


def _says(other: Member, mode: Mode) -> bool:
    return other.announced is not None and other.announced.mode is mode


@lru_cache(_REMEMBERED)
def _key(cidr: Network) -> RouteKey:
    return RouteKey(cidr.network_address.packed, cidr.prefixlen, METRIC[cidr.version])
