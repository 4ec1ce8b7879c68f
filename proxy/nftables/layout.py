"""The table that all portals share: its sets, base chains and rules, which depend on options alone.

A packet's way, by the chains' names; those that hook into the kernel come first::

    filter-prerouting-pre-dnat -> firewall-check     sources that a load balancer refuses
    nat-prerouting, nat-output -> services           @service-ips, @service-nodeports: goto
                                  endpoints-5        dnat to one of 5, by @service-endpoints
    filter-input/forward/output -> ...-check         nobody there: reject or drop
    nat-postrouting            -> masquerading       marked packets, hairpins

Few services have chains of their own. ``service-ips`` says how a way in is treated and how many
endpoints it has ("goto external-3"), and a random one of those is found by the way in and an index
in ``service-endpoints``. So a service costs elements of maps and nothing else, and there are only
as many chains as there are different numbers of endpoints.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from ..backend import LocalTraffic, RuleOptions
from ..model.portal import Family
from .fields import PREFIX, Field, Key
from .ruleset import Chain, Hook, Rule, SetSpec
from .statements import (
    FromInterface,
    InNetwork,
    InSet,
    IsLocal,
    Masquerade,
    NewFlow,
    Reject,
    Remember,
    SetMark,
    Statement,
    TakeMark,
    TranslateByMap,
    Translated,
    TranslateTo,
    Verdict,
    VerdictMap,
)

TABLES = ("kubeletpy-proxy-a", "kubeletpy-proxy-b")
"""One is in force; a full sync fills the other and swaps them in one transaction."""

PEER_TABLE = "kube-proxy"
"""The Go kube-proxy's, which goes when we take over."""

TABLE_COMMENT = "rules of kubeletpy proxy"

SERVICE_KEY = Key((Field.DESTINATION, Field.PROTOCOL, Field.PORT))
NODE_PORT_KEY = Key((Field.PROTOCOL, Field.PORT))
ENDPOINT_KEY = Key((*SERVICE_KEY.fields, Field.INDEX))
NODE_PORT_ENDPOINT_KEY = Key((*NODE_PORT_KEY.fields, Field.INDEX))
ENDPOINT_VALUE = (Field.DESTINATION, Field.PORT)
ADDRESS_KEY = Key((Field.DESTINATION,))
SOURCE_KEY = Key((Field.SOURCE,))
INDEX_KEY = Key((Field.INDEX,))
HAIRPIN_KEY = Key((Field.SOURCE, Field.DESTINATION, Field.PROTOCOL, Field.PORT))

CLUSTER_IPS = SetSpec("cluster-ips", ADDRESS_KEY, comment="addresses of services")
NODE_PORT_IPS = SetSpec(
    "nodeport-ips", ADDRESS_KEY, interval=True, comment="where node ports answer"
)
HAIRPINS = SetSpec("hairpin-connections", HAIRPIN_KEY, comment="endpoints that reach themselves")
SERVICE_IPS = SetSpec(
    "service-ips", SERVICE_KEY, is_verdict_map=True, comment="ways into services by address"
)
SERVICE_NODE_PORTS = SetSpec(
    "service-nodeports", NODE_PORT_KEY, is_verdict_map=True, comment="ways in by node port"
)
SERVICE_ENDPOINTS = SetSpec(
    "service-endpoints", ENDPOINT_KEY, ENDPOINT_VALUE, comment="endpoints of each address"
)
SERVICE_LOCAL_ENDPOINTS = SetSpec(
    "service-local-endpoints", ENDPOINT_KEY, ENDPOINT_VALUE, comment="those on this node"
)
NODE_PORT_ENDPOINTS = SetSpec(
    "nodeport-endpoints", NODE_PORT_ENDPOINT_KEY, ENDPOINT_VALUE, comment="of each node port"
)
NODE_PORT_LOCAL_ENDPOINTS = SetSpec(
    "nodeport-local-endpoints", NODE_PORT_ENDPOINT_KEY, ENDPOINT_VALUE, comment="on this node"
)
MISSING_SERVICES = SetSpec(
    "no-endpoint-services", SERVICE_KEY, is_verdict_map=True, comment="addresses without endpoints"
)
MISSING_NODE_PORTS = SetSpec(
    "no-endpoint-nodeports",
    NODE_PORT_KEY,
    is_verdict_map=True,
    comment="node ports without endpoints",
)
FIREWALL_IPS = SetSpec(
    "firewall-ips", SERVICE_KEY, is_verdict_map=True, comment="addresses with source ranges"
)

SHARED_SETS = {
    each.name: each
    for each in (
        CLUSTER_IPS,
        NODE_PORT_IPS,
        HAIRPINS,
        SERVICE_IPS,
        SERVICE_NODE_PORTS,
        SERVICE_ENDPOINTS,
        SERVICE_LOCAL_ENDPOINTS,
        NODE_PORT_ENDPOINTS,
        NODE_PORT_LOCAL_ENDPOINTS,
        MISSING_SERVICES,
        MISSING_NODE_PORTS,
        FIREWALL_IPS,
    )
}

