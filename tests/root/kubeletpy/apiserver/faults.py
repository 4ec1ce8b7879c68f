"""What stands between the kubelet and its API server, and fails as networks and servers do."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

from kubeletpy_common.linux.namespaces import in_namespace
from tests.support.circumstances import patient

SLOW = 2.0
"""Seconds that each answer takes, in mode SLOW."""
SHIFTS = {"ahead": timedelta(hours=1), "behind": timedelta(hours=-1)}
"""By how much the clock of the API server is wrong."""
_OWN_TIMES = re.compile(
    rb'"(creationTimestamp|deletionTimestamp|expirationTimestamp)":\s*"([^"]+)"'
)
"""Times that an API server writes by its own clock; all others are the kubelet's."""
_SKIPPED = frozenset({"host", "connection", "transfer-encoding", "content-length"})


class Mode(StrEnum):
    """How it behaves."""

    THROUGH = "through"
    AWAY = "away"
    BROKEN = "broken"
    SLOW = "slow"
    FORGETFUL = "forgetful"
    AHEAD = "ahead"
    BEHIND = "behind"


class Faults:
    """A proxy on loopback.

    Args:
        target: URL of the API server.
        context: with the certificate of the administrator.
        tls: what to serve with; None: without TLS.

    Attributes:
        tokens: how many tokens were asked for.
    """

    def __init__(
        self, target: str, context: ssl.SSLContext, tls: ssl.SSLContext | None = None
    ) -> None:
        self.url = ""
        self.tokens = 0
        self._tls = tls
        self.mode = Mode.THROUGH
        self.seen: set[Mode] = set()
        self._target = target
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._requests: set[asyncio.Task[object]] = set()

    def switch(self, mode: Mode) -> None:
        """Behave as ``mode`` from now on; all connections are cut."""

        def cut() -> None:
            self.mode = mode
            for task in list(self._requests):
                task.cancel()
            server = self._runner.server
            for handler in server.connections if server is not None else ():
                if handler.transport is not None:
                    handler.transport.abort()

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
            self.tokens += request.path.endswith("/token")
            shift = SHIFTS.get(self.mode)
            if shift is not None:
                # A line at a time: an event of a watch is one, and so is any other answer.
                async for line in _lines(answer.content):
                    await response.write(shifted(line, shift))
            else:
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
            self._runner = runner
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls)
            await site.start()
            self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
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
            assert ready.wait(patient(10))
            yield
        finally:
            self._loop.call_soon_threadsafe(stop.set)
            thread.join(patient(20))
            self._loop.close()


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield lines of any length; the last one may have no end."""
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


def shifted(text: bytes, by: timedelta) -> bytes:
    """Return an answer as an API server with a wrong clock would give it."""

    def one(match: re.Match[bytes]) -> bytes:
        moved = datetime.fromisoformat(match[2].decode()) + by
        return b'"%s":"%s"' % (match[1], moved.strftime("%Y-%m-%dT%H:%M:%SZ").encode())

    return _OWN_TIMES.sub(one, text)


def write_kubeconfig(path: Path, url: str, authority: str = "") -> None:
    """Write a kubeconfig that shows nothing: the proxy adds the certificate."""
    cluster = {"server": url}
    if authority:
        cluster["certificate-authority-data"] = base64.b64encode(authority.encode()).decode()
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
