"""Changing the resources of a pod in place: the subresource ``resize`` (pure).

Source: Kubernetes documentation, "Resize CPU and Memory Resources assigned to Containers";
KEP-1287, KEP-5419 (pod level resources).
"""

from __future__ import annotations

import copy
from typing import Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import forbidden, wrong
from controlplane.api.resource import Object
from controlplane.kinds.strategies.pods.quality import quality_class
from controlplane.kinds.strategies.pods.updates import plain
from controlplane.kinds.strategies.podspec.annotations import MIRROR
from controlplane.kinds.totals import is_sidecar

_LISTS: Final = ("containers", "initContainers")
_MUTABLE: Final = ("cpu", "memory")


def keep_resize(spec: Object, old: Object) -> Object:
    """Return the old spec with the resources of the new one; all else of that is dropped.

    If the containers are not the same ones, the new spec is returned, for the checks to refuse.
    """
    result = copy.deepcopy(old)
    for name in _LISTS:
        now, then = spec.get(name, []), result.get(name, [])
        if [c.get("name") for c in now] != [c.get("name") for c in then]:
            return spec
        for container, kept in zip(now, then, strict=True):
            for key in ("resources", "resizePolicy"):
                _take(kept, container, key)
    _take(result, spec, "resources")
    return result


def check_resize(pod: Object, old: Object) -> list[Cause]:
    """Return what of a resize may not be."""
    if MIRROR in old["metadata"].get("annotations", {}):
        return [forbidden("", "static pods cannot be resized")]
    spec, before = pod["spec"], old["spec"]
    if before.get("os", {}).get("name") == "windows":
        return [forbidden("", "windows pods cannot be resized")]
    causes: list[Cause] = []
    quality = old.get("status", {}).get("qosClass") or quality_class(before)
    if quality != quality_class(spec):
        text = "Pod QOS Class may not change as a result of resizing"
        causes.append(wrong("spec", quality, text))
    if not _is_supported(old):
        causes.append(forbidden("spec", "Pod running on node without support for resize"))
    rest = copy.deepcopy(spec)
    if _is_set(before) or _is_set(spec):
        causes += _check_pod_level(rest, before)
    reordered = _check_order(spec, before)
    if reordered:
        return causes + reordered
    for name in ("initContainers", "containers"):
        for index, container in enumerate(before.get(name, ())):
            at = f"spec.{name}[{index}].resources"
            causes += _removed(spec[name][index], container, at, "resource")
    for name in _LISTS:
        for index, container in enumerate(before.get(name, ())):
            changed = plain(rest[name][index]) != plain(container)
            causes += _check_container(rest[name][index], container, changed, name, index)
    if not causes and plain(rest) != plain(before):
        causes.append(forbidden("spec", "only cpu and memory resources are mutable"))
    return causes


def _check_container(
    rest: Object, old: Object, changed: bool, name: str, index: int
) -> list[Cause]:
    rest["resources"] = _without_mutable(rest.get("resources", {}), old.get("resources", {}))
    same = plain({**rest, "resources": {}}) == plain({**old, "resources": {}}) and _full(
        rest["resources"]
    ) == _full(old.get("resources", {}))
    rest["resources"] = rest["resources"] if not same else old.get("resources", {})
    if name == "containers":
        text = "only cpu and memory resources are mutable"
        return [] if same else [forbidden("spec", text)]
    causes: list[Cause] = []
    at = f"spec.initContainers[{index}]"
    if not same:
        text = "only cpu and memory resources for init or sidecar containers are mutable"
        causes.append(forbidden(at, text))
    if changed and not is_sidecar(rest):
        text = (
            "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
        )
        causes += [
            forbidden(at, text)
            for policy in rest.get("resizePolicy", ())
            if policy.get("restartPolicy") == "RestartContainer"
        ]
    return causes


def _check_order(spec: Object, before: Object) -> list[Cause]:
    causes: list[Cause] = []
    for name in _LISTS:
        now, then = spec.get(name, []), before.get(name, [])
        if len(now) != len(then):
            text = f"{name} may not be added or removed on resize"
            causes.append(forbidden(f"spec.{name}", text))
            continue
        causes += [
            forbidden(
                f"spec.{name}[{index}].name", f"{name} may not be renamed or reordered on resize"
            )
            for index, container in enumerate(then)
            if now[index].get("name") != container.get("name")
        ]
    return causes


def _check_pod_level(rest: Object, before: Object) -> list[Cause]:
    if "resources" in before and "resources" not in rest:
        return [forbidden("spec.resources", "pod-level resources cannot be removed")]
    causes: list[Cause] = []
    if "resources" in before:
        causes += _removed(rest, before, "spec.resources", "pod-level resource")
    old = before.get("resources", {})
    munged = _without_mutable(rest.get("resources", {}), old)
    if _full(munged) != _full(old):
        text = "only cpu and memory resources are mutable at pod-level"
        causes.append(forbidden("spec", text))
    _take(rest, before, "resources")
    return causes


def _removed(value: Object, old: Object, path: str, what: str) -> list[Cause]:
    now, then = value.get("resources", {}), old.get("resources", {})
    return [
        forbidden(f"{path}.{kind}", f"{what} {kind} cannot be removed")
        for kind in ("requests", "limits")
        if then.get(kind, {}).keys() - now.get(kind, {}).keys()
    ]


def _without_mutable(resources: Object, old: Object) -> Object:
    """Return resources with the CPU and memory of the old ones, and without claims."""
    result: Object = {}
    for kind in ("limits", "requests"):
        then = old.get(kind, {})
        result[kind] = {
            **{name: v for name, v in resources.get(kind, {}).items() if name not in _MUTABLE},
            **{name: then[name] for name in _MUTABLE if name in then},
        }
    return result


def _full(resources: Object) -> Object:
    return {kind: resources[kind] for kind in sorted(resources) if resources[kind]}


def _is_set(spec: Object) -> bool:
    resources = spec.get("resources", {})
    return bool(resources.get("requests") or resources.get("limits"))


def _is_supported(pod: Object) -> bool:
    for status in pod.get("status", {}).get("containerStatuses", ()):
        if "running" in status.get("state", {}):
            # A kubelet that can resize tells what containers have.
            return "resources" in status
    return True


def _take(value: Object, source: Object, key: str) -> None:
    if key in source:
        value[key] = copy.deepcopy(source[key])
    else:
        value.pop(key, None)
