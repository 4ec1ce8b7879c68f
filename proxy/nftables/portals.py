"""What one portal is in the table: elements of the shared maps, and rarely chains and sets."""

from __future__ import annotations

import base64
import enum
import hashlib
import ipaddress
import struct
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field

from ..backend import RuleOptions
from ..model.portal import Endpoint, Missing, Portal, PortalName, Protocol
from .fields import PROTOCOLS, native, pack_address
from .layout import (
    CLUSTER_IPS,
    FIREWALL_IPS,
    HAIRPINS,
    INDEX_KEY,
    MISSING_NODE_PORTS,
    MISSING_SERVICES,
    REJECT_CHAIN,
    SERVICE_IPS,
    SERVICE_NODE_PORTS,
    SOURCE_KEY,
    Shape,
    Way,
    endpoint_set,
    external_local_rules,
    firewall_rules,
    masquerade_mark,
    sticky_endpoint_rules,
    sticky_rules,
)
from .ruleset import Chain, Element, Rule, SetSpec, shortened
from .statements import Verdict

_NAME_SIZE = 240
"""Characters of a chain's name; the kernel takes 255."""

SHARED_BY_PORTALS = frozenset((CLUSTER_IPS.name, HAIRPINS.name))
"""Sets whose elements several portals may ask for."""

_PROTOCOLS = {each: bytes((PROTOCOLS[each.lower], 0, 0, 0)) for each in Protocol}
"""As they are in keys."""

_VERDICTS = {
    Missing.NOTHING: ("goto", REJECT_CHAIN),
    Missing.LOCAL: ("drop", ""),
}


class Entry(enum.Enum):
    """Which kind of address a client uses."""

    CLUSTER_IP = enum.auto()
    EXTERNAL_IP = enum.auto()
    LOAD_BALANCER_IP = enum.auto()
    NODE_PORT = enum.auto()


@dataclass(frozen=True, slots=True)
class Frontend:
    """A way into a portal; ``key`` is what is looked up in the map of ways in."""

    key: bytes
    entry: Entry

    @property
    def way(self) -> Way:
        """Whether it is an address or a node port."""
        return Way.NODE_PORT if self.entry is Entry.NODE_PORT else Way.ADDRESS


@dataclass(slots=True)
class Parts:
    """What a portal needs.

    Attributes:
        elements: of shared maps and sets, by their names.
        shapes: whose chains it goes to.
        chains: of its own, by name.
        sets: of its own, by name, with what is in them from the start.
    """

    elements: dict[str, list[Element]] = field(default_factory=dict)
    shapes: set[Shape] = field(default_factory=set)
    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, tuple[SetSpec, tuple[Element, ...]]] = field(default_factory=dict)

    def add(self, name: str, element: Element) -> None:
        """Put an element into a shared set."""
        self.elements.setdefault(name, []).append(element)

    def add_chain(self, name: str, rules: Iterator[Rule] | tuple[Rule, ...]) -> str:
        """Make a chain of its own; return its name."""
        self.chains[name] = Chain(name, tuple(rules))
        return name

    def use(self, shape: Shape) -> str:
        """Use a shape; return the name of its chain."""
        if shape not in self.shapes:
            self.shapes.add(shape)
            self.shapes.update(shape.needs)
        return shape.name


def frontends(portal: Portal) -> list[Frontend]:
    """Return the ways into a portal, each once.

    Raises:
        OSError: an address is none of the family.
    """
    protocol = _PROTOCOLS[portal.protocol]
    rest = protocol + struct.pack(">Hxx", portal.port)
    found: dict[bytes, Frontend] = {}
    # Where an address serves in several ways, source ranges of a load balancer hold.
    for entry, addresses in (
        (Entry.LOAD_BALANCER_IP, portal.load_balancer_ips),
        (Entry.EXTERNAL_IP, portal.external_ips),
        (Entry.CLUSTER_IP, (portal.cluster_ip,)),
    ):
        for address in addresses:
            key = pack_address(address, portal.family) + rest
            found.setdefault(key, Frontend(key, entry))
    if portal.node_port:
        key = protocol + struct.pack(">Hxx", portal.node_port)
        found[key] = Frontend(key, Entry.NODE_PORT)
    return list(found.values())


def parts_of(portal: Portal, options: RuleOptions, lost: Set[bytes] = frozenset()) -> Parts:
    """Return what a portal needs; ``lost`` are keys of ways in that belong to another portal.

    Raises:
        OSError: an address is none of the family.
    """
    return _Builder(portal, options).build(lost)


