"""A registry inside the test's event loop that answers as the test says; and keeps what it saw.

async with ScriptedRegistry() as registry:
    registry.add(image, "library/web", "v1")
    registry.script = my_answer          # async (request) -> response, or None for the usual
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType

from aiohttp import web

from kubeletpy_common.linux.namespaces import in_namespace
from tests.support.ociimage import OciImage, digest_of

Script = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


async def _usual(_: web.Request) -> web.StreamResponse | None:
    return None


class ScriptedRegistry:
    """Serves manifests and blobs on a loopback port of its own, by plain HTTP or by TLS."""

    def __init__(self, tls: ssl.SSLContext | None = None, netns: Path | None = None) -> None:
        """Serve by TLS if ``tls`` is given, on the loopback of ``netns`` or of this process."""
        self.host = ""
        self._netns = netns
        self._tls = tls
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[bytes, str]] = {}
        self.script: Script = _usual
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        """Method, path with query, and headers of every request so far."""
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}"

    def paths(self) -> list[str]:
        """Return the paths that were asked for, in order."""
        return [path for _, path, _ in self.seen]

    def secrets(self) -> list[str]:
        """Return every Authorization header that arrived."""
        return [headers["Authorization"] for *_, headers in self.seen if "Authorization" in headers]

    def add(self, image: OciImage, name: str, tag: str) -> str:
        """Serve an image under a tag and its digest; returns the digest."""
        self.blobs |= image.blobs
        return self.add_manifest(image.manifest, image.media_type, name, tag)

    def add_manifest(self, data: bytes, media_type: str, name: str, tag: str) -> str:
        """Serve a manifest or index under a tag and its digest; returns the digest."""
        for reference in (tag, digest_of(data)):
            self.manifests[f"/v2/{name}/manifests/{reference}"] = (data, media_type)
        return digest_of(data)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path_qs, dict(request.headers)))
        scripted = await self.script(request)
        if scripted is not None:
            return scripted
        if request.path in self.manifests:
            data, media_type = self.manifests[request.path]
            headers = {"Content-Type": media_type, "Docker-Content-Digest": digest_of(data)}
            return web.Response(body=data, headers=headers)
        blob = self.blobs.get(request.path.rpartition("/")[2])
        if "/blobs/" not in request.path or blob is None:
            return web.json_response({"errors": [{"code": "NAME_UNKNOWN"}]}, status=404)
        start = request.http_range.start
        if start is None:
            return web.Response(body=blob)
        headers = {"Content-Range": f"bytes {start}-{len(blob) - 1}/{len(blob)}"}
        return web.Response(status=206, body=blob[start:], headers=headers)

    async def __aenter__(self) -> ScriptedRegistry:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        with in_namespace(self._netns) if self._netns else nullcontext():
            listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(self._runner, listener, ssl_context=self._tls).start()
        address = self._runner.addresses[0]
        self.host = f"127.0.0.1:{address[1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
