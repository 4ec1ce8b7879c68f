"""What rules depend on besides Services: the node's families, addresses, and its own traffic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .backend import LocalDetector, LocalTraffic
from .model.addresses import of_family
from .model.objects import Node
from .model.portal import Family

_IPV6 = Path("/proc/net/if_inet6")


def families() -> tuple[Family, ...]:
    """Return the families that this kernel speaks in this network namespace."""
    return (Family.V4, Family.V6) if _IPV6.exists() else (Family.V4,)


def pod_cidrs(node: Node | None) -> list[str]:
    """Return the networks of the pods of a node."""
    if node is None:
        return []
    return node.spec.pod_cidrs or ([node.spec.pod_cidr] if node.spec.pod_cidr else [])


def detector(
    mode: LocalTraffic,
    family: Family,
    *,
    cluster_cidrs: Iterable[str] = (),
    node: Node | None = None,
    bridge: str = "",
    prefix: str = "",
) -> LocalDetector:
    """Return how local traffic of a family is told; not at all if what it takes is not known."""
    if mode is LocalTraffic.BRIDGE_INTERFACE:
        return LocalDetector(mode, bridge) if bridge else LocalDetector()
    if mode is LocalTraffic.INTERFACE_NAME_PREFIX:
        return LocalDetector(mode, prefix) if prefix else LocalDetector()
    networks: Sequence[str] = ()
    if mode is LocalTraffic.CLUSTER_CIDR:
        networks = of_family(cluster_cidrs, family)
    elif mode is LocalTraffic.NODE_CIDR:
        networks = of_family(pod_cidrs(node), family)
    return LocalDetector(mode, networks[0]) if networks else LocalDetector()
