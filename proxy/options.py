"""What rules depend on besides Services: made of the settings, this node and its kernel (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .backend import LocalDetector, LocalTraffic, RuleOptions
from .model.addresses import network, parse
from .model.objects import Node
from .model.portal import Family
from .settings.configuration import PRIMARY, KubeProxyConfiguration

_IPV6 = Path("/proc/net/if_inet6")
_NO_IPV6 = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")
_ADDRESS_TYPES = ("InternalIP", "ExternalIP")


def families() -> tuple[Family, ...]:
    """Return the families that this kernel speaks in this network namespace (not pure)."""
    try:
        if not _IPV6.exists() or _NO_IPV6.read_text().strip() == "1":
            return (Family.V4,)
    except OSError:
        pass
    return (Family.V4, Family.V6)


def pod_cidrs(node: Node | None) -> list[str]:
    """Return the networks of the pods of a node."""
    if node is None:
        return []
    return node.spec.pod_cidrs or ([node.spec.pod_cidr] if node.spec.pod_cidr else [])


def node_ips(node: Node | None, bind_address: str = "0.0.0.0") -> dict[Family, str]:
    """Return the addresses of a node, one of each family that is known.

    The first internal one of the Node object counts, or the first external one; before both a
    ``bindAddress`` that is one.
    """
    found: dict[Family, str] = {}
    addresses = [] if node is None else node.status.addresses or []
    for kind in _ADDRESS_TYPES:
        for each in addresses:
            parsed = parse(each.address) if each.type == kind else None
            if parsed is not None:
                found.setdefault(*parsed)
    bound = parse(bind_address)
    if bound is not None and bound[1] not in ("0.0.0.0", "::"):
        found[bound[0]] = bound[1]
    return found


@dataclass(frozen=True, slots=True)
class Missing:
    """Something of the node that is not known yet.

    Attributes:
        what: for messages.
        seconds: how long it is waited for, as in the peer.
        vital: whether nothing works without it.
    """

    what: str
    seconds: float
    vital: bool


NO_CIDRS: Final = Missing("spec.podCIDRs (detectLocalMode is NodeCIDR)", 300.0, True)
NO_ADDRESS: Final = Missing("an address in its status (nodePortAddresses is primary)", 30.0, False)


def missing(one: KubeProxyConfiguration, node: Node | None) -> Missing | None:
    """Return what of the node is not known and has to be waited for, None if nothing."""
    if one.detect_local_mode == LocalTraffic.NODE_CIDR.value and not pod_cidrs(node):
        return NO_CIDRS
    if one.node_port_addresses == [PRIMARY] and not node_ips(node, one.bind_address):
        return NO_ADDRESS
    return None


def rule_options(one: KubeProxyConfiguration, node: Node | None, family: Family) -> RuleOptions:
    """Return what is the same for all portals of a family."""
    if one.node_port_addresses == [PRIMARY]:
        ip = node_ips(node, one.bind_address).get(family)
        bits = 32 if family is Family.V4 else 128
        addresses = _of_family([f"{ip}/{bits}"] if ip else [], family)
    else:
        addresses = _of_family(one.node_port_addresses, family)
    if any(each.endswith("/0") for each in addresses):
        addresses = ()
    return RuleOptions(
        family=family,
        local=_detector(one, node, family),
        masquerade_all=one.pace.masquerade_all,
        masquerade_bit=one.pace.masquerade_bit,
        localhost_node_ports=one.iptables.localhost_node_ports,
        node_port_addresses=addresses,
        node_ip=node_ips(node, one.bind_address).get(family, ""),
    )


def _detector(one: KubeProxyConfiguration, node: Node | None, family: Family) -> LocalDetector:
    """Return how local traffic is told; not at all if what it takes is not known."""
    mode = LocalTraffic(one.detect_local_mode)
    if mode is LocalTraffic.BRIDGE_INTERFACE:
        return LocalDetector(mode, one.detect_local.bridge_interface)
    if mode is LocalTraffic.INTERFACE_NAME_PREFIX:
        return LocalDetector(mode, one.detect_local.interface_name_prefix)
    texts = pod_cidrs(node) if mode is LocalTraffic.NODE_CIDR else one.cluster_cidrs
    networks = _of_family(texts, family)
    return LocalDetector(mode, networks[0]) if networks else LocalDetector()


def _of_family(texts: Iterable[str], family: Family) -> tuple[str, ...]:
    found = (network(each) for each in texts)
    return tuple(each[1] for each in found if each is not None and each[0] is family)


def warnings(one: KubeProxyConfiguration) -> list[str]:
    """Return what an operator may want to know of a configuration that works."""
    found = []
    if not one.node_port_addresses:
        found.append(
            "nodePortAddresses is unset; NodePort connections will be accepted on all local IPs. "
            "Consider using --nodeport-addresses primary"
        )
    mode = LocalTraffic(one.detect_local_mode)
    if mode is LocalTraffic.CLUSTER_CIDR and not one.cluster_cidrs:
        found.append(
            "detectLocalMode is ClusterCIDR and clusterCIDR is unset: traffic of pods of this "
            "node is not told from that of others"
        )
    return found
