"""Service.

Source: Kubernetes documentation, "Service", "IPv4/IPv6 dual-stack"; API reference, Service v1.
Addresses and node ports are given by controlplane/services.
"""

from __future__ import annotations

from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.resource import AGE, Column, Context, Object, Strategy
from controlplane.kinds.strategies.core.addresses import ip_warnings, network_warnings
from controlplane.kinds.strategies.core.service_checks import (
    check_service,
    check_service_change,
    check_service_status,
    is_headless,
    is_reachable_from_outside,
)

_AFFINITY_SECONDS: Final = 10800
_REACHABLE: Final = ("ClusterIP", "NodePort", "LoadBalancer")
_OMITTED: Final = (
    "clusterIP", "clusterIPs", "externalIPs", "externalName", "externalTrafficPolicy",
    "healthCheckNodePort", "ipFamilies", "loadBalancerIP", "loadBalancerSourceRanges", "ports",
    "publishNotReadyAddresses", "selector",
)  # fmt: skip


class ServiceStrategy(Strategy):
    """See the module."""

    create_on_update = True
    generation = False
    names = "label"
    selectable = frozenset({"spec.clusterIP", "spec.type"})
    columns = (
        Column("Type", description="How it is reached."),
        Column("Cluster-IP", description="Its first address in the cluster."),
        Column("External-IP", description="Where it is reached from outside."),
        Column("Port(s)", description="Its ports, node ports and protocols."),
        AGE,
        Column("Selector", priority=1, description="Labels of its pods."),
    )

    def default(self, value: Object) -> None:
        """Put in the defaults."""
        spec = value.setdefault("spec", {})
        for key in _OMITTED:
            if key in spec and not spec[key]:
                del spec[key]
        spec["type"] = spec.get("type") or "ClusterIP"
        spec["sessionAffinity"] = spec.get("sessionAffinity") or "None"
        _default_affinity(spec)
        for port in spec.get("ports", []):
            port["protocol"] = port.get("protocol") or "TCP"
            if not port.get("targetPort"):
                port["targetPort"] = port.get("port", 0)
            for key in ("name", "nodePort"):
                if key in port and not port[key]:
                    del port[key]
        if is_reachable_from_outside(spec):
            spec.setdefault("externalTrafficPolicy", "Cluster")
        if spec["type"] in _REACHABLE:
            spec.setdefault("internalTrafficPolicy", "Cluster")
        balancer = value.setdefault("status", {}).setdefault("loadBalancer", {})
        if spec["type"] == "LoadBalancer":
            spec.setdefault("allocateLoadBalancerNodePorts", True)
            for ingress in balancer.get("ingress", []):
                if ingress.get("ip"):
                    ingress.setdefault("ipMode", "VIP")

    def prepare_create(self, value: Object, context: Context) -> None:
        """Drop the status."""
        value["status"] = {"loadBalancer": {}}

    def prepare_update(self, value: Object, old: Object, context: Context) -> None:
        """Drop what belongs to the type that it had, if the client left it as it was."""
        new, before = value["spec"], old["spec"]
        if before["type"] != "ExternalName" and new["type"] == "ExternalName":
            if _same(new, before, "clusterIP") and _same(new, before, "clusterIPs"):
                new.pop("clusterIP", None)
                new.pop("clusterIPs", None)
            _drop_if_same(new, before, "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")
        if has_node_ports(before) and not has_node_ports(new):
            known = {port.get("nodePort", 0) for port in before.get("ports", [])}
            if all(port.get("nodePort", 0) in known | {0} for port in new.get("ports", [])):
                for port in new.get("ports", []):
                    port.pop("nodePort", None)
        if has_health_check(before) and not has_health_check(new):
            _drop_if_same(new, before, "healthCheckNodePort")
        if before["type"] == "LoadBalancer" and new["type"] != "LoadBalancer":
            _drop_if_same(new, before, "allocateLoadBalancerNodePorts", "loadBalancerClass")
        if is_reachable_from_outside(before) and not is_reachable_from_outside(new):
            _drop_if_same(new, before, "externalTrafficPolicy")
        if new["type"] != "LoadBalancer":
            value["status"]["loadBalancer"] = {}

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong."""
        causes = check_service_change(value, old) if old is not None else []
        return causes + check_service(value, old)

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Return what is wrong with the addresses of a load balancer."""
        return check_service_status(value, old)

    def warnings(self, value: Object) -> list[str]:
        """Return what a user should hear."""
        spec, annotations = value["spec"], value["metadata"].get("annotations", {})
        found: list[str] = []
        if "service.kubernetes.io/topology-aware-hints" in annotations:
            found.append(
                "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use "
                "service.kubernetes.io/topology-mode instead"
            )
        for key in ("clusterIPs", "externalIPs"):
            if key == "externalIPs" and is_headless(spec):
                found += _headless_warnings(spec)
            for index, address in enumerate(spec.get(key, [])):
                found += ip_warnings(address, f"spec.{key}[{index}]")
        kind = spec["type"]
        if spec.get("externalIPs") and not is_headless(spec) and kind != "ExternalName":
            text = "spec.externalIPs is deprecated and may no longer be implemented in some "
            found.append(f"{text}clusters")
        found += ip_warnings(spec.get("loadBalancerIP", ""), "spec.loadBalancerIP")
        for index, network in enumerate(spec.get("loadBalancerSourceRanges", [])):
            found += network_warnings(network, f"spec.loadBalancerSourceRanges[{index}]")
        if kind == "ExternalName" and spec.get("externalIPs"):
            found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
        if kind != "ExternalName" and spec.get("externalName"):
            found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
        if spec.get("trafficDistribution") == "PreferClose":
            found.append(
                'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'
            )
        return found

    def fields(self, value: Object) -> dict[str, str]:
        """Return what field selectors can ask for."""
        spec = value["spec"]
        return {"spec.clusterIP": spec.get("clusterIP", ""), "spec.type": spec["type"]}

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        spec = value["spec"]
        ports = ",".join(
            f"{port['port']}:{port['nodePort']}/{port['protocol']}"
            if port.get("nodePort")
            else f"{port['port']}/{port['protocol']}"
            for port in spec.get("ports", [])
        )
        selector = ",".join(f"{k}={v}" for k, v in sorted(spec.get("selector", {}).items()))
        return [
            spec["type"],
            (spec.get("clusterIPs") or ["<none>"])[0],
            _external(value),
            ports or "<none>",
            selector or "<none>",
        ]


