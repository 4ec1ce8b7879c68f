"""Through a real nginx: long requests, WebSockets, and paths that look like directives."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from aiohttp import web
from yarl import URL

from controlplane.engine.resources import INGRESSES
from tests.unit.controlplane.ingress.objects import backend, ingress, rule

from .test_ingress import Bench, bench

__all__ = ["bench"]

HOSTILE = (
    '/a"; return 200 "pwned', "/$host", "/b\\", "/c{d}", "/e#f", "/g'h", "/i j;", "/k$(l)", "/m\\n",
)  # fmt: skip


async def test_a_request_and_a_websocket_outlive_a_reload(bench: Bench) -> None:
    go = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            endpoint = web.WebSocketResponse()
            await endpoint.prepare(request)
            async for message in endpoint:
                await endpoint.send_str(f"heard {message.data}")
            return endpoint
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun ")
        await go.wait()
        await response.write(b"ended")
        return response

    await bench.backend("slow", slow)
    await bench.start()
    await bench.cluster.create(
        INGRESSES, ingress("main", rule("a.test", Prefix_="slow"), rule("b.test", Prefix_="one"))
    )
    await bench.until("b.test", "/", 200)
    url = f"http://127.0.0.1:{bench.http}/"
    headers = {"Host": "a.test"}
    async with (
        bench.session.get(url, headers=headers) as answer,
        bench.session.ws_connect(url, headers=headers) as talk,
    ):
        assert await answer.content.readexactly(6) == b"begun "
        await talk.send_str("one")
        assert (await talk.receive_str(timeout=10)) == "heard one"
        await bench.cluster.create(INGRESSES, ingress("more", rule("c.test", Prefix_="two")))
        assert (await bench.until("c.test", "/", 200))["who"] == "two"
        await talk.send_str("two")
        assert (await talk.receive_str(timeout=10)) == "heard two"
        go.set()
        async with asyncio.timeout(10):
            assert await answer.read() == b"ended"


async def test_a_path_is_a_path_whatever_it_looks_like(bench: Bench) -> None:
    """Each is reached as it is, by its own name alone, and means nothing else to nginx."""
    await bench.start()
    paths: list[dict[str, Any]] = [
        {"path": each, "pathType": "Exact", "backend": backend("one")} for each in HOSTILE
    ]
    await bench.cluster.create(
        INGRESSES, ingress("evil", {"host": "e.test", "http": {"paths": paths}})
    )
    await bench.cluster.create(INGRESSES, ingress("good", rule("g.test", Prefix_="two")))
    await bench.until("g.test", "/", 200)
    found = {}
    for each in HOSTILE:
        url = URL(f"http://127.0.0.1:{bench.http}{quote(each)}", encoded=True)
        async with bench.session.get(url, headers={"Host": "e.test"}) as answer:
            found[each] = answer.status
            if answer.status == 200:
                assert (await answer.json())["who"] == "one"
    assert (await bench.ask("e.test", "/e.test"))[0] == 404
    assert found == dict.fromkeys(HOSTILE, 200)
