"""A pod as an endpoint of a slice, and what tells two endpoints apart (pure).

Source: Kubernetes 1.36, ``k8s.io/endpointslice``; KEP-752, KEP-1672 (terminating endpoints).
"""

from __future__ import annotations

from typing import Any

from controlplane.controllers.serviceendpoints import pods as facts
from controlplane.engine.resources import Object, is_deleting

Endpoint = dict[str, Any]
Port = dict[str, Any]
PortsKey = tuple[tuple[str, str, int, str], ...]


def endpoint_of(pod: Object, zone: str, service: Object, family: str) -> Endpoint | None:
    """Return a pod as an endpoint; None: it has no address of the family.

    Args:
        zone: of its node; "": none.
    """
    found = [address for one, address in facts.addresses(pod) if one == family]
    if not found:
        return None
    serving, terminating = facts.is_ready(pod), is_deleting(pod)
    published = bool(service["spec"].get("publishNotReadyAddresses"))
    made: Endpoint = {
        "addresses": sorted(found),
        "conditions": {
            # One that is on its way out is not ready, for those who know no "terminating".
            "ready": published or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": facts.reference(pod),
    }
    if pod["spec"].get("nodeName"):
        made["nodeName"] = pod["spec"]["nodeName"]
    if zone:
        made["zone"] = zone
    name = facts.hostname(pod, service)
    if name:
        made["hostname"] = name
    return made


def ports_of(pod: Object, service: Object) -> list[Port]:
    """Return the ports of a pod that a Service leads to; those that it does not have are left."""
    made: list[Port] = []
    for one in service["spec"].get("ports") or ():
        number = facts.find_port(pod, one)
        if number is None:
            continue
        port = {
            "name": one.get("name") or "", "port": number,
            "protocol": one.get("protocol") or "TCP",
        }  # fmt: skip
        if one.get("appProtocol") is not None:
            port["appProtocol"] = one["appProtocol"]
        made.append(port)
    return made


def ports_key(ports: list[Port] | None) -> PortsKey:
    """Return what tells one list of ports from another, whatever their order."""
    return tuple(sorted(
        (one.get("name") or "", one.get("protocol") or "TCP", one.get("port") or 0,
         one.get("appProtocol") or "")
        for one in ports or ()
    ))  # fmt: skip


def identity(endpoint: Endpoint) -> tuple[object, ...]:
    """Return what makes an endpoint the same one, though its conditions change."""
    target = endpoint.get("targetRef") or {}
    return (
        tuple(sorted(endpoint["addresses"])), endpoint.get("hostname") or "",
        target.get("namespace") or "", target.get("name") or "",
    )  # fmt: skip


def is_same(one: Endpoint, other: Endpoint) -> bool:
    """Whether two endpoints of one identity say the same; hints do not count."""
    return (
        one.get("nodeName") == other.get("nodeName")
        and one.get("zone") == other.get("zone")
        and (one.get("conditions") or {}) == (other.get("conditions") or {})
        and _target(one) == _target(other)
    )


def _target(endpoint: Endpoint) -> dict[str, Any]:
    target = endpoint.get("targetRef") or {}
    return {name: value for name, value in target.items() if name != "resourceVersion"}
