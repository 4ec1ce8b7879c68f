"""Putting answers: as JSON or YAML, as objects, as tables, or as their metadata alone.

Source: Kubernetes documentation, "Kubernetes API Concepts": "Receiving resources as Tables",
"Metadata-only fetches", "Resource encodings".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import yaml
from aiohttp import web

from controlplane.api import codec
from controlplane.api.errors import ApiError
from controlplane.api.resource import Object, Resource
from controlplane.server.tables import make_table

_META = "meta.k8s.io/v1"
AGGREGATED_MEDIA: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
"""Of the answer that tells all groups with their resources."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a client accepts best of what there is.

    Attributes:
        media: ``application/json`` or ``application/yaml``.
        shape: "" for objects, ``Table``, ``PartialObjectMetadata``, ``PartialObjectMetadataList``,
            or ``APIGroupDiscoveryList``.
    """

    media: str = "application/json"
    shape: str = ""


def negotiate(accept: str, shapes: Iterable[str] = ()) -> Form:
    """Return the first form of an ``Accept`` header that can be had.

    Args:
        accept: the header; "" takes anything.
        shapes: that can be had, besides objects.

    Raises:
        ApiError: none can.
    """
    if not accept.strip():
        return Form()
    for entry in accept.split(","):
        media, *parameters = (part.strip() for part in entry.split(";"))
        wanted = dict(part.split("=", 1) for part in parameters if "=" in part)
        if media in ("*/*", "application/*"):
            media = "application/json"
        if media not in ("application/json", "application/yaml"):
            continue
        shape = wanted.get("as", "")
        if not shape:
            return Form(media)
        if shape in shapes and wanted.get("v") in ("v1", "v2"):
            return Form(media, shape)
    raise ApiError(
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/yaml",
    )


OBJECT_SHAPES = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")


def respond(value: Any, *, status: int = 200, media: str = "application/json") -> web.Response:
    """Return an answer with a decoded value."""
    return respond_bytes(codec.encode(value), status=status, media=media)


def respond_bytes(
    content: bytes, *, status: int = 200, media: str = "application/json"
) -> web.Response:
    """Return an answer with JSON that is there already."""
    if media == "application/yaml":
        # JSON is YAML; the round trip makes it the kind that people write.
        text = yaml.dump(yaml.load(content, Loader=yaml.CSafeLoader), Dumper=yaml.CSafeDumper)
        content = text.encode()
    return web.Response(body=content, status=status, content_type=media)


def tagged(request: web.Request, content: bytes, media: str) -> web.Response:
    """Answer with a document that clients keep until its tag changes (RFC 9110, section 8.8.3)."""
    tag = f'"{hashlib.sha256(content).hexdigest().upper()}"'
    headers = {"ETag": tag, "Vary": "Accept", "Cache-Control": "public"}
    if tag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    return web.Response(body=content, headers={**headers, "Content-Type": media})


def respond_error(error: ApiError) -> web.Response:
    """Return a failure as a Status."""
    answer = respond(error.to_status(), status=error.code)
    if error.retry_after:
        answer.headers["Retry-After"] = str(error.retry_after)
    return answer


def object_bytes(resource: Resource, content: bytes, form: Form, include: str) -> bytes:
    """Return one object in the form that is asked for.

    Args:
        resource: its kind.
        content: as the store keeps it.
        form: asked for.
        include: ``includeObject`` of tables.
    """
    converts = resource.strategy.converts
    if not form.shape and not converts:
        return content
    value = codec.decode_bytes(content)
    if converts and value["apiVersion"] != resource.api_version:
        value = resource.strategy.to_served(value)
    if not form.shape:
        return codec.encode(value)
    if form.shape == "Table":
        return codec.encode(make_table(resource, [value], {}, include))
    if form.shape == "PartialObjectMetadataList":
        raise ApiError(
            "NotAcceptable",
            f"you requested {form.shape}, but the requested object is not a list "
            f"(*core.{resource.kind})",
        )
    return codec.encode(_metadata_of(value))


def list_bytes(
    resource: Resource, contents: list[bytes], meta: Object, form: Form, include: str
) -> bytes:
    """Return a list in the form that is asked for."""
    if resource.strategy.converts:
        contents = [object_bytes(resource, content, Form(), "") for content in contents]
    if not form.shape:
        head = codec.encode(
            {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": meta}
        )
        return b"".join((head[:-1], b',"items":[', b",".join(contents), b"]}"))
    if form.shape == "PartialObjectMetadata":
        raise ApiError(
            "NotAcceptable",
            f"you requested {form.shape}, but the requested object is a list "
            f"(*core.{resource.kind}List)",
        )
    values = [codec.decode_bytes(content) for content in contents]
    if form.shape == "Table":
        return codec.encode(make_table(resource, values, meta, include))
    return codec.encode(
        {
            "kind": "PartialObjectMetadataList",
            "apiVersion": _META,
            "metadata": meta,
            "items": [_metadata_of(value) for value in values],
        }
    )


def add_warnings(answer: web.StreamResponse, warnings: list[str]) -> None:
    """Put warnings into the header that clients show (RFC 7234, section 5.5)."""
    for text in dict.fromkeys(warnings):
        plain = re.sub(r"[^\x20-\x7e]", "?", text).replace("\\", "\\\\").replace('"', '\\"')
        answer.headers.add("Warning", f'299 - "{plain[:2048]}"')


def _metadata_of(value: Object) -> Object:
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": _META,
        "metadata": value["metadata"],
    }
