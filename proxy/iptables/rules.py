"""From portals to rules: pure functions, in the words of ``iptables-restore``.

What is other than in the peer: an endpoint is a DNAT rule in the chain of its Service rather than
a chain of its own (a tenth of the time to load), because that a pod reached itself is seen
afterwards, in ``KUBE-POSTROUTING``, by one rule for all: translated, and source equals destination.
Endpoints with session affinity have their chains as the peer's; so has every endpoint where the
kernel or iptables lacks the match ``bpf``.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ..backend import LocalTraffic, RuleOptions
from ..model.portal import Endpoint, Family, Missing, Portal
from . import names
from .dispatch import Entry, Space

_UNSAFE: Final = re.compile(r"[^\w./:-]", re.ASCII)
_MAX_COMMENT: Final = 250
"""xt_comment takes 255 bytes."""
_LOOPBACK: Final = ipaddress.ip_network("127.0.0.0/8")


@dataclass(frozen=True, slots=True)
class Host:
    """What this machine's kernel and iptables can do, and how it is set.

    Attributes:
        random_fully: ``MASQUERADE --random-fully`` is known (iptables 1.6.2).
        compares_addresses: the match ``bpf`` is there; otherwise endpoints get chains.
        tcp_liberal: ``net.netfilter.nf_conntrack_tcp_be_liberal``: invalid packets pass.
    """

    random_fully: bool = True
    compares_addresses: bool = True
    tcp_liberal: bool = False


class Way(enum.Enum):
    """A list of destinations: table and root chain; its value is the prefix of chains below."""

    SERVED = ("nat", names.SERVICES, names.CLUSTER)
    NODE_PORTS = ("nat", names.NODE_PORTS, names.EXTERNAL)
    REFUSED = ("filter", names.SERVICES, names.CLUSTER)
    REFUSED_OUTSIDE = ("filter", names.EXTERNAL_SERVICES, names.EXTERNAL)
    REFUSED_NODE_PORTS = ("filter", names.EXTERNAL_NODE_PORTS, names.EXTERNAL)
    RESTRICTED = ("filter", names.PROXY_FIREWALL, names.FIREWALL)
    HEALTH = ("filter", names.NODE_PORTS, names.LOCAL)

    def __init__(self, table: str, root: str, prefix: str) -> None:
        self.table = table
        self.root = root
        self.prefix = prefix

    def space(self, family: Family) -> Space:
        """How destinations of this list are told apart."""
        by_port = self in (Way.NODE_PORTS, Way.REFUSED_NODE_PORTS, Way.HEALTH)
        return Space(0, self.prefix) if by_port else Space.of(family, self.prefix)


@dataclass(frozen=True, slots=True)
class PortalRules:
    """The rules of one portal: chains of its own in ``nat``, and where it is listed."""

    chains: dict[str, list[str]]
    entries: tuple[tuple[Way, Entry], ...]


@dataclass(frozen=True, slots=True)
class Jump:
    """How traffic comes from a chain of the kernel into ours."""

    table: str
    source: str
    rule: str
    """Without ``-A SOURCE``."""

    @property
    def target(self) -> str:
        """The chain of ours."""
        return self.rule.rsplit(" ", 1)[-1]


def _jump(table: str, source: str, target: str, comment: str, match: str = "") -> Jump:
    said = f'-m comment --comment "{comment}" ' if comment else ""
    return Jump(table, source, f"{match}{said}-j {target}")


_NEW: Final = "-m conntrack --ctstate NEW "
_VISIBLE: Final = "kubernetes externally-visible service portals"
_PORTALS: Final = "kubernetes service portals"
_BALANCER: Final = "kubernetes load balancer firewall"

JUMPS: Final = (
    _jump("filter", "INPUT", names.EXTERNAL_SERVICES, _VISIBLE, _NEW),
    _jump("filter", "FORWARD", names.EXTERNAL_SERVICES, _VISIBLE, _NEW),
    _jump("filter", "INPUT", names.NODE_PORTS, "kubernetes health check service ports"),
    _jump("filter", "FORWARD", names.SERVICES, _PORTALS, _NEW),
    _jump("filter", "OUTPUT", names.SERVICES, _PORTALS, _NEW),
    _jump("filter", "FORWARD", names.FORWARD, "kubernetes forwarding rules"),
    _jump("filter", "INPUT", names.PROXY_FIREWALL, _BALANCER, _NEW),
    _jump("filter", "OUTPUT", names.PROXY_FIREWALL, _BALANCER, _NEW),
    _jump("filter", "FORWARD", names.PROXY_FIREWALL, _BALANCER, _NEW),
    _jump("nat", "OUTPUT", names.SERVICES, _PORTALS),
    _jump("nat", "PREROUTING", names.SERVICES, _PORTALS),
    _jump("nat", "POSTROUTING", names.POSTROUTING, "kubernetes postrouting rules"),
)
"""The peer's, to the letter: it and we find each other's; each is put first in its chain."""

LOCALHOST_JUMPS: Final = (
    _jump("filter", "INPUT", names.KUBELET_FIREWALL, ""),
    _jump("filter", "OUTPUT", names.KUBELET_FIREWALL, ""),
)


def jumps(options: RuleOptions) -> tuple[Jump, ...]:
    """All jumps into our chains."""
    return JUMPS + (LOCALHOST_JUMPS if answers_on_localhost(options) else ())


def answers_on_localhost(options: RuleOptions) -> bool:
    """Whether node ports answer on 127.0.0.0/8, so that ``route_localnet`` must be on."""
    if options.family is not Family.V4 or not options.localhost_node_ports:
        return False
    return not _networks(options) or any(map(_LOOPBACK.overlaps, _networks(options)))


def _networks(options: RuleOptions) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """The CIDRs of node ports, of this family; empty for all, as it is where none is given."""
    networks = [ipaddress.ip_network(each, strict=False) for each in options.node_port_addresses]
    ours = [each for each in networks if each.version == options.family]
    return [] if any(each.prefixlen == 0 for each in ours) else ours


def masquerade_mark(options: RuleOptions) -> str:
    """Return the bit that asks for masquerading, as the peer writes it."""
    return f"{1 << options.masquerade_bit:#08x}"


# What is the same whatever the portals are.


def fixed_chains(options: RuleOptions, host: Host) -> dict[str, dict[str, list[str]]]:
    """Return rules by table and chain that do not depend on portals."""
    canary = [_say("while this rule is there nobody has flushed the rules of kubeletpy proxy")]
    filter_chains = {names.FORWARD: _forward(options, host), names.CANARY: canary}
    if answers_on_localhost(options):
        filter_chains[names.KUBELET_FIREWALL] = [
            # CVE-2020-8558; the kubelet writes the same rule.
            f"{_say('block incoming localnet connections')} -d 127.0.0.0/8 ! -s 127.0.0.0/8"
            " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
        ]
    mark = masquerade_mark(options)
    return {
        "filter": filter_chains,
        "nat": {
            names.MARK_MASQUERADE: [f"-j MARK --or-mark {mark}"],
            names.POSTROUTING: _postrouting(options, host),
            names.CANARY: canary,
        },
        # No rule here: the peer's clean-up deletes this one without flushing it.
        "mangle": {names.CANARY: []},
    }


def _forward(options: RuleOptions, host: Host) -> list[str]:
    mark = masquerade_mark(options)
    rules = [
        f"{_say('kubernetes forwarding rules')} -m mark --mark {mark}/{mark} -j ACCEPT",
        f"{_say('kubernetes forwarding conntrack rule')}"
        " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ]
    if not host.tcp_liberal:
        # They would reach the client untranslated, which answers with a reset:
        # https://github.com/kubernetes/kubernetes/issues/74839
        rules.insert(0, "-m conntrack --ctstate INVALID -j DROP")
    return rules


def _postrouting(options: RuleOptions, host: Host) -> list[str]:
    mark = masquerade_mark(options)
    unmarked = f"-m mark ! --mark {mark}/{mark}"
    masquerade = "-j MASQUERADE" + (" --random-fully" if host.random_fully else "")
    rules = [
        f"{unmarked} -j RETURN",
        # Another pass through the stack must not masquerade again.
        f"-j MARK --xor-mark {mark}",
        f"{_say('kubernetes service traffic requiring SNAT')} {masquerade}",
    ]
    if host.compares_addresses:
        said = _say("service traffic from an endpoint to itself")
        match = f"-m conntrack --ctstate DNAT {hairpin_match(options.family)}"
        rules.insert(0, f"{said} {unmarked} {match} {masquerade}")
    return rules


def hairpin_match(family: Family) -> str:
    """Return the match ``source address == destination address``, for which there is no other.

    The program (classic BPF, linux/filter.h) reads from the start of the IP header.
    """
    source, destination, words = (12, 16, 1) if family is Family.V4 else (8, 24, 4)
    program: list[str] = []
    last = 4 * words + 1
    for word in range(words):
        to_last = last - (len(program) + 3) - 1
        program += [
            f"32 0 0 {source + 4 * word}",  # A = source
            "7 0 0 0",  # X = A
            f"32 0 0 {destination + 4 * word}",  # A = destination
            f"29 0 {to_last} 0",  # if A != X go to the last
        ]
    program += ["6 0 0 65535", "6 0 0 0"]  # match; no match
    return f'-m bpf --bytecode "{len(program)},{",".join(program)}"'


def node_port_rules(options: RuleOptions) -> list[str]:
    """Return the last rules of ``KUBE-SERVICES`` in ``nat``: what goes on to node ports."""
    said = _say("kubernetes service nodeports; NOTE: this must be the last rule in this chain")
    local = "-m addrtype --dst-type LOCAL"
    networks = _networks(options)
    rules: list[str] = []
    if answers_on_localhost(options):
        # The packet of a neighbour who routes 127.0.0.0/8 to us: KUBE-FIREWALL will drop it, but
        # only as long as it is not translated.
        rules.append("-d 127.0.0.0/8 -m addrtype ! --src-type LOCAL -j RETURN")
        refused = ""
    else:
        refused = "127.0.0.0/8" if options.family is Family.V4 else "::1/128"
    if not networks:
        but = f" ! -d {refused}" if refused else ""
        return [*rules, f"{said} {local}{but} -j {names.NODE_PORTS}"]
    if refused:
        rules.append(f"-d {refused} -j RETURN")
    return [*rules, *(f"{said} -d {each} {local} -j {names.NODE_PORTS}" for each in networks)]


def refused_node_port_rules(options: RuleOptions) -> list[str]:
    """Return the last rules of ``KUBE-EXTERNAL-SERVICES``, if node ports are refused at all."""
    local = f"-m addrtype --dst-type LOCAL -j {names.EXTERNAL_NODE_PORTS}"
    networks = _networks(options)
    return [f"-d {each} {local}" for each in networks] if networks else [local]


# One portal.


def portal_rules(portal: Portal, options: RuleOptions, host: Host) -> PortalRules:
    """Return the rules of a portal.

    Raises:
        OSError: an address is not of the family.
    """
    writer = _Writer(portal, options, host)
    chains = writer.chains()
    return PortalRules(chains, tuple(writer.entries(chains)))


class _Writer:
    """The rules of one portal while they are made."""

    def __init__(self, portal: Portal, options: RuleOptions, host: Host) -> None:
        self._portal = portal
        self._options = options
        self._host = host
        self._name = _UNSAFE.sub("_", str(portal.name))
        self._protocol = portal.protocol.lower
        digest = names.portal_digest(portal.name)
        self._cluster = names.CLUSTER + digest
        self._local = names.LOCAL + digest
        self._external = names.EXTERNAL + digest
        self._firewall = names.FIREWALL + digest

    def chains(self) -> dict[str, list[str]]:
        """Return the portal's own chains in ``nat``."""
        portal = self._portal
        chains: dict[str, list[str]] = {}
        used: set[Endpoint] = set()
        if portal.has_endpoints and portal.is_external:
            chains[self._external] = self._external_rules()
            if portal.load_balancer_ips and portal.restricted:
                chains[self._firewall] = self._firewall_rules()
        if portal.cluster_endpoints and (portal.is_external or not portal.internal_local):
            masquerade = [] if portal.internal_local else self._internal_masquerade()
            chains[self._cluster] = masquerade + self._choice(portal.cluster_endpoints)
            used.update(portal.cluster_endpoints)
        if portal.local_endpoints and (
            portal.internal_local or (portal.external_local and portal.is_external)
        ):
            masquerade = self._internal_masquerade() if portal.internal_local else []
            chains[self._local] = masquerade + self._choice(portal.local_endpoints)
            used.update(portal.local_endpoints)
        if self._has_endpoint_chains:
            for endpoint in sorted(used):
                chains[self._endpoint_chain(endpoint)] = self._endpoint_rules(endpoint)
        return chains

    def entries(self, chains: dict[str, list[str]]) -> Iterator[tuple[Way, Entry]]:
        """Yield the lists in which the portal stands, and its rule there."""
        yield from self._cluster_entries()
        yield from self._external_entries(chains)
        yield from self._node_port_entries()
        if self._portal.health_check_node_port:
            port = self._portal.health_check_node_port
            yield self._entry(Way.HEALTH, "", port, "health check node port", "ACCEPT", "tcp")

    # Chains.

    def _external_rules(self) -> list[str]:
        """What enters from outside, where the policy leaves room: to any endpoint or local ones."""
        portal = self._portal
        if not portal.external_local:
            rules = [
                f"{self._say('masquerade traffic for', 'external destinations')}"
                f" -j {names.MARK_MASQUERADE}"
            ]
            return rules + ([f"-j {self._cluster}"] if portal.cluster_endpoints else [])
        rules = []
        from_node = "-m addrtype --src-type LOCAL"
        if portal.cluster_endpoints:
            # Pods and the node itself are inside: the policy is for what comes from outside.
            if local := local_match(self._options):
                rules.append(
                    f"{self._say('pod traffic for', 'external destinations')}"
                    f" {local} -j {self._cluster}"
                )
            rules += [
                f"{self._say('masquerade LOCAL traffic for', 'external destinations')}"
                f" {from_node} -j {names.MARK_MASQUERADE}",
                f"{self._say('route LOCAL traffic for', 'external destinations')}"
                f" {from_node} -j {self._cluster}",
            ]
        if portal.local_endpoints:
            rules.append(f"-j {self._local}")
        return rules

    def _firewall_rules(self) -> list[str]:
        said = self._say("", "loadbalancer IP")
        portal = self._portal
        sources = list(portal.source_ranges)
        node = self._options.node_ip
        if node and any(_contains(each, node) for each in sources):
            # A balancer's address is often one of the node's too, and then its source.
            sources += portal.load_balancer_ips
        rules = [f"{said} -s {each} -j {self._external}" for each in sources]
        rest = self._say("other traffic to", f"will be dropped by {names.PROXY_FIREWALL}")
        return [*rules, rest]

    def _internal_masquerade(self) -> list[str]:
        """Mark what comes to the cluster IP from outside of the cluster, or all, as configured."""
        if self._options.masquerade_all:
            match = ""
        elif not (match := local_match(self._options, inverted=True)):
            return []
        # Others come into the same chain by the external one.
        destination = ""
        if self._portal.is_external:
            destination = f"{self._destination(self._portal.cluster_ip, self._portal.port)} "
        gap = f"{match} " if match else ""
        # A comment would be the half of this rule in the legacy back end.
        return [f"{destination}{gap}-j {names.MARK_MASQUERADE}"]

    @property
    def _has_endpoint_chains(self) -> bool:
        return bool(self._portal.affinity_seconds) or not self._host.compares_addresses

    def _endpoint_chain(self, endpoint: Endpoint) -> str:
        return names.endpoint_chain(self._portal.name, _socket(endpoint))

    def _choice(self, endpoints: Sequence[Endpoint]) -> list[str]:
        """Choose one of the endpoints evenly: the first of n with 1/n, the next with 1/(n-1)..."""
        rules = []
        if self._portal.affinity_seconds:
            for endpoint in endpoints:
                chain = self._endpoint_chain(endpoint)
                rules.append(
                    f"{self._say('', '-> ' + _socket(endpoint))} -m recent --name {chain} --rcheck"
                    f" --seconds {self._portal.affinity_seconds} --reap -j {chain}"
                )
        chained = self._has_endpoint_chains
        protocol = "" if chained else f"-p {self._protocol} "
        for left, endpoint in zip(range(len(endpoints), 0, -1), endpoints, strict=True):
            chance = f"-m statistic --mode random --probability {1 / left:.10f} "
            if chained:
                target = f"-j {self._endpoint_chain(endpoint)}"
            else:
                target = f"-j DNAT --to-destination {_socket(endpoint)}"
            rules.append(f"{protocol}{chance if left > 1 else ''}{target}")
        return rules

    def _endpoint_rules(self, endpoint: Endpoint) -> list[str]:
        said = self._say("", "")
        rules = [f"{said} -s {endpoint.ip} -j {names.MARK_MASQUERADE}"]
        remember = ""
        if self._portal.affinity_seconds:
            remember = f"-m recent --name {self._endpoint_chain(endpoint)} --set "
        target = f"-j DNAT --to-destination {_socket(endpoint)}"
        return [*rules, f"{said} {remember}-p {self._protocol} {target}"]

    # Lists.

    def _cluster_entries(self) -> Iterator[tuple[Way, Entry]]:
        portal = self._portal
        missing = portal.internal_missing
        if missing:
            target = _instead(missing)
            yield self._entry(Way.REFUSED, portal.cluster_ip, portal.port, missing.value, target)
        else:
            chain = self._local if portal.internal_local else self._cluster
            yield self._entry(Way.SERVED, portal.cluster_ip, portal.port, "cluster IP", chain)

    def _external_entries(self, chains: dict[str, list[str]]) -> Iterator[tuple[Way, Entry]]:
        portal = self._portal
        restricted = self._firewall in chains
        balanced = self._firewall if restricted else self._external
        missing = portal.external_missing
        for addresses, what, chain in (
            (portal.external_ips, "external IP", self._external),
            (portal.load_balancer_ips, "loadbalancer IP", balanced),
        ):
            for address in addresses:
                if portal.has_endpoints:
                    yield self._entry(Way.SERVED, address, portal.port, what, chain)
                if missing:
                    yield self._entry(
                        Way.REFUSED_OUTSIDE, address, portal.port, missing.value, _instead(missing)
                    )
        if restricted:
            what = f"traffic not accepted by {self._firewall}"
            for address in portal.load_balancer_ips:
                yield self._entry(Way.RESTRICTED, address, portal.port, what, "DROP")

    def _node_port_entries(self) -> Iterator[tuple[Way, Entry]]:
        portal = self._portal
        missing = portal.external_missing
        if not portal.node_port:
            return
        if portal.has_endpoints:
            yield self._entry(Way.NODE_PORTS, "", portal.node_port, "", self._external)
        if missing:
            yield self._entry(
                Way.REFUSED_NODE_PORTS, "", portal.node_port, missing.value, _instead(missing)
            )

    def _entry(
        self, way: Way, address: str, port: int, what: str, target: str, protocol: str = ""
    ) -> tuple[Way, Entry]:
        space = way.space(self._portal.family)
        spoken = self._portal.protocol if not protocol else type(self._portal.protocol)("TCP")
        key = space.key(address, spoken, port)
        match = self._destination(address, port, protocol)
        label = f"{self._name} {self._protocol}"
        return way, Entry(key, label, f"{self._say('', what)} {match} -j {target}")

    def _destination(self, address: str, port: int, protocol: str = "") -> str:
        spoken = protocol or self._protocol
        where = f"-d {address} " if address else ""
        return f"{where}-p {spoken} -m {spoken} --dport {port}"

    def _say(self, before: str, after: str) -> str:
        return _say(" ".join(part for part in (before, self._name, after) if part))


def local_match(options: RuleOptions, *, inverted: bool = False) -> str:
    """Return the match for traffic of pods of this node, or for all other; "" if not told."""
    local = options.local
    negation = "! " if inverted else ""
    match local.kind:
        case LocalTraffic.NONE:
            return ""
        case LocalTraffic.CLUSTER_CIDR | LocalTraffic.NODE_CIDR:
            return f"{negation}-s {local.argument}"
        case LocalTraffic.BRIDGE_INTERFACE:
            return f"{negation}-i {local.argument}"
        case LocalTraffic.INTERFACE_NAME_PREFIX:
            return f"{negation}-i {local.argument}+"


def _instead(missing: Missing) -> str:
    return "REJECT" if missing is Missing.NOTHING else "DROP"


def _say(comment: str) -> str:
    return f'-m comment --comment "{comment[:_MAX_COMMENT]}"'


def _socket(endpoint: Endpoint) -> str:
    ip = f"[{endpoint.ip}]" if ":" in endpoint.ip else endpoint.ip
    return f"{ip}:{endpoint.port}"


def _contains(network: str, address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