class _Builder:
    """Makes the parts of one portal."""

    def __init__(self, portal: Portal, options: RuleOptions) -> None:
        self.portal = portal
        self.options = options
        self.parts = Parts()
        self.protocol = _PROTOCOLS[portal.protocol]
        self.comment = shortened(str(portal.name))
        self._cluster = _Destination(self, portal.cluster_endpoints, local=False)
        self._local = _Destination(self, portal.local_endpoints, local=True)

    def build(self, lost: Set[bytes]) -> Parts:
        portal = self.portal
        address = pack_address(portal.cluster_ip, portal.family)
        self.parts.add(CLUSTER_IPS.name, Element(address))
        for each in portal.all_endpoints:
            if each.is_local:
                packed = pack_address(each.ip, portal.family)
                key = packed + packed + self.protocol + struct.pack(">Hxx", each.port)
                self.parts.add(HAIRPINS.name, Element(key))
        for frontend in frontends(portal):
            if frontend.key in lost:
                continue
            if frontend.entry is Entry.CLUSTER_IP:
                self._internal(frontend)
            else:
                self._external(frontend)
                if frontend.entry is Entry.LOAD_BALANCER_IP and portal.restricted:
                    self._restrict(frontend)
        return self.parts

    def _internal(self, frontend: Frontend) -> None:
        portal = self.portal
        destination = self._local if portal.internal_local else self._cluster
        if missing := portal.internal_missing:
            self._refuse(frontend, missing)
            return
        # A cluster IP has one destination alone, whose endpoints are found as those of "Cluster".
        self._enter(frontend, destination.chain(frontend, as_cluster=True))

    def _external(self, frontend: Frontend) -> None:
        portal = self.portal
        if missing := portal.external_missing:
            self._refuse(frontend, missing)
        if not (portal.cluster_endpoints or portal.external_endpoints):
            return
        if portal.affinity_seconds:
            self._enter(frontend, self._external_chain(frontend))
            return
        cluster = len(portal.cluster_endpoints)
        self._cluster.fill(frontend)
        if portal.external_local:
            self._local.fill(frontend)
            local = len(portal.local_endpoints)
            shape = Shape(frontend.way, "external-local", cluster, local)
        else:
            shape = Shape(frontend.way, "external", cluster)
        self._enter(frontend, self.parts.use(shape))

    def _external_chain(self, frontend: Frontend) -> str:
        """Return the chain for outside traffic to a service with affinity."""
        name = chain_name("external", self.portal.name)
        if name not in self.parts.chains:
            cluster = self._cluster.chain(frontend)
            if self.portal.external_local:
                local = self._local.chain(frontend)
                self.parts.add_chain(name, external_local_rules(self.options, cluster, local))
            else:
                mark = Rule((masquerade_mark(self.options),))
                self.parts.add_chain(name, (mark, Rule((Verdict("goto", cluster),))))
        return name

    def _enter(self, frontend: Frontend, chain: str) -> None:
        ways = SERVICE_NODE_PORTS if frontend.way is Way.NODE_PORT else SERVICE_IPS
        element = Element(frontend.key, ("goto", chain), comment=self.comment)
        self.parts.add(ways.name, element)

    def _refuse(self, frontend: Frontend, missing: Missing) -> None:
        ways = MISSING_NODE_PORTS if frontend.way is Way.NODE_PORT else MISSING_SERVICES
        element = Element(frontend.key, _VERDICTS[missing], comment=self.comment)
        self.parts.add(ways.name, element)

    def _restrict(self, frontend: Frontend) -> None:
        """Have source ranges of a load balancer looked at before anything else."""
        ranges = _allowed(self.portal, self.options)
        if ranges is None:
            return
        name = chain_name("firewall", self.portal.name)
        if name not in self.parts.chains:
            sources = ""
            if ranges:
                sources = chain_name("sources", self.portal.name, " ".join(ranges))
                spec = SetSpec(sources, SOURCE_KEY, interval=True)
                self.parts.sets[sources] = (spec, tuple(bounds(ranges)))
            self.parts.add_chain(name, firewall_rules(self.portal.family, sources))
        element = Element(frontend.key, ("goto", name), comment=self.comment)
        self.parts.add(FIREWALL_IPS.name, element)


