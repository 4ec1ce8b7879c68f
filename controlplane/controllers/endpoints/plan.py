"""What the Endpoints of a Service shall be (pure).

Source: Kubernetes 1.36, controller ``endpoints-controller``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

from controlplane.controllers.serviceendpoints import pods as facts
from controlplane.controllers.serviceendpoints.subsets import Subset, are_same, repack
from controlplane.engine.resources import Object

CAPACITY: Final = 1000
"""Addresses that Endpoints hold at most; slices have no such bound."""
OVER_CAPACITY: Final = "endpoints.kubernetes.io/over-capacity"
TRUNCATED: Final = "truncated"
MANAGED_BY: Final = "endpoints.kubernetes.io/managed-by"
MANAGER: Final = "endpoint-controller"


def subsets_of(service: Object, pods: Iterable[Object]) -> list[Subset]:
    """Return the subsets of a Service, with all addresses."""
    spec = service["spec"]
    published = bool(spec.get("publishNotReadyAddresses"))
    found: list[Subset] = []
    for pod in pods:
        if not facts.may_be_endpoint(pod, terminating=published):
            continue
        address = _address(service, pod)
        if address is None:
            continue
        kind = "addresses" if published or facts.is_ready(pod) else "notReadyAddresses"
        if spec.get("ports"):
            found += [
                {kind: [address], "ports": [port]} for port in _ports(service, pod)
            ]  # fmt: skip
        elif spec.get("clusterIP") == "None":
            found.append({kind: [address]})
    return repack(found)


def _ports(service: Object, pod: Object) -> Iterable[dict[str, Any]]:
    for one in service["spec"]["ports"]:
        number = facts.find_port(pod, one)
        if number is None:
            continue
        port = {"port": number, "protocol": one.get("protocol") or "TCP"}
        for name in ("name", "appProtocol"):
            if one.get(name):
                port[name] = one[name]
        yield port


def _address(service: Object, pod: Object) -> dict[str, Any] | None:
    """Return the address of a pod in the first family of a Service; None: it has none."""
    wanted = family_of(service, pod)
    found = [address for family, address in facts.addresses(pod) if family == wanted]
    if not found:
        return None
    made: dict[str, Any] = {"ip": found[0], "targetRef": facts.reference(pod)}
    if pod["spec"].get("nodeName"):
        made["nodeName"] = pod["spec"]["nodeName"]
    name = facts.hostname(pod, service)
    if name:
        made["hostname"] = name
    return made


def family_of(service: Object, pod: Object) -> str:
    """Return the one family that Endpoints of a Service have."""
    spec = service["spec"]
    if spec.get("ipFamilies"):
        return str(spec["ipFamilies"][0])
    text = spec.get("clusterIP") or ""
    if text in ("", "None"):
        text = (pod.get("status") or {}).get("podIP") or ""
    found = facts.canonical(text)
    return found[0] if found else facts.IPV4


def truncated(subsets: list[Subset], capacity: int = CAPACITY) -> tuple[list[Subset], bool]:
    """Return no more addresses than fit, those that are ready first, in proportion to subsets.

    Returns:
        The subsets, and whether something was left out.
    """
    ready = sum(len(one.get("addresses") or ()) for one in subsets)
    waiting = sum(len(one.get("notReadyAddresses") or ()) for one in subsets)
    if ready + waiting <= capacity:
        return subsets, False
    name, total, room = "notReadyAddresses", waiting, capacity - ready
    if ready > capacity:
        name, total, room = "addresses", ready, capacity
    made: list[Subset] = []
    rest = room
    for one in subsets:
        kept = dict(one)
        if name == "addresses":
            kept.pop("notReadyAddresses", None)
        has = kept.pop(name, [])
        share = min(math.ceil(len(has) / total * room), rest)
        if has[:share]:
            kept[name] = has[:share]
        rest -= min(share, len(has))
        if kept.get("addresses") or kept.get("notReadyAddresses"):
            made.append(kept)
    return made, True


def labels_of(service: Object) -> dict[str, str]:
    """Return the labels that the Endpoints of a Service shall have."""
    labels = dict(service["metadata"].get("labels") or {})
    labels.pop(facts.HEADLESS, None)
    if facts.is_headless(service):
        labels[facts.HEADLESS] = ""
    labels[MANAGED_BY] = MANAGER
    return labels


def wanted(
    service: Object, pods: Iterable[Object], known: Object | None, moment: str
) -> Object | None:
    """Return the Endpoints that shall be written; None: they are as they shall be.

    Args:
        known: those that are there.
        moment: when the cause of the change happened; "": not known.
    """
    subsets, over = truncated(subsets_of(service, pods))
    labels = labels_of(service)
    meta = dict((known or {}).get("metadata") or {})
    has = meta.get("annotations") or {}
    if (
        known is not None
        and has.get(OVER_CAPACITY) == (TRUNCATED if over else None)
        and (meta.get("labels") or {}) == labels
        and are_same(known.get("subsets") or (), subsets)
    ):
        return None
    annotations = {
        name: text for name, text in has.items() if name not in (OVER_CAPACITY, facts.TRIGGER_TIME)
    }
    if moment:
        annotations[facts.TRIGGER_TIME] = moment
    if over:
        annotations[OVER_CAPACITY] = TRUNCATED
    meta |= {
        "namespace": service["metadata"]["namespace"], "name": service["metadata"]["name"],
        "labels": labels, "annotations": annotations,
    }  # fmt: skip
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": subsets}