REJECT_CHAIN = "reject-chain"

_DNAT_PRIORITY = -100
_SNAT_PRIORITY = 100

FIRST_HOOK = "nat-prerouting"
"""A base chain by which a table in force is known from one that is being filled."""

_HOOKS = {
    "filter-prerouting-pre-dnat": Hook("filter", "prerouting", _DNAT_PRIORITY - 10),
    "filter-output-pre-dnat": Hook("filter", "output", _DNAT_PRIORITY - 10),
    "filter-input": Hook("filter", "input", 0),
    "filter-forward": Hook("filter", "forward", 0),
    "filter-output": Hook("filter", "output", 0),
    FIRST_HOOK: Hook("nat", "prerouting", _DNAT_PRIORITY),
    "nat-output": Hook("nat", "output", _DNAT_PRIORITY),
    "nat-postrouting": Hook("nat", "postrouting", _SNAT_PRIORITY),
}

# Reject is for input, forward and output alone in kernels before 5.9, so the ...-check chains of
# services without endpoints are called from there.
_CALLS: dict[str, tuple[tuple[str, bool], ...]] = {
    "filter-prerouting-pre-dnat": (("firewall-check", True),),
    "filter-output-pre-dnat": (("firewall-check", True),),
    "filter-input": (("nodeport-endpoints-check", True), ("service-endpoints-check", True)),
    "filter-forward": (("service-endpoints-check", True), ("cluster-ips-check", True)),
    "filter-output": (("service-endpoints-check", True), ("cluster-ips-check", True)),
    FIRST_HOOK: (("services", False),),
    "nat-output": (("services", False),),
    "nat-postrouting": (("masquerading", False),),
}

_NOT_LOOPBACK = {Family.V4: "127.0.0.0/8", Family.V6: "::1/128"}


def base_chains() -> Iterator[Chain]:
    """Yield the chains that hook into the kernel."""
    for name, hook in _HOOKS.items():
        rules = tuple(
            Rule((NewFlow(), Verdict("jump", target)) if new else (Verdict("jump", target),))
            for target, new in _CALLS[name]
        )
        yield Chain(name, rules, hook)


def common_chains(options: RuleOptions) -> Iterator[Chain]:
    """Yield the chains that base chains call."""
    yield Chain("firewall-check", (Rule((VerdictMap(SERVICE_KEY, FIREWALL_IPS.name),)),))
    yield Chain(
        "service-endpoints-check", (Rule((VerdictMap(SERVICE_KEY, MISSING_SERVICES.name),)),)
    )
    to_node = _to_node(options)
    yield Chain(
        "nodeport-endpoints-check",
        (Rule((*to_node[1:], VerdictMap(NODE_PORT_KEY, MISSING_NODE_PORTS.name))),),
    )
    yield Chain(REJECT_CHAIN, (Rule((Reject(),)),), comment="for ways in without any endpoint")
    yield Chain("cluster-ips-check", tuple(_unserved(options)))
    yield Chain("masquerading", tuple(_masquerading(options)))
    yield Chain("services", tuple(_services(options)))


def local_match(options: RuleOptions, negated: bool = False) -> tuple[Statement, ...]:
    """Return the statement for traffic of this node's pods (or not); nothing if nobody can tell."""
    kind, argument = options.local.kind, options.local.argument
    if kind in (LocalTraffic.CLUSTER_CIDR, LocalTraffic.NODE_CIDR):
        return (InNetwork(Field.SOURCE, argument, negated),)
    if kind is LocalTraffic.BRIDGE_INTERFACE:
        return (FromInterface(argument, negated=negated),)
    if kind is LocalTraffic.INTERFACE_NAME_PREFIX:
        return (FromInterface(argument, is_prefix=True, negated=negated),)
    return ()


def masquerade_mark(options: RuleOptions) -> SetMark:
    """Return the statement that has a packet's source translated when it leaves."""
    return SetMark(1 << options.masquerade_bit)


def _to_node(options: RuleOptions) -> tuple[Statement, ...]:
    """Return what a packet to a node port must be; the first is sure for one on its way in."""
    loopback = InNetwork(Field.DESTINATION, _NOT_LOOPBACK[options.family], negated=True)
    if options.node_port_addresses:
        chosen = InSet(ADDRESS_KEY, NODE_PORT_IPS.name)
        return IsLocal(Field.DESTINATION), loopback, chosen
    return IsLocal(Field.DESTINATION), loopback


def _unserved(options: RuleOptions) -> Iterator[Rule]:
    known = InSet(ADDRESS_KEY, CLUSTER_IPS.name)
    yield Rule((known, Reject()), "no service at this port of its address")
    for cidr in options.service_cidrs:
        unused = InNetwork(Field.DESTINATION, cidr)
        yield Rule((unused, Verdict("drop")), "no service at this address")


def _masquerading(options: RuleOptions) -> Iterator[Rule]:
    yield Rule((TakeMark(1 << options.masquerade_bit), Masquerade()))
    yield Rule((Translated(), InSet(HAIRPIN_KEY, HAIRPINS.name), Masquerade()))


