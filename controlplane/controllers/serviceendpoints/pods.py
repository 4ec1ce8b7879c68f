"""What a pod says of itself that makes it an endpoint of a Service (pure).

Source: Kubernetes 1.36, ``k8s.io/endpointslice``.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from controlplane.engine.resources import Object, is_deleting

IPV4: Final = "IPv4"
IPV6: Final = "IPv6"
HEADLESS: Final = "service.kubernetes.io/headless"
TRIGGER_TIME: Final = "endpoints.kubernetes.io/last-change-trigger-time"
LEADER: Final = "control-plane.alpha.kubernetes.io/leader"
"""Annotation of Endpoints that were the lock of an election, which have no Service."""
ZONE: Final = "topology.kubernetes.io/zone"


def ready_condition(pod: Object) -> dict[str, Any] | None:
    """Return the condition Ready of a pod, None if it has none."""
    for one in (pod.get("status") or {}).get("conditions") or ():
        if one["type"] == "Ready":
            found: dict[str, Any] = one
            return found
    return None


def is_ready(pod: Object) -> bool:
    """Whether the pod is ready."""
    condition = ready_condition(pod)
    return condition is not None and condition.get("status") == "True"


def may_be_endpoint(pod: Object, *, terminating: bool) -> bool:
    """Whether a pod may be an endpoint: it has an address and has not ended.

    Args:
        terminating: whether one that is being deleted may.
    """
    status = pod.get("status") or {}
    if status.get("phase") in ("Failed", "Succeeded"):
        return False
    if not status.get("podIP") and not status.get("podIPs"):
        return False
    return terminating or not is_deleting(pod)


def addresses(pod: Object) -> list[tuple[str, str]]:
    """Return the addresses of a pod, as (family, address in its usual form)."""
    status = pod.get("status") or {}
    return [
        found for one in status.get("podIPs") or () if (found := canonical(one.get("ip") or ""))
    ]  # fmt: skip


def canonical(text: str) -> tuple[str, str] | None:
    """Return family and usual form of an address; None: it is none.

    Leading zeros are taken, as in all that Kubernetes reads, and an IPv4 address that is written
    as one of IPv6 is one of IPv4.
    """
    try:
        found = ip_address(text)
    except ValueError:
        parts = text.split(".")
        if len(parts) != 4 or not all(part.isascii() and part.isdigit() for part in parts):
            return None
        try:
            found = ip_address(".".join(str(int(part)) for part in parts))
        except ValueError:
            return None
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is None:
            return IPV6, str(found)
        found = found.ipv4_mapped
    return IPV4, str(found)


def hostname(pod: Object, service: Object) -> str:
    """Return the name that a pod has below the Service; "": none."""
    spec = pod["spec"]
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        return str(spec["hostname"])
    return ""


def find_port(pod: Object, service_port: dict[str, Any]) -> int | None:
    """Return the number of the port of a pod that a port of a Service leads to.

    A name is looked up among the containers, then among the sidecars.

    Returns:
        The number; None: the pod has no port of that name and protocol.
    """
    target = service_port.get("targetPort")
    if not isinstance(target, str):
        return int(target or service_port["port"])
    protocol = service_port.get("protocol") or "TCP"
    spec = pod["spec"]
    sidecars = [
        one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"
    ]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for port in container.get("ports") or ():
            if port.get("name") == target and (port.get("protocol") or "TCP") == protocol:
                return int(port["containerPort"])
    return None


def is_headless(service: Object) -> bool:
    """Whether a Service has no address of the cluster."""
    return service["spec"].get("clusterIP", "") in ("", "None")


def reference(pod: Object) -> dict[str, str]:
    """Return the reference to a pod that an endpoint carries."""
    meta = pod["metadata"]
    return {
        "kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"],
    }  # fmt: skip


def projection(pod: Object) -> tuple[object, ...]:
    """Return all of a pod that endpoints depend on: as long as it stays, nothing changes."""
    status, spec = pod.get("status") or {}, pod["spec"]
    return (
        pod["metadata"].get("labels"),
        is_deleting(pod),
        is_ready(pod),
        status.get("phase") in ("Failed", "Succeeded"),
        status.get("podIP"),
        status.get("podIPs"),
        spec.get("nodeName"),
        spec.get("hostname"),
        spec.get("subdomain"),
    )
