"""LimitRanger: what containers, pods and claims ask for, and at most and at least may.

Source: Kubernetes documentation, "Limit Ranges".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from controlplane.admission.refusals import forbidden, is_of
from controlplane.api import codec
from controlplane.api.resource import Context, Object, Resource
from controlplane.kinds.quantity import parse
from controlplane.kinds.strategies.pods.quality import quality_class
from controlplane.kinds.totals import pod_totals
from controlplane.plane import Plane

_ANNOTATION: Final = "kubernetes.io/limit-ranger"

Quantities = Mapping[str, str]
"""Quantities by resource."""


class LimitDefaults:
    """Gives containers the requests and limits that they do not name.

    Args:
        plane: the parts of the server.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def admit(
        self, resource: Resource, value: Object, old: Object | None, context: Context
    ) -> None:
        """Complete a new pod."""
        if is_of(resource, "", "pods") and old is None and not context.subresource:
            for limits in _ranges(self._plane, value):
                add_defaults(value, limits)
            if "qosClass" in value.get("status", {}):
                value["status"]["qosClass"] = quality_class(value["spec"])


class LimitChecks:
    """Refuses what is beyond the limits.

    Args:
        plane: the parts of the server.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def admit(
        self, resource: Resource, value: Object, old: Object | None, context: Context
    ) -> None:
        """Check a new pod, a pod that is resized, or a claim.

        Raises:
            ApiError: it breaks a limit.
        """
        if old is not None and old["metadata"].get("deletionTimestamp"):
            return
        if is_of(resource, "", "pods"):
            if context.subresource != ("" if old is None else "resize"):
                return
            check = pod_problems
        elif is_of(resource, "", "persistentvolumeclaims") and not context.subresource:
            check = claim_problems
        else:
            return
        for limits in _ranges(self._plane, value):
            found = list(dict.fromkeys(check(value.get("spec", {}), limits)))
            if found:
                why = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
                raise forbidden(resource, value["metadata"], why)


def _ranges(plane: Plane, value: Object) -> list[list[Any]]:
    prefix = f"/core/limitranges/{value['metadata']['namespace']}/"
    items = plane.store.read(prefix).items
    return [codec.decode(item).get("spec", {}).get("limits", []) for item in items]


def add_defaults(pod: Object, limits: list[Any]) -> None:
    """Put the defaults of one limit range into a pod, and an annotation that tells so (pure).

    Args:
        pod: which is changed.
        limits: ``spec.limits``.
    """
    requests: dict[str, str] = {}
    maxima: dict[str, str] = {}
    for limit in limits:
        if limit.get("type") == "Container":
            requests.update(limit.get("defaultRequest", {}))
            maxima.update(limit.get("default", {}))
    told: list[str] = []
    spec = pod.get("spec", {})
    for key, what in (("containers", "container"), ("initContainers", "init container")):
        for container in spec.get(key, []):
            for field, word, defaults in (
                ("requests", "request", requests),
                ("limits", "limit", maxima),
            ):
                present = container.get("resources", {}).get(field, {})
                added = {name: text for name, text in defaults.items() if name not in present}
                if added:
                    container.setdefault("resources", {})[field] = {**present, **added}
                    listed = ", ".join(sorted(added))
                    told.append(f"{listed} {word} for {what} {container.get('name', '')}")
    if told:
        annotations = pod["metadata"].setdefault("annotations", {})
        annotations[_ANNOTATION] = f"LimitRanger plugin set: {'; '.join(told)}"


def pod_problems(spec: Object, limits: list[Any]) -> Iterator[str]:
    """Tell which of the limits a pod breaks (pure).

    Args:
        spec: of the pod.
        limits: ``spec.limits`` of a limit range.
    """
    for limit in limits:
        if limit.get("type") == "Container":
            for container in [*spec.get("containers", []), *spec.get("initContainers", [])]:
                resources = container.get("resources", {})
                requested, maximal = resources.get("requests", {}), resources.get("limits", {})
                yield from _problems("Container", limit, requested, maximal)
        elif limit.get("type") == "Pod":
            requested, maximal = pod_totals(spec)
            yield from _problems("Pod", limit, requested, maximal)


def claim_problems(spec: Object, limits: list[Any]) -> Iterator[str]:
    """Tell which of the limits a claim of storage breaks (pure)."""
    requested = spec.get("resources", {}).get("requests", {})
    kind = "PersistentVolumeClaim"
    for limit in limits:
        if limit.get("type") != kind:
            continue
        for name, bound in sorted(limit.get("min", {}).items()):
            yield from _below(kind, name, bound, requested.get(name), None)
        for name, bound in sorted(limit.get("max", {}).items()):
            what = f"maximum {name} usage per {kind} is {bound}"
            if name not in requested:
                yield f"{what}.  No request is specified"
            elif parse(requested[name]) > parse(bound):
                yield f"{what}, but request is {requested[name]}"


def _problems(
    kind: str, limit: Object, requested: Quantities, maximal: Quantities
) -> Iterator[str]:
    for name, bound in sorted(limit.get("min", {}).items()):
        yield from _below(kind, name, bound, requested.get(name), maximal.get(name))
    for name, bound in sorted(limit.get("max", {}).items()):
        yield from _above(kind, name, bound, requested.get(name), maximal.get(name))
    for name, bound in sorted(limit.get("maxLimitRequestRatio", {}).items()):
        yield from _ratio(kind, name, bound, requested.get(name), maximal.get(name))


def _below(
    kind: str, name: str, bound: str, request: str | None, limit: str | None
) -> Iterator[str]:
    what = f"minimum {name} usage per {kind} is {bound}"
    if request is None:
        yield f"{what}.  No request is specified"
    elif parse(request) < parse(bound):
        yield f"{what}, but request is {request}"
    elif limit is not None and parse(limit) < parse(bound):
        yield f"{what}, but limit is {limit}"


def _above(
    kind: str, name: str, bound: str, request: str | None, limit: str | None
) -> Iterator[str]:
    what = f"maximum {name} usage per {kind} is {bound}"
    if limit is None:
        yield f"{what}.  No limit is specified"
    elif parse(limit) > parse(bound):
        yield f"{what}, but limit is {limit}"
    elif request is not None and parse(request) > parse(bound):
        yield f"{what}, but request is {request}"


def _ratio(
    kind: str, name: str, bound: str, request: str | None, limit: str | None
) -> Iterator[str]:
    what = f"{name} max limit to request ratio per {kind} is {bound}"
    nothing = Decimal()
    if request is None or parse(request) == nothing:
        yield f"{what}, but no request is specified or request is 0"
    elif limit is None or parse(limit) == nothing:
        yield f"{what}, but no limit is specified or limit is 0"
    elif parse(limit) > parse(bound) * parse(request):
        yield f"{what}, but provided ratio is {parse(limit) / parse(request):.6f}"
