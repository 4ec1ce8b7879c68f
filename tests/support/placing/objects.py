"""Objects of the API as a scheduler sees them, and a situation made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from controlplane.engine.resources import (
    BUDGETS,
    CLAIMS,
    NAMESPACES,
    STORAGE_CLASSES,
    VOLUMES,
    Object,
    Resource,
)
from tests.support.hollow import node

HOST = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
SMALL = {"cpu": "1", "memory": "1Gi", "pods": "10"}
LARGE = {"cpu": "16", "memory": "64Gi", "pods": "10"}
TAINT = {"key": "dedicated", "value": "x", "effect": "NoSchedule"}
SOFT_TAINT = {"key": "dedicated", "value": "x", "effect": "PreferNoSchedule"}


@dataclass
class Scenario:
    """One situation.

    Attributes:
        nodes: that are there.
        pod: that is placed.
        pods: that have nodes.
        objects: that are there besides.
    """

    nodes: list[Object]
    pod: Object
    pods: list[Object] = field(default_factory=list)
    objects: list[tuple[Resource, Object]] = field(default_factory=list)


def pod(
    name: str = "subject", *, on: str = "", labels: dict[str, str] | None = None,
    namespace: str = "default", owner: Object | None = None, started: str = "", **spec: Any,
) -> Object:  # fmt: skip
    """Return a pod; ``cpu``, ``memory``, ``more`` are requests, the rest goes into its spec."""
    requests = {
        key: spec.pop(key) for key in ("cpu", "memory") if key in spec
    } | spec.pop("more", {})  # fmt: skip
    container: Object = {"name": "main", "image": spec.pop("image", "example.test/app:1")}
    if requests:
        container["resources"] = {"requests": requests}
        limits = {key: value for key, value in requests.items() if "/" in key or "pages" in key}
        if limits:
            container["resources"]["limits"] = limits
    if "ports" in spec:
        container["ports"] = spec.pop("ports")
    if on:
        spec["nodeName"] = on
    meta: Object = {"name": name, "namespace": namespace, "labels": labels or {}}
    if owner is not None:
        meta["ownerReferences"] = [owner]
    made: Object = {
        "apiVersion": "v1", "kind": "Pod", "metadata": meta,
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **spec},
    }  # fmt: skip
    if started:
        made["status"] = {"phase": "Running", "startTime": started}
    return made


def nodes(*names: str, **more: Any) -> list[Object]:
    """Return equal nodes."""
    return [node(name, **more) for name in names]


def zoned(**zones: str) -> list[Object]:
    """Return nodes by their zones."""
    return [node(name, labels={ZONE: zone}) for name, zone in zones.items()]


def needs(*expressions: tuple[str, str, list[str]], field_name: str = "") -> Object:
    """Return required node affinity of one term."""
    term: Object = {
        "matchExpressions": [
            {"key": key, "operator": operator, **({"values": values} if values else {})}
            for key, operator, values in expressions
        ]
    }
    if field_name:
        named = {"key": "metadata.name", "operator": "In", "values": [field_name]}
        term = {"matchFields": [named]}
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}


def term(app: str, topology: str = HOST, **more: Any) -> Object:
    """Return a term of pod affinity."""
    return {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": topology, **more}


def near(*terms: Object) -> Object:
    """Return required pod affinity."""
    return {"podAffinity": {REQUIRED: list(terms)}}


def far(*terms: Object) -> Object:
    """Return required pod anti-affinity."""
    return {"podAntiAffinity": {REQUIRED: list(terms)}}


def spread(app: str, topology: str = ZONE, skew: int = 1, hard: bool = True, **more: Any) -> Object:
    """Return a spread constraint."""
    return {
        "maxSkew": skew, "topologyKey": topology,
        "whenUnsatisfiable": "DoNotSchedule" if hard else "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": app}}, **more,
    }  # fmt: skip


def claim(name: str, kind: str = "", volume: str = "", **more: Any) -> tuple[Resource, Object]:
    """Return a claim; with a volume it is bound."""
    annotations = {"pv.kubernetes.io/bind-completed": "yes"} if volume else {}
    annotations |= more.pop("annotations", {})
    spec: Object = {
        "accessModes": more.pop("modes", ["ReadWriteOnce"]), "storageClassName": kind,
        "resources": {"requests": {"storage": more.pop("size", "1Gi")}},
    }  # fmt: skip
    if volume:
        spec["volumeName"] = volume
    return CLAIMS, {
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": spec, **more,
    }  # fmt: skip


def volume(
    name: str, kind: str = "", *, of: str = "", nodes: tuple[str, ...] = (), **more: Any
) -> tuple[Resource, Object]:
    """Return a volume; of a claim, and for nodes only."""
    spec: Object = {
        "capacity": {"storage": more.pop("size", "1Gi")}, "accessModes": ["ReadWriteOnce"],
        "storageClassName": kind, "persistentVolumeReclaimPolicy": "Retain",
    }  # fmt: skip
    spec |= more.pop("source", {"hostPath": {"path": f"/data/{name}"}})
    if nodes:
        expression = {"key": HOST, "operator": "In", "values": list(nodes)}
        terms = [{"matchExpressions": [expression]}]
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": terms}}
    if of:
        spec["claimRef"] = {"namespace": "default", "name": of}
    made = {"metadata": {"name": name, "labels": more.pop("labels", {})}, "spec": spec}
    return VOLUMES, {**made, "status": {"phase": "Bound" if of else "Available"}}


def storage_class(name: str, waits: bool = True, **more: Any) -> tuple[Resource, Object]:
    """Return a storage class."""
    mode = "WaitForFirstConsumer" if waits else "Immediate"
    return STORAGE_CLASSES, {
        "metadata": {"name": name}, "provisioner": more.pop("provisioner", "example.test/disk"),
        "volumeBindingMode": mode, **more,
    }  # fmt: skip


def uses(*claims: str) -> list[Object]:
    """Return volumes of a pod."""
    return [
        {"name": f"v{index}", "persistentVolumeClaim": {"claimName": name}}
        for index, name in enumerate(claims)
    ]


def namespace(name: str, **labels: str) -> tuple[Resource, Object]:
    """Return a namespace."""
    return NAMESPACES, {"metadata": {"name": name, "labels": labels}}


def budget(app: str, allowed: int) -> tuple[Resource, Object]:
    """Return a disruption budget that allows so many."""
    return BUDGETS, {
        "metadata": {"name": f"budget-{app}", "namespace": "default"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": app}}},
        "status": {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1,
                   "expectedPods": 1},
    }  # fmt: skip
