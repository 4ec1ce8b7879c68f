"""A scripted API server on loopback: each request takes the next answer of its path."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def status(code: int, reason: str, **headers: str) -> Answer:
    """Answer with a Status object."""
    body = {"kind": "Status", "code": code, "reason": reason, "message": f"it is {reason}"}

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=code, headers=headers)

    return answer


def listing(version: str, *names: str) -> Answer:
    """Answer with a list of ConfigMaps."""
    items = [config_map(name, version) for name in names]
    body = {
        "kind": "ConfigMapList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": version},
        "items": items,
    }

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(body)

    return answer


def config_map(name: str, version: str, **more: Any) -> dict[str, Any]:
    """Return a ConfigMap."""
    return {"metadata": {"name": name, "resourceVersion": version}, **more}


def events(*found: tuple[str, dict[str, Any]], hold: bool = False) -> Answer:
    """Answer a watch; ``hold``: do not end it."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for kind, item in found:
            await response.write(json.dumps({"type": kind, "object": item}).encode() + b"\n")
        if hold:
            await asyncio.Event().wait()
        return response

    return answer


@dataclass
class Script:
    """The answers to come, by method and path, and the requests that came."""

    url: str = ""
    answers: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Take the next answer; the last one stays."""
        query = dict(request.query)
        key = f"{'WATCH' if 'watch' in query else request.method} {request.path}"
        self.seen.append((key, query))
        waiting = self.answers[key]
        if not waiting:
            return web.Response(status=418)
        return await (waiting.pop(0) if len(waiting) > 1 else waiting[0])(request)


@asynccontextmanager
async def serving() -> AsyncIterator[Script]:
    """Serve a script on a free port of loopback."""
    script = Script()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", script.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    script.url = f"http://{host}:{port}"
    try:
        yield script
    finally:
        await runner.cleanup()
