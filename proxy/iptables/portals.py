"""From a portal to its rules: pure functions, in the words of ``iptables-save`` (see `rules`).

What is other than in the peer: an endpoint is a DNAT rule in the chain of its Service rather than
a chain of its own (a tenth of the time to load), because that a pod reached itself is seen
afterwards, in ``KUBE-POSTROUTING``, by one rule for all: translated, and source equals destination.
Endpoints with session affinity have their chains as the peer's; so has every endpoint where the
kernel or iptables lacks the match ``bpf``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from ..backend import LocalTraffic, RuleOptions
from ..model.portal import Endpoint, Family, Missing, Portal, Protocol
from . import names
from .choice import choice
from .dispatch import Entry, Space, Way
from .rules import Host, comment

_UNSAFE: Final = re.compile(r"[^\w./:-]", re.ASCII)
"""What a name may not bring into a text for ``iptables-restore``."""
_WHOLE_V6: Final = ":".join(["ffff"] * 8)
_HTTP: Final = Protocol("TCP")


@dataclass(frozen=True, slots=True)
class PortalRules:
    """The rules of one portal: chains of its own in ``nat``, and where it is listed."""

    chains: dict[str, list[str]]
    entries: tuple[tuple[Way, Entry], ...]


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
            chains |= self._choice(self._cluster, masquerade, portal.cluster_endpoints)
            used.update(portal.cluster_endpoints)
        if portal.local_endpoints and (
            portal.internal_local or (portal.external_local and portal.is_external)
        ):
            masquerade = self._internal_masquerade() if portal.internal_local else []
            chains |= self._choice(self._local, masquerade, portal.local_endpoints)
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
            yield self._entry(Way.HEALTH, "", port, "health check node port", "ACCEPT", _HTTP)

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
                said = self._say("pod traffic for", "external destinations")
                rules.append(f"{local} {said} -j {self._cluster}")
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
        rules = [f"-s {each} {said} -j {self._external}" for each in map(_network, sources)]
        rest = self._say("other traffic to", f"will be dropped by {names.PROXY_FIREWALL}")
        return [*rules, rest]

    def _internal_masquerade(self) -> list[str]:
        """Mark what comes to the cluster IP from outside of the cluster, or all, as configured."""
        if self._options.masquerade_all:
            match = ""
        elif not (match := local_match(self._options, inverted=True)):
            return []
        rule = f"-j {names.MARK_MASQUERADE}"
        if self._portal.is_external:
            # Others come into the same chain by the external one.
            port = f"-m {self._protocol} --dport {self._portal.port}"
            where = f"-d {_network(self._portal.cluster_ip)} -p {self._protocol} {port}"
            if "-i " in match:
                where = where.replace(" -p ", f" {match} -p ")
                match = ""
            rule = f"{where} {rule}"
        # A comment would be the half of this rule in the legacy back end.
        return [f"{match} {rule}" if match else rule]

    @property
    def _has_endpoint_chains(self) -> bool:
        return bool(self._portal.affinity_seconds) or not self._host.compares_addresses

    def _endpoint_chain(self, endpoint: Endpoint) -> str:
        return names.endpoint_chain(self._portal.name, _socket(endpoint))

    def _choice(
        self, chain: str, before: list[str], endpoints: Sequence[Endpoint]
    ) -> dict[str, list[str]]:
        """Return the chain that takes one of the endpoints, and those below it."""
        rules = list(before)
        if self._portal.affinity_seconds:
            for endpoint in endpoints:
                own = self._endpoint_chain(endpoint)
                rules.append(
                    f"{self._say('', '-> ' + _socket(endpoint))} -m recent --rcheck"
                    f" --seconds {self._portal.affinity_seconds} --reap {self._list(own)} -j {own}"
                )
        if self._has_endpoint_chains:
            targets = [("", f"-j {self._endpoint_chain(endpoint)}") for endpoint in endpoints]
        else:
            match = f"-p {self._protocol}"
            to = "-j DNAT --to-destination"
            targets = [(match, f"{to} {_socket(endpoint)}") for endpoint in endpoints]
        chains = choice(chain, targets)
        chains[chain] = rules + chains[chain]
        return chains

    def _endpoint_rules(self, endpoint: Endpoint) -> list[str]:
        said = self._say("", "")
        rules = [f"-s {_network(endpoint.ip)} {said} -j {names.MARK_MASQUERADE}"]
        remember = ""
        if self._portal.affinity_seconds:
            remember = f"-m recent --set {self._list(self._endpoint_chain(endpoint))} "
        target = f"-j DNAT --to-destination {_socket(endpoint)}"
        return [*rules, f"-p {self._protocol} {said} {remember}{target}"]

    def _list(self, chain: str) -> str:
        """The list of clients of an endpoint."""
        whole = "255.255.255.255" if self._portal.family is Family.V4 else _WHOLE_V6
        return f"--name {chain} --mask {whole} --rsource"

    # Lists.

    def _cluster_entries(self) -> Iterator[tuple[Way, Entry]]:
        portal = self._portal
        missing = portal.internal_missing
        if missing:
            target = self._instead(missing)
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
                        Way.REFUSED_OUTSIDE,
                        address,
                        portal.port,
                        missing.value,
                        self._instead(missing),
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
                Way.REFUSED_NODE_PORTS, "", portal.node_port, missing.value, self._instead(missing)
            )

    def _entry(
        self,
        way: Way,
        address: str,
        port: int,
        what: str,
        target: str,
        protocol: Protocol | None = None,
    ) -> tuple[Way, Entry]:
        space = _space(way, self._portal.family)
        spoken = protocol or self._portal.protocol
        key = space.key(address, spoken, port)
        where = f"-d {_network(address)} " if address else ""
        rule = (
            f"{where}-p {spoken.lower} {self._say('', what)} -m {spoken.lower} --dport {port}"
            f" -j {target}"
        )
        return way, Entry(key, f"{self._name} {self._protocol}", rule)

    def _instead(self, missing: Missing) -> str:
        if missing is Missing.LOCAL:
            return "DROP"
        kind = "icmp" if self._portal.family is Family.V4 else "icmp6"
        return f"REJECT --reject-with {kind}-port-unreachable"

    def _say(self, before: str, after: str) -> str:
        return comment(" ".join(part for part in (before, self._name, after) if part))


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


@cache
def _space(way: Way, family: Family) -> Space:
    return way.space(family)


def _network(text: str) -> str:
    """Return an address or a network with its length."""
    if "/" in text:
        return text
    return f"{text}/128" if ":" in text else f"{text}/32"


def _socket(endpoint: Endpoint) -> str:
    ip = f"[{endpoint.ip}]" if ":" in endpoint.ip else endpoint.ip
    return f"{ip}:{endpoint.port}"


def _contains(network: str, address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