def _services(options: RuleOptions) -> Iterator[Rule]:
    to_service = InSet(ADDRESS_KEY, CLUSTER_IPS.name)
    if options.masquerade_all:
        yield Rule((to_service, masquerade_mark(options)), "masquerade all")
    elif foreign := local_match(options, negated=True):
        mark = masquerade_mark(options)
        yield Rule((to_service, *foreign, mark), "masquerade what comes from outside")
    yield Rule((VerdictMap(SERVICE_KEY, SERVICE_IPS.name),))
    yield Rule((*_to_node(options), VerdictMap(NODE_PORT_KEY, SERVICE_NODE_PORTS.name)))


class Way(enum.Enum):
    """How a portal is entered: by an address and a port of it, or by a node port."""

    ADDRESS = ""
    NODE_PORT = "nodeport-"


@dataclass(frozen=True, slots=True)
class Shape:
    """What portals without chains of their own share: a treatment and numbers of endpoints.

    Attributes:
        treatment: "endpoints": to any of ``count``; "local-endpoints": to any of ``count`` of this
            node; "external": masqueraded, then as endpoints; "external-local": to one of
            ``local`` of this node, except what comes from this node itself.
    """

    way: Way
    treatment: str
    count: int
    local: int = 0

    @property
    def name(self) -> str:
        """The chain's name."""
        local = f"-{self.local}" if self.treatment == "external-local" else ""
        return f"{self.way.value}{self.treatment}-{self.count}{local}"

    @property
    def needs(self) -> tuple[Shape, ...]:
        """The shapes whose chains this one goes to."""
        if self.treatment == "external":
            return (Shape(self.way, "endpoints", self.count),)
        if self.treatment == "external-local":
            cluster = Shape(self.way, "endpoints", self.count)
            local = Shape(self.way, "local-endpoints", self.local)
            return tuple(each for each in (cluster, local) if each.count)
        return ()

    def chain(self, options: RuleOptions) -> Chain:
        """Return the chain."""
        if self.treatment == "external":
            target = Verdict("goto", self.needs[0].name)
            return Chain(self.name, (Rule((masquerade_mark(options),)), Rule((target,))))
        if self.treatment == "external-local":
            cluster = Shape(self.way, "endpoints", self.count).name if self.count else ""
            local = Shape(self.way, "local-endpoints", self.local).name if self.local else ""
            return Chain(self.name, tuple(external_local_rules(options, cluster, local)))
        by_node_port = self.way is Way.NODE_PORT
        key = NODE_PORT_ENDPOINT_KEY if by_node_port else ENDPOINT_KEY
        endpoints = endpoint_set(self.way, local=self.treatment == "local-endpoints")
        return Chain(self.name, (Rule((TranslateByMap(key, endpoints.name, self.count),)),))


def endpoint_set(way: Way, *, local: bool) -> SetSpec:
    """Return the map with the endpoints of a way in."""
    if way is Way.NODE_PORT:
        return NODE_PORT_LOCAL_ENDPOINTS if local else NODE_PORT_ENDPOINTS
    return SERVICE_LOCAL_ENDPOINTS if local else SERVICE_ENDPOINTS


def external_local_rules(options: RuleOptions, cluster: str, local: str) -> Iterator[Rule]:
    """Yield rules for external traffic with policy Local; "" for a chain that is not there.

    What pods of this node or the node itself send to an external address goes to any endpoint, as
    if it had left the cluster and come in again. All else keeps its source address.
    """
    if cluster:
        if pods := local_match(options):
            yield Rule((*pods, Verdict("goto", cluster)), "short-circuit pod traffic")
        yield Rule((IsLocal(Field.SOURCE), masquerade_mark(options)), "masquerade local traffic")
        yield Rule((IsLocal(Field.SOURCE), Verdict("goto", cluster)), "short-circuit local traffic")
    if local:
        yield Rule((Verdict("goto", local),))


def sticky_rules(endpoints: list[tuple[str, str]], map_name: str) -> Iterator[Rule]:
    """Yield rules of a service with affinity: where a client was before, or a random endpoint.

    Args:
        endpoints: of each, the set of its clients and its chain.
        map_name: which has the chain for an index.
    """
    for clients, chain in endpoints:
        yield Rule((InSet(SOURCE_KEY, clients), Verdict("goto", chain)))
    yield Rule((VerdictMap(INDEX_KEY, map_name, len(endpoints)),))


def sticky_endpoint_rules(clients: str, protocol: str, ip: str, port: int) -> tuple[Rule, ...]:
    """Return the rules of an endpoint with affinity: remember the client, then go there."""
    return Rule((Remember(clients),)), Rule((TranslateTo(protocol, ip, port),))


def firewall_rules(family: Family, sources: str) -> tuple[Rule, ...]:
    """Return the rules of a load balancer with source ranges; "" for none that may come in."""
    assert family in PREFIX
    if not sources:
        return (Rule((Verdict("drop"),)),)
    return (Rule((InSet(SOURCE_KEY, sources, negated=True), Verdict("drop"))),)