class _Destination:
    """The endpoints of one policy."""

    def __init__(self, builder: _Builder, endpoints: tuple[Endpoint, ...], *, local: bool) -> None:
        self._builder = builder
        self._endpoints = endpoints
        self._is_local = local
        self._values: list[bytes] = []

    def chain(self, frontend: Frontend, *, as_cluster: bool = False) -> str:
        """Return the chain that takes to an endpoint; "" if there is none."""
        if not self._endpoints:
            return ""
        if self._builder.portal.affinity_seconds:
            return self._sticky_chain()
        self.fill(frontend, as_cluster=as_cluster)
        local = self._is_local and not as_cluster
        treatment = "local-endpoints" if local else "endpoints"
        return self._builder.parts.use(Shape(frontend.way, treatment, len(self._endpoints)))

    def fill(self, frontend: Frontend, *, as_cluster: bool = False) -> None:
        """Put the endpoints of a way in into the map of endpoints."""
        if not self._endpoints:
            return
        if not self._values:
            family = self._builder.portal.family
            self._values = [
                pack_address(each.ip, family) + struct.pack(">Hxx", each.port)
                for each in self._endpoints
            ]
        local = self._is_local and not as_cluster
        elements = self._builder.parts.elements
        into = elements.setdefault(endpoint_set(frontend.way, local=local).name, [])
        key = frontend.key
        for index, value in enumerate(self._values):
            into.append(Element(key + native(index), None, value))

    def _sticky_chain(self) -> str:
        """Return the chain of a service with affinity; make it, and one for each endpoint."""
        parts, portal = self._builder.parts, self._builder.portal
        kind = "local" if self._is_local else "service"
        name = chain_name(kind, portal.name)
        if name in parts.chains:
            return name
        reached = []
        for each in self._endpoints:
            suffix = f"__{each.ip}/{each.port}".replace(":", ".")
            chain = chain_name("endpoint", portal.name, suffix=suffix)
            # A set's time-out cannot be changed, so another time-out is another set.
            clients = chain_name(
                "affinity", portal.name, str(portal.affinity_seconds), suffix=suffix
            )
            parts.sets[clients] = (
                SetSpec(clients, SOURCE_KEY, timeout=portal.affinity_seconds),
                (),
            )
            parts.add_chain(
                chain, sticky_endpoint_rules(clients, portal.protocol.lower, each.ip, each.port)
            )
            reached.append((clients, chain))
        choice = chain_name(f"pick-{kind}", portal.name)
        spec = SetSpec(choice, INDEX_KEY, is_verdict_map=True)
        parts.sets[choice] = (
            spec,
            tuple(
                Element(native(index), ("goto", chain)) for index, (_, chain) in enumerate(reached)
            ),
        )
        return parts.add_chain(name, sticky_rules(reached, choice))


def chain_name(kind: str, name: PortalName, more: str = "", suffix: str = "") -> str:
    """Return a name for a chain or set of one portal: readable, and unique by a hash."""
    whole = "/".join((name.namespace, name.service, name.port, name.protocol, more, suffix))
    unique = base64.b32encode(hashlib.sha256(whole.encode()).digest()).decode()[:8]
    path = f"{name.namespace}/{name.service}/{name.protocol.lower()}/{name.port}"
    return f"{kind}-{unique}-{path}{suffix}"[:_NAME_SIZE]


def bounds(cidrs: Iterable[str]) -> list[Element]:
    """Return begin and end of each interval of addresses, for a set of intervals of one family."""
    joined: list[tuple[int, int]] = []
    width = 4
    for cidr in cidrs:
        network = ipaddress.ip_network(cidr, strict=False)
        width = network.max_prefixlen // 8
        joined.append((int(network.network_address), int(network.broadcast_address)))
    joined.sort()
    elements: list[Element] = []
    place = 0
    while place < len(joined):
        first, last = joined[place]
        place += 1
        while place < len(joined) and joined[place][0] <= last + 1:
            last = max(last, joined[place][1])
            place += 1
        elements.append(Element(first.to_bytes(width, "big")))
        if last + 1 < 1 << (8 * width):
            elements.append(Element((last + 1).to_bytes(width, "big"), interval_end=True))
    return elements


def _allowed(portal: Portal, options: RuleOptions) -> tuple[str, ...] | None:
    """Return who may come in by load-balancer addresses; None for everybody.

    A node that may come in may do so by the load balancer's address too: where that is an address
    of the node, its own connections have it as their source.
    """
    networks = [ipaddress.ip_network(each, strict=False) for each in portal.source_ranges]
    if any(not network.prefixlen for network in networks):
        return None
    node = ipaddress.ip_address(options.node_ip) if options.node_ip else None
    if node is not None and any(node in network for network in networks):
        return (*portal.source_ranges, *portal.load_balancer_ips)
    return portal.source_ranges
