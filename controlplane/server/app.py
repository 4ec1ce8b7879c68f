"""The HTTP application: every request, and the one place where errors become answers."""

from __future__ import annotations

import logging
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler as HttpHandler

from controlplane.api import codec
from controlplane.api.errors import ApiError
from controlplane.plane import Plane
from controlplane.server import discovery
from controlplane.server.answers import (
    AGGREGATED_MEDIA,
    negotiate,
    respond,
    respond_error,
    tagged,
)
from controlplane.server.body import MAX_BODY
from controlplane.server.keys import INFO
from controlplane.server.request import parse_request
from controlplane.server.resources import Resources
from controlplane.store.model import StoreError, TooLargeError
from kubeletpy_common import logs

_log = logging.getLogger(__name__)

# What clients compare with: the version of Kubernetes whose API this server speaks.
VERSION: Final = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.0+kubeletpy",
    "platform": "linux/amd64",
}


class Server:
    """Answers requests.

    Args:
        plane: the parts.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._catalog = plane.catalog
        self._resources = Resources(plane)

    def application(self) -> web.Application:
        """Return it as an application for aiohttp."""
        middlewares = [web.middleware(_as_status), *self._plane.middlewares]
        app = web.Application(client_max_size=MAX_BODY, middlewares=middlewares)
        app.on_response_prepare.extend(self._plane.prepared)
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        for delegate in self._plane.delegates:
            other = delegate(request)
            if other is not None:
                return await other(request)
        info = request[INFO]
        if info is not None:
            return await self._resources.serve(request, info)
        path = request.path.rstrip("/")
        handler = self._plane.paths.get(path)
        if handler is not None:
            return await handler(request)
        for tree, handler in self._plane.trees.items():
            if path.startswith(f"{tree}/"):
                return await handler(request)
        return self._answer_plain(request)

    def _answer_plain(self, request: web.Request) -> web.Response:
        path = request.path.rstrip("/")
        if request.method not in ("GET", "HEAD"):
            raise ApiError("MethodNotAllowed", f"{request.method} is not supported here")
        if path == "/version":
            return respond(VERSION)
        found = self._discover(request, path)
        if found is None:
            raise ApiError("NotFound", "the server could not find the requested resource")
        return found

    def _discover(self, request: web.Request, path: str) -> web.Response | None:
        parts = path.strip("/").split("/")
        found: dict[str, Any] | None = None
        if path in ("/api", "/apis"):
            return self._discover_all(request, core=path == "/api")
        if parts[0] == "api" and len(parts) == 2:
            found = discovery.resource_list(self._catalog, "", parts[1])
        elif parts[0] == "apis" and len(parts) == 2:
            found = discovery.one_group(self._catalog, parts[1])
        elif parts[0] == "apis" and len(parts) == 3:
            found = discovery.resource_list(self._catalog, parts[1], parts[2])
        return None if found is None else respond(found)

    def _discover_all(self, request: web.Request, *, core: bool) -> web.Response:
        form = negotiate(request.headers.get("Accept", ""), (discovery.AGGREGATED,))
        if form.shape:
            groups = [""] if core else self._catalog.groups()
            content = codec.encode(discovery.aggregated(self._catalog, groups))
            return tagged(request, content, AGGREGATED_MEDIA)
        if core:
            return respond(discovery.core_versions(request.host))
        return respond(discovery.group_list(self._catalog))


async def _as_status(request: web.Request, handler: HttpHandler) -> web.StreamResponse:
    """Read the path for all that follow, and turn what they raise into answers."""
    try:
        request[INFO] = parse_request(request.method, request.path, request.query)
        return await handler(request)
    except ApiError as error:
        return respond_error(error)
    except TooLargeError as error:
        return respond_error(ApiError("RequestEntityTooLarge", str(error)))
    except StoreError as error:
        logs.event(_log, logging.ERROR, "the store failed", error=str(error))
        return respond_error(ApiError("ServiceUnavailable", str(error), retry_after=1))
    except (ConnectionResetError, TimeoutError):
        raise
    except Exception as error:
        _log.exception("a request failed", extra={"fields": {"path": request.path}})
        text = f"Internal error occurred: {type(error).__name__}: {error}"
        return respond_error(ApiError("InternalError", text))