def has_node_ports(spec: Object) -> bool:
    """Say whether a service of its type can have node ports."""
    return spec["type"] in ("NodePort", "LoadBalancer")


def has_health_check(spec: Object) -> bool:
    """Say whether nodes tell a load balancer if they have pods of the service."""
    return spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _default_affinity(spec: Object) -> None:
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        config = spec.get("sessionAffinityConfig", {}).get("clientIP", {})
        if config.get("timeoutSeconds") is None:
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": _AFFINITY_SECONDS}}


def _headless_warnings(spec: Object) -> list[str]:
    found = []
    if spec.get("loadBalancerIP"):
        found.append("spec.loadBalancerIP is ignored for headless services")
    if spec.get("externalIPs"):
        found.append("spec.externalIPs is ignored for headless services")
    if spec["sessionAffinity"] != "None":
        found.append("spec.SessionAffinity is ignored for headless services")
    return found


def _external(value: Object) -> str:
    spec = value["spec"]
    given: list[str] = spec.get("externalIPs", [])
    if spec["type"] == "ExternalName":
        return str(spec.get("externalName", ""))
    if spec["type"] != "LoadBalancer":
        return ",".join(given) or "<none>"
    ingress = value.get("status", {}).get("loadBalancer", {}).get("ingress", [])
    balanced = {one.get("ip") or one.get("hostname") or "" for one in ingress} - {""}
    return ",".join([*sorted(balanced), *given]) or "<pending>"


def _same(new: Object, before: Object, key: str) -> bool:
    return bool(new.get(key) == before.get(key))


def _drop_if_same(new: Object, before: Object, *keys: str) -> None:
    for key in keys:
        if _same(new, before, key):
            new.pop(key, None)
