"""What stands between the kubelet and its API server, and fails as networks and servers do."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

from kubeletpy_common.linux.namespaces import in_namespace

SLOW = 2.0
"""Seconds that each answer takes, in mode SLOW."""
_SKIPPED = frozenset({"host", "connection", "transfer-encoding", "content-length"})


class Mode(StrEnum):
    """How it behaves."""

    THROUGH = "through"
    AWAY = "away"
    BROKEN = "broken"
    SLOW = "slow"
    FORGETFUL = "forgetful"


class Faults:
    """A proxy on loopback, without TLS.

    Args:
        target: URL of the API server.
        context: with the certificate of the administrator.
    """

    def __init__(self, target: str, context: ssl.SSLContext) -> None:
        self.url = ""
        self.mode = Mode.THROUGH
        self.seen: set[Mode] = set()
        self._target = target
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._requests: set[asyncio.Task[object]] = set()

    def switch(self, mode: Mode) -> None:
        """Behave as ``mode`` from now on; what is under way is cut off."""

        def cut() -> None:
            self.mode = mode
            for task in list(self._requests):
                task.cancel()

        self._loop.call_soon_threadsafe(cut)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on, or fail it."""
        task = asyncio.current_task()
        assert task is not None
        self._requests.add(task)
        self.seen.add(self.mode)
        try:
            return await self._answer(request)
        except asyncio.CancelledError:
            if request.transport is not None:
                request.transport.abort()
            raise
        finally:
            self._requests.discard(task)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.mode is Mode.AWAY:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if self.mode is Mode.BROKEN:
            return web.json_response({"kind": "Status", "code": 500, "message": "no"}, status=500)
        if self.mode is Mode.SLOW:
            await asyncio.sleep(SLOW)
        if self.mode is Mode.FORGETFUL and "watch" in request.query:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
            return web.json_response(gone, status=410)
        return await self._pass_on(request)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        headers = {
            name: value for name, value in request.headers.items() if name.lower() not in _SKIPPED
        }
        async with self._session.request(
            request.method, self._target + request.raw_path, data=await request.read(),
            headers=headers, ssl=self._context,
        ) as answer:  # fmt: skip
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    async def _serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout) as self._session:
            application = web.Application(client_max_size=16 * 1024 * 1024)
            application.router.add_route("*", "/{path:.*}", self.answer)
            runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            ready.set()
            await stop.wait()
            await runner.cleanup()

    @contextlib.contextmanager
    def serving(self, netns: Path) -> Iterator[None]:
        """Serve within a network namespace, in a thread of its own."""
        ready, stop = threading.Event(), asyncio.Event()

        def work() -> None:
            asyncio.set_event_loop(self._loop)
            # The thread does nothing else, so it may stay there.
            with in_namespace(netns):
                self._loop.run_until_complete(self._serve(ready, stop))

        thread = threading.Thread(target=work)
        thread.start()
        try:
            assert ready.wait(10)
            yield
        finally:
            self._loop.call_soon_threadsafe(stop.set)
            thread.join(20)
            self._loop.close()


def write_kubeconfig(path: Path, url: str) -> None:
    """Write a kubeconfig that shows nothing: the proxy adds the certificate."""
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
