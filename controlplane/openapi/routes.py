"""``/openapi/v2`` and ``/openapi/v3``.

Source: KEP-2896: the index of version 3 names each document with its hash; under that name it never
changes and may be kept for ever.
"""

from __future__ import annotations

import gzip
import time
from email.utils import formatdate
from typing import Final

from aiohttp import web

from controlplane.api.errors import ApiError
from controlplane.openapi.documents import Document, Documents
from controlplane.openapi.protobuf import MEDIA
from controlplane.plane import Plane
from controlplane.server.answers import respond

_JSON: Final = "application/json"
_PROTOBUF: Final = (MEDIA, MEDIA.replace("@", "."))
_YEAR: Final = 365 * 86400


def install(plane: Plane) -> Documents:
    """Hook in the paths."""
    documents = Documents(plane.types, plane.catalog)
    routes = _Routes(documents)
    plane.paths["/openapi/v2"] = routes.version_2
    plane.paths["/openapi/v3"] = routes.index
    plane.trees["/openapi/v3"] = routes.version_3
    return documents


class _Routes:
    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def version_2(self, request: web.Request) -> web.Response:
        media = _accepted(request, (_JSON, *_PROTOBUF))
        document = await self._documents.version_2(as_protobuf=media in _PROTOBUF)
        return _answer(request, document, _JSON if media == _JSON else _PROTOBUF[1])

    async def index(self, request: web.Request) -> web.Response:
        return respond(
            {
                "paths": {
                    path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={etag}"}
                    for path, etag in self._documents.index().items()
                }
            }
        )

    async def version_3(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix("/openapi/v3/").rstrip("/")
        media = _accepted(request, (_JSON,))
        document = await self._documents.version_3(path)
        if document is None:
            raise ApiError("NotFound", "the server could not find the requested resource")
        wanted = request.query.get("hash", "")
        if wanted and wanted != document.etag:
            location = f"/openapi/v3/{path}?hash={document.etag}"
            return web.Response(status=301, headers={"Location": location, "Vary": "Accept"})
        answer = _answer(request, document, media)
        if wanted:
            answer.headers["Cache-Control"] = "public, immutable"
            answer.headers["Expires"] = formatdate(time.time() + _YEAR, usegmt=True)
        return answer


def _accepted(request: web.Request, offered: tuple[str, ...]) -> str:
    """Return the first form of the request that is offered.

    Raises:
        ApiError: none is.
    """
    accept = request.headers.get("Accept", "") or "*/*"
    for entry in accept.split(","):
        media = entry.partition(";")[0].strip()
        if media in offered:
            return media
        if media in ("*/*", "application/*"):
            return offered[0]
    listed = ", ".join(offered)
    raise ApiError("NotAcceptable", f"only the following media types are accepted: {listed}")


def _answer(request: web.Request, document: Document, media: str) -> web.Response:
    headers = {
        "ETag": f'"{document.etag}"',
        "Vary": "Accept, Accept-Encoding",
        "Cache-Control": "no-cache, private",
    }
    if f'"{document.etag}"' in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    content = document.packed
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
    else:
        content = gzip.decompress(content)
    return web.Response(body=content, headers=headers, content_type=media)
