"""Upgraded connections: after both sides have agreed, bytes go both ways as they are.

Source: RFC 9110, section 7.8.
"""

from __future__ import annotations

from aiohttp import web

from controlplane.api.errors import ApiError
from controlplane.proxying.backends import Backends
from controlplane.proxying.headers import Headers, request_headers
from controlplane.proxying.targets import Target
from kubeletpy_common.relaying import (
    NoUpgradeError,
    read_head,
    read_refusal,
    relay,
    request_head,
)
from kubeletpy_common.upgrades import Upgraded, take_over


async def serve_upgrade(
    request: web.Request,
    backends: Backends,
    target: Target,
    path: str,
    more: Headers = [],  # noqa: B006 - it is only read
) -> web.StreamResponse:
    """Pass an upgrade on and, once it is agreed, everything until one side ends.

    Args:
        request: that asks for the upgrade.
        backends: to connect by.
        target: to connect to.
        path: with the query, encoded.
        more: headers for the backend.

    Raises:
        ApiError: the backend cannot be reached, or does not speak HTTP.
    """
    backend = await backends.connect(target)
    try:
        await backend.write(_head(request, target, path, more))
        head, status = await read_head(backend)
        if status != 101:
            refusal = await read_refusal(backend, head, status)
            headers = {"Content-Type": refusal.content_type}
            return web.Response(status=refusal.status, body=refusal.body, headers=headers)
        client = take_over(request, head)
        await relay(client, backend)
        return Upgraded()
    except NoUpgradeError as error:
        raise ApiError("InternalError", f"{target.authority}: {error}") from error
    except ConnectionError as error:
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("the client went away") from error
        text = f"the connection to {target.authority} broke: {error}"
        raise ApiError("InternalError", text) from error
    finally:
        backend.abort()


def _head(request: web.Request, target: Target, path: str, more: Headers) -> bytes:
    peer = (request.remote or "").partition("%")[0]
    headers = request_headers(request.headers.items(), peer, upgrade=True)
    return request_head(request.method, path, target.authority, [*headers, *more])
