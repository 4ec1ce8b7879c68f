"""A portal: one port of one Service in one address family, with the endpoints chosen for this node.

The model makes portals of Services, EndpointSlices and the Node; the rule sets (iptables,
nftables) are made of portals alone. What the peers decide while they write rules (which endpoints
a policy leaves, hints, terminating endpoints, what is rejected and what is dropped) is decided
before, once, and is in the portal.

https://kubernetes.io/docs/reference/networking/virtual-ips/
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Family(enum.IntEnum):
    """An address family; the value is the version of the Internet Protocol."""

    V4 = 4
    V6 = 6


class Protocol(enum.Enum):
    """A protocol of a Service port; the value is as the API writes it."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"

    @property
    def lower(self) -> str:
        """The name as iptables and nftables write it."""
        return self.value.lower()


@dataclass(frozen=True, slots=True, order=True)
class PortalName:
    """Which port of which Service; ``port`` is the port's name, "" where it has none."""

    namespace: str
    service: str
    port: str
    protocol: str

    def __str__(self) -> str:
        """As the peers write it in comments: ``namespace/service:port``."""
        return f"{self.namespace}/{self.service}" + (f":{self.port}" if self.port else "")


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Where a connection may end up: an address in its canonical text form, and a port."""

    ip: str
    port: int
    is_local: bool = False


class Missing(enum.Enum):
    """Why a way into a portal has no endpoints, thus what a client is to get."""

    NOTHING = "has no endpoints"
    """No endpoint anywhere: refused at once (ICMP port unreachable, TCP reset by it)."""
    LOCAL = "has no local endpoints"
    """There are some, yet the policy Local keeps them from this node: dropped."""


@dataclass(frozen=True, slots=True)
class Portal:
    """One port of one Service in one family.

    Attributes:
        name: which one.
        family: of all addresses in it.
        protocol: of the port.
        cluster_ip: address of the Service.
        port: its port there, and at external and load-balancer addresses.
        node_port: port at the node's addresses; 0 for none.
        external_ips: ``spec.externalIPs`` of this family, without refused ones.
        load_balancer_ips: of the status, of this family, ``ipMode`` VIP only.
        source_ranges: ``loadBalancerSourceRanges`` of this family, in canonical form; sources out
            of them are dropped at load-balancer addresses. See ``restricted``.
        restricted: whether the Service has source ranges at all (there may be none of this
            family: then nobody may come in by the load-balancer addresses).
        affinity_seconds: time-out of ClientIP affinity; 0 for none.
        internal_local, external_local: whether the traffic policies are Local.
        health_check_node_port: 0 for none.
        cluster_endpoints: for traffic with policy Cluster, sorted; all that may be used from here
            (hints and the fallback to serving terminating ones applied).
        local_endpoints: for traffic with policy Local, sorted; only where a policy is Local.
        has_endpoints: whether the Service has a usable endpoint anywhere in the cluster.
        serving_endpoints: for UDP and SCTP, whose flows outlive rules: all that are ready or serve
            while they terminate, sorted, whatever policies and hints say; flows to these may stay.
    """

    name: PortalName
    family: Family
    protocol: Protocol
    cluster_ip: str
    port: int
    node_port: int = 0
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()
    restricted: bool = False
    affinity_seconds: int = 0
    internal_local: bool = False
    external_local: bool = False
    health_check_node_port: int = 0
    cluster_endpoints: tuple[Endpoint, ...] = ()
    local_endpoints: tuple[Endpoint, ...] = ()
    has_endpoints: bool = False
    serving_endpoints: tuple[Endpoint, ...] = ()

    @property
    def internal_endpoints(self) -> tuple[Endpoint, ...]:
        """Where traffic to the cluster IP goes."""
        return self.local_endpoints if self.internal_local else self.cluster_endpoints

    @property
    def external_endpoints(self) -> tuple[Endpoint, ...]:
        """Where traffic from outside goes that enters by external addresses or the node port.

        With policy Local, what comes from pods of this node or from the node itself goes to
        ``cluster_endpoints`` all the same: it is inside the cluster already.
        """
        return self.local_endpoints if self.external_local else self.cluster_endpoints

    @property
    def is_external(self) -> bool:
        """Whether there is any way in besides the cluster IP."""
        return bool(self.node_port or self.external_ips or self.load_balancer_ips)

    @property
    def internal_missing(self) -> Missing | None:
        """What a client of the cluster IP gets instead of an endpoint; None if there is one."""
        return self._missing(self.internal_endpoints)

    @property
    def external_missing(self) -> Missing | None:
        """What a client from outside gets instead of an endpoint; None if there is one."""
        return self._missing(self.external_endpoints)

    @property
    def all_endpoints(self) -> tuple[Endpoint, ...]:
        """All endpoints that any rule may name, each once, sorted."""
        if not self.local_endpoints:
            return self.cluster_endpoints
        return tuple(sorted(_addresses((*self.cluster_endpoints, *self.local_endpoints))))

    def _missing(self, endpoints: tuple[Endpoint, ...]) -> Missing | None:
        if endpoints:
            return None
        return Missing.LOCAL if self.has_endpoints else Missing.NOTHING


def _addresses(endpoints: Iterable[Endpoint]) -> Iterable[Endpoint]:
    return {(each.ip, each.port): each for each in endpoints}.values()
