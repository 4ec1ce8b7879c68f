"""What a Service asks for, port by port and family by family (pure).

Source: KEP-2086, 2138 (traffic policies), 1860 (ipMode), and what the API reference says of each
field. What cannot be programmed is left out and told in words; the rest of the Service works.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .addresses import network, parse
from .objects import LABEL_HEADLESS, LABEL_PROXY_NAME, Service, ServicePort
from .portal import Family, Portal, PortalName, Protocol

_PROTOCOLS = {each.value: each for each in Protocol}
DEFAULT_AFFINITY = 10_800
"""Seconds of ClientIP affinity where a Service does not say: three hours."""
LONGEST_AFFINITY = 86_400


@dataclass(frozen=True, slots=True)
class Asked:
    """What one Service asks for.

    Attributes:
        portals: by family; without endpoints.
        created: when the Service was made, RFC 3339; "" if unknown. Older ones come first where
            two claim the same address and port.
        health_check_node_port: 0 for none.
        problems: what of it cannot be programmed and why.
    """

    portals: dict[Family, tuple[Portal, ...]]
    created: str = ""
    health_check_node_port: int = 0
    problems: tuple[str, ...] = ()


NOTHING = Asked({})


def asked_of(service: Service, *, external_ips: bool = True) -> Asked:
    """Return what a Service asks a proxy to program.

    Args:
        service: as the API server has it.
        external_ips: whether ``spec.externalIPs`` count; not where they are refused
            (CVE-2020-8554: who may make Services could take traffic of any address).
    """
    spec, labels = service.spec, service.metadata.labels or {}
    if (
        spec.type == "ExternalName"
        or spec.cluster_ip in ("", "None")
        or LABEL_PROXY_NAME in labels
        or LABEL_HEADLESS in labels
    ):
        return NOTHING
    problems: list[str] = []
    if spec.external_ips and not external_ips:
        problems.append("spec.externalIPs: refused by this proxy's configuration")
    cluster_ips = _by_family(spec.cluster_ips or [spec.cluster_ip], "spec.clusterIPs", problems)
    ports = list(_ports(spec.ports or [], problems))
    common = _Common(service, external_ips, problems)
    portals = {
        family: tuple(common.portal(family, addresses[0], each) for each in ports)
        for family, addresses in sorted(cluster_ips.items())
    }
    return Asked(
        {family: each for family, each in portals.items() if each},
        service.metadata.creation_timestamp or "",
        common.health_check_node_port if ports else 0,
        tuple(problems),
    )


class _Common:
    """What all ports of a Service have in common."""

    def __init__(self, service: Service, external_ips: bool, problems: list[str]) -> None:
        spec = service.spec
        external = spec.external_ips or [] if external_ips else []
        self.names = (service.metadata.namespace, service.metadata.name)
        self.external = _by_family(external, "spec.externalIPs", problems)
        self.balancers = _by_family(
            [
                each.ip
                for each in service.status.load_balancer.ingress or []
                if each.ip and each.ip_mode in (None, "VIP")
            ],
            "status.loadBalancer.ingress",
            problems,
        )
        self.ranges, self.restricted = _ranges(spec.load_balancer_source_ranges or [], problems)
        self.affinity = _affinity(service, problems)
        self.internal_local = spec.internal_traffic_policy == "Local"
        reachable = spec.type in ("LoadBalancer", "NodePort") or bool(spec.external_ips)
        self.external_local = reachable and spec.external_traffic_policy == "Local"
        self.node_ports = spec.type in ("LoadBalancer", "NodePort")
        self.health_check_node_port = 0
        if spec.type == "LoadBalancer" and self.external_local:
            if 0 < spec.health_check_node_port < 65_536:
                self.health_check_node_port = spec.health_check_node_port
            else:
                problems.append(
                    f"spec.healthCheckNodePort: {spec.health_check_node_port} is no port; load "
                    "balancers cannot ask whether this node has endpoints"
                )

    def portal(self, family: Family, cluster_ip: str, port: ServicePort) -> Portal:
        """Return the portal of one port in one family."""
        balancers = tuple(self.balancers.get(family, ()))
        own = {cluster_ip, *balancers}
        return Portal(
            name=PortalName(*self.names, port.name, port.protocol),
            family=family,
            protocol=_PROTOCOLS[port.protocol],
            cluster_ip=cluster_ip,
            port=port.port,
            node_port=port.node_port,
            external_ips=tuple(ip for ip in self.external.get(family, ()) if ip not in own),
            load_balancer_ips=tuple(ip for ip in balancers if ip != cluster_ip),
            source_ranges=self.ranges[family],
            restricted=self.restricted[family],
            affinity_seconds=self.affinity,
            internal_local=self.internal_local,
            external_local=self.external_local,
            health_check_node_port=self.health_check_node_port,
        )


def _ports(ports: Iterable[ServicePort], problems: list[str]) -> Iterable[ServicePort]:
    """Yield the usable ports."""
    names: set[tuple[str, str]] = set()
    numbers: set[tuple[int, str]] = set()
    for each in ports:
        where = f"spec.ports: {each.name or each.port}"
        if each.protocol not in _PROTOCOLS:
            problems.append(f"{where}: protocol {each.protocol!r} is not TCP, UDP or SCTP")
        elif not 0 < each.port < 65_536:
            problems.append(f"{where}: {each.port} is no port")
        elif not 0 <= each.node_port < 65_536:
            problems.append(f"{where}: node port {each.node_port} is no port")
        elif (each.name, each.protocol) in names:
            problems.append(f"{where}: a second port of this name; the first one counts")
        elif (each.port, each.protocol) in numbers:
            problems.append(
                f"{where}: {each.port}/{each.protocol} is there twice; the first counts"
            )
        else:
            names.add((each.name, each.protocol))
            numbers.add((each.port, each.protocol))
            yield each


def _by_family(texts: Iterable[str], where: str, problems: list[str]) -> dict[Family, list[str]]:
    """Sort addresses by family, each once; what is none becomes a problem."""
    found: dict[Family, list[str]] = {}
    for text in texts:
        parsed = parse(text.strip())
        if parsed is None:
            # An empty one says nothing, and the API server lets it pass.
            if text.strip():
                problems.append(f"{where}: {text!r} is no IP address")
        elif parsed[1] in ("0.0.0.0", "::"):
            problems.append(f"{where}: {text} means all addresses")
        elif parsed[1] not in (same := found.setdefault(parsed[0], [])):
            same.append(parsed[1])
    return found


def _ranges(
    texts: Iterable[str], problems: list[str]
) -> tuple[dict[Family, tuple[str, ...]], dict[Family, bool]]:
    """Return source ranges by family, and whether sources are restricted in it.

    A range of all addresses lifts the restriction of its family; if there are no others, of both.
    """
    found: dict[Family, list[str]] = {Family.V4: [], Family.V6: []}
    given = False
    for text in texts:
        parsed = network(text)
        if not text.strip():
            continue
        given = True
        if parsed is None:
            problems.append(f"spec.loadBalancerSourceRanges: {text!r} is no CIDR")
        elif parsed[1] not in found[parsed[0]]:
            found[parsed[0]].append(parsed[1])
    open_to_all = {
        family: any(each.endswith("/0") for each in ranges) for family, ranges in found.items()
    }
    restricted = {}
    for family, other in ((Family.V4, Family.V6), (Family.V6, Family.V4)):
        lifted = open_to_all[family] or (not found[family] and open_to_all[other])
        restricted[family] = given and not lifted
    return {
        family: tuple(ranges) if restricted[family] else () for family, ranges in found.items()
    }, restricted


def _affinity(service: Service, problems: list[str]) -> int:
    spec = service.spec
    if spec.session_affinity != "ClientIP":
        if spec.session_affinity not in ("", "None"):
            problems.append(f"spec.sessionAffinity: {spec.session_affinity!r} is not known")
        return 0
    config = spec.session_affinity_config
    seconds = config.client_ip.timeout_seconds if config and config.client_ip else None
    if seconds is None:
        return DEFAULT_AFFINITY
    if not 0 < seconds <= LONGEST_AFFINITY:
        problems.append(
            f"spec.sessionAffinityConfig.clientIP.timeoutSeconds: {seconds} is not 1 to "
            f"{LONGEST_AFFINITY}; {DEFAULT_AFFINITY} is taken"
        )
        return DEFAULT_AFFINITY
    return seconds
