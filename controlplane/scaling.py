"""The subresource ``scale``: how many replicas something has, whatever its kind.

Source: Kubernetes documentation, "Custom Resources", "Scale subresource"; autoscaling/v1 Scale;
server-side apply: who sets the replicas of a Scale owns them in the object itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from controlplane.api import codec
from controlplane.api.errors import bad_request, invalid
from controlplane.api.metadata import wrong
from controlplane.api.resource import Column, Object, Resource, Strategy
from controlplane.kinds import cells
from controlplane.plane import Call, Handler, Plane
from controlplane.server.answers import OBJECT_SHAPES, negotiate, object_bytes, respond_bytes
from controlplane.server.body import read_body
from controlplane.server.patching import APPLY_TYPE, applier, patcher
from controlplane.server.request import is_true

Path = tuple[str, ...]


class _Scales(Strategy):
    columns = (
        Column("Name", description="Of what is scaled."),
        Column("Desired", "integer", description="How many replicas are wanted."),
        Column("Available", "integer", description="How many replicas there are."),
        Column("Age", description="How long ago it was made."),
    )

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        meta, status = value["metadata"], value.get("status", {})
        age = cells.age_of(meta.get("creationTimestamp", ""))
        return [meta["name"], value["spec"].get("replicas", 0), status.get("replicas", 0), age]


_SCALE: Final = Resource(
    group="autoscaling",
    version="v1",
    plural="scales",
    singular="scale",
    kind="Scale",
    namespaced=True,
    type_name="autoscaling.v1.Scale",
    strategy=_Scales(),
)


def _by_labels(value: Object) -> str:
    selector = value["spec"].get("selector", {})
    return ",".join(f"{key}={item}" for key, item in sorted(selector.items()))


def _by_selector(value: Object) -> str:
    return cells.selector(value["spec"].get("selector"))


@dataclass(frozen=True, slots=True)
class Scalable:
    """Where a kind keeps what a Scale tells.

    Attributes:
        wanted: path of the number of replicas that are wanted.
        found: path of the number that there are.
        selector: returns the label selector of the replicas as text; "" for none.
    """

    wanted: Path = ("spec", "replicas")
    found: Path = ("status", "replicas")
    selector: Callable[[Object], str] = _by_selector


def install(plane: Plane) -> None:
    """Serve the scales of the built-in kinds."""
    plain = scale_handler(Scalable())
    for plural in ("deployments", "replicasets", "statefulsets"):
        plane.handlers["apps", plural, "scale"] = plain
    by_labels = scale_handler(Scalable(selector=_by_labels))
    plane.handlers["", "replicationcontrollers", "scale"] = by_labels


def scale_handler(kind: Scalable) -> Handler:
    """Return what serves the scales of a kind: get, update and all patches."""

    async def serve(call: Call) -> web.StreamResponse:
        form = negotiate(call.request.headers.get("Accept", ""), OBJECT_SHAPES)
        registry, info = call.plane.registry, call.info
        namespace = info.namespace if call.resource.namespaced else ""
        if info.verb == "get":
            item = registry.get(call.resource, namespace, info.name)
            value = registry.read(call.resource, item)
        else:
            change, applied = await _change(call, kind)
            value = await registry.update(
                call.resource, namespace, info.name, change, call.context, applied=applied
            )
        content = codec.encode(scale_of(value, kind))
        include = call.request.query.get("includeObject", "")
        return respond_bytes(object_bytes(_SCALE, content, form, include), media=form.media)

    return serve


def scale_of(value: Object, kind: Scalable) -> Object:
    """Return the Scale of an object."""
    meta = value["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    wanted, selector = _at(value, kind.wanted) or 0, kind.selector(value)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in kept if key in meta},
        "spec": {"replicas": wanted} if wanted else {},
        "status": {
            "replicas": _at(value, kind.found) or 0,
            **({"selector": selector} if selector else {}),
        },
    }


async def _change(call: Call, kind: Scalable) -> tuple[Any, bool]:
    """Return what changes an object by a request for its Scale, and whether that is an apply."""
    registry, context, request = call.plane.registry, call.context, call.request
    validation = request.query.get("fieldValidation") or "Warn"
    body = await read_body(request, registry.types.kinds)
    if request.method == "PUT":
        sent = registry.clean(_SCALE, body, context, validation)

        async def update(old: Object) -> Object:
            return _scaled(old, sent, kind)

        return update, False
    if request.content_type == APPLY_TYPE:
        return _apply(call, kind, registry.clean(_SCALE, body, context, validation)), True
    patch = patcher(registry, _SCALE, request.content_type, body, context, validation)

    async def patched(old: Object) -> Object:
        return _scaled(old, await patch(scale_of(old, kind)), kind)

    return patched, False


def _apply(call: Call, kind: Scalable, scale: Object) -> Any:
    """Return what applies a Scale: an apply of the one field of the object itself."""
    if not call.request.query.get("fieldManager"):
        raise bad_request("PatchOptions.fieldManager is required for apply patch")
    _check(scale, call.info.name)
    config: Object = {
        "apiVersion": call.resource.api_version,
        "kind": call.resource.kind,
        "metadata": {**scale["metadata"], "name": call.info.name},
    }
    if "replicas" in scale.get("spec", {}):
        _put(config, kind.wanted, scale["spec"]["replicas"])
    force = is_true(call.request.query.get("force", ""))
    return applier(call.plane.registry, call.resource, config, call.context, force=force)


def _scaled(old: Object, scale: Object, kind: Scalable) -> Object:
    """Return an object with the replicas of a Scale, under its preconditions."""
    meta = scale["metadata"]
    name = old["metadata"]["name"]
    if meta.get("name", name) != name:
        raise bad_request(
            f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
        )
    _check(scale, name)
    value = copy.deepcopy(old)
    _put(value, kind.wanted, scale.get("spec", {}).get("replicas", 0))
    value["metadata"].pop("resourceVersion", None)
    for key in ("resourceVersion", "uid"):
        if meta.get(key):
            value["metadata"][key] = meta[key]
    return value


def _check(scale: Object, name: str) -> None:
    replicas = scale.get("spec", {}).get("replicas", 0)
    if replicas < 0:
        cause = wrong("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid("Scale", "autoscaling", name, [cause])


def _at(value: Any, path: Path) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _put(value: Object, path: Path, item: Any) -> None:
    *above, last = path
    for key in above:
        value = value.setdefault(key, {})
    value[last] = item
