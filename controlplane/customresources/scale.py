"""The subresource ``scale`` of custom resources: replicas and their selector, by JSONPaths.

Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions",
"Scale subresource".
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from controlplane.api.errors import ApiError, bad_request, invalid
from controlplane.api.merging import merge
from controlplane.api.resource import Object, Resource
from controlplane.customresources import paths
from controlplane.customresources.values import invalid_value
from controlplane.plane import Call, Handler
from controlplane.server.answers import respond
from controlplane.server.body import read_body

_MERGES: Final = (
    "application/merge-patch+json", "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)  # fmt: skip


def serve_scale(places: dict[str, Object]) -> Handler:
    """Return what serves the scales of a definition.

    Args:
        places: ``subresources.scale`` of its versions, by their names.
    """

    async def serve(call: Call) -> web.StreamResponse:
        return await _serve(call, places[call.resource.version])

    return serve


async def _serve(call: Call, place: Object) -> web.StreamResponse:
    registry, resource = call.plane.registry, call.resource
    namespace = call.info.namespace if resource.namespaced else ""
    item = registry.get(resource, namespace, call.info.name)
    if call.info.verb == "get":
        return respond(_scale(resource, registry.read(resource, item), place))
    body = await read_body(call.request, registry.types.kinds)
    if not isinstance(body, dict):
        raise bad_request("the body must be an object of kind Scale")
    if call.info.verb == "patch" and call.request.content_type not in _MERGES:
        listed = ", ".join(_MERGES)
        raise ApiError("UnsupportedMediaType", f"a scale takes these patches: {listed}")

    async def change(old: Object) -> Object:
        wanted = body
        if call.info.verb == "patch":
            wanted = merge(_scale(resource, old, place), body)
        revision = wanted.get("metadata", {}).get("resourceVersion")
        if revision:
            old["metadata"]["resourceVersion"] = revision
        else:
            old["metadata"].pop("resourceVersion", None)
        _set(old, paths.steps(place["specReplicasPath"]), _replicas(resource, call, wanted))
        return old

    context = replace(call.context, subresource="scale")
    value = await registry.update(resource, namespace, call.info.name, change, context)
    return respond(_scale(resource, value, place))


def _replicas(resource: Resource, call: Call, wanted: Object) -> int:
    spec = wanted.get("spec") or {}
    replicas = spec.get("replicas", 0) if isinstance(spec, dict) else None
    if isinstance(replicas, bool) or not isinstance(replicas, int):
        raise bad_request("Scale: spec.replicas must be an integer")
    if not 0 <= replicas < 1 << 31:
        text = "must be greater than or equal to 0"
        cause = invalid_value("spec.replicas", replicas, text)
        raise invalid("Scale", "autoscaling", call.info.name, [cause])
    return replicas


def _scale(resource: Resource, value: Object, place: Object) -> Object:
    meta = value["metadata"]
    told = {
        key: meta[key]
        for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        if key in meta
    }
    status: dict[str, Any] = {"replicas": _count(value, place["statusReplicasPath"])}
    if place.get("labelSelectorPath"):
        selector = paths.get(value, paths.steps(place["labelSelectorPath"]))
        if isinstance(selector, str) and selector:
            status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": told,
        "spec": {"replicas": _count(value, place["specReplicasPath"])},
        "status": status,
    }


def _count(value: Object, path: str) -> int:
    found = paths.get(value, paths.steps(path))
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def _set(value: Object, names: tuple[str, ...], replicas: int) -> None:
    for name in names[:-1]:
        below = value.setdefault(name, {})
        if not isinstance(below, dict):
            raise bad_request(f"{'.'.join(names)} cannot be set: {name} is no object")
        value = below
    value[names[-1]] = replicas
