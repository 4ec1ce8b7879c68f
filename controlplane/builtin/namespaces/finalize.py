"""The subresource by which the finalizers in a namespace's spec are changed.

Source: Kubernetes API reference, Namespace, "replace finalize of the specified Namespace".
"""

from __future__ import annotations

from aiohttp import web

from controlplane.api import codec
from controlplane.api.resource import Object
from controlplane.plane import Call
from controlplane.server.answers import OBJECT_SHAPES, negotiate, object_bytes, respond_bytes
from controlplane.server.body import read_body


async def serve_finalize(call: Call) -> web.StreamResponse:
    """Answer ``PUT /api/v1/namespaces/<name>/finalize``: ``spec.finalizers`` become the body's.

    The last one taken off a namespace that is being deleted lets it go.

    Raises:
        ApiError: there is no such namespace, or it has changed meanwhile.
    """
    form = negotiate(call.request.headers.get("Accept", ""), OBJECT_SHAPES)
    registry = call.plane.registry
    body = await read_body(call.request, registry.types.kinds)
    wanted = registry.clean(call.resource, body, call.context, "Ignore")

    async def change(old: Object) -> Object:
        meta = {**old["metadata"]}
        # Name, uid and version are compared with those of the object that is there.
        meta.pop("resourceVersion", None)
        meta.update(
            (key, wanted["metadata"][key])
            for key in ("name", "uid", "resourceVersion")
            if wanted["metadata"].get(key)
        )
        finalizers = wanted.get("spec", {}).get("finalizers", [])
        return {**old, "metadata": meta, "spec": {**old.get("spec", {}), "finalizers": finalizers}}

    changed = await registry.update(call.resource, "", call.info.name, change, call.context)
    content = object_bytes(call.resource, codec.encode(changed), form, "")
    return respond_bytes(content, media=form.media)
