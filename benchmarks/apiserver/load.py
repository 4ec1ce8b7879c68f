"""What is asked of a server, and what it takes."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import aiohttp

from benchmarks.apiserver.servers import TOKEN, Server, unchecked

NAMESPACE: Final = "bench"
_MAPS: Final = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
_PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"
_FAN: Final = "/api/v1/namespaces/fan/configmaps"
_TARGETS: Final = 50
_SENT: Final = re.compile(rb'"sent":"([0-9]+)"')
_WARM_UP: Final = 0.1
_LISTS: Final = 10
_AT_ONCE: Final = 100


@dataclass(frozen=True)
class Effort:
    """How much is done.

    Attributes:
        seconds: of creations, with one client and with many.
        pods: in the list.
        watchers: of the fan-out.
        rate: events a second.
        span: seconds of the fan-out.
        objects: over which memory is measured.
    """

    seconds: float = 5.0
    pods: int = 5000
    watchers: int = 100
    rate: int = 200
    span: float = 10.0
    objects: int = 10_000


QUICK: Final = Effort(seconds=0.5, pods=200, watchers=10, rate=50, span=1.0, objects=500)


async def measure(server: Server, effort: Effort) -> dict[str, float]:
    """Return the figures of a server."""
    figures: dict[str, float] = {}
    async with _session(server) as http:
        await _post(http, "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        names = count()
        for clients in (1, 32):
            rate = await _creates(http, names, clients, effort.seconds)
            figures[f"creates_{clients}"] = rate
        await _fan_out(server, http, effort, figures)
        await _fill(http, names, effort.objects)
        figures["memory"] = server.memory_mib()
        await _pods(http, effort.pods)
        figures["list"] = await _list(http)
    return figures


@asynccontextmanager
async def _session(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        server.url,
        headers={"Authorization": f"Bearer {TOKEN}"},
        connector=aiohttp.TCPConnector(limit=0, ssl=unchecked()),
        timeout=aiohttp.ClientTimeout(total=None),
    ) as http:
        yield http


async def _post(http: aiohttp.ClientSession, path: str, value: Any) -> None:
    async with http.post(path, json=value) as answer:
        text = await answer.read()
        if answer.status not in (201, 409):
            raise SystemExit(f"POST {path}: {answer.status} {text[:300]!r}")


def _map(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {"content": "x" * 1024}}


async def _creates(
    http: aiohttp.ClientSession, names: count[int], clients: int, seconds: float
) -> float:
    """Return the creations a second of so many clients, each waiting for its answer."""
    made = 0
    end = 0.0

    async def one() -> None:
        nonlocal made
        while time.monotonic() < end:
            await _post(http, _MAPS, _map(f"m{next(names)}"))
            made += 1

    end = time.monotonic() + _WARM_UP
    await asyncio.gather(*(one() for _ in range(clients)))
    made, begun = 0, time.monotonic()
    end = begun + seconds
    await asyncio.gather(*(one() for _ in range(clients)))
    return made / (time.monotonic() - begun)


async def _fill(http: aiohttp.ClientSession, names: count[int], objects: int) -> None:
    async def some() -> None:
        while (number := next(names)) < objects:
            await _post(http, _MAPS, _map(f"m{number}"))

    await asyncio.gather(*(some() for _ in range(32)))


async def _pods(http: aiohttp.ClientSession, number: int) -> None:
    names = iter(range(number))
    container = {"name": "main", "image": "registry.example/app:1", "env": [
        {"name": f"VARIABLE_{n}", "value": "value"} for n in range(5)
    ], "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}  # fmt: skip

    async def some() -> None:
        for name in names:
            meta = {"name": f"p{name}", "labels": {"app": f"app-{name % 50}", "tier": "back"}}
            await _post(http, _PODS, {"metadata": meta, "spec": {"containers": [container]}})

    await asyncio.gather(*(some() for _ in range(32)))


async def _list(http: aiohttp.ClientSession) -> float:
    """Return the median milliseconds of a list of all pods, to its last byte."""
    times = []
    for _ in range(_LISTS):
        begun = time.monotonic()
        async with http.get(_PODS) as answer:
            await answer.read()
        times.append((time.monotonic() - begun) * 1000)
    return sorted(times)[_LISTS // 2]


async def _fan_out(
    server: Server, http: aiohttp.ClientSession, effort: Effort, figures: dict[str, float]
) -> None:
    """Change objects in turn at a fixed rate; note when each watcher has the event.

    In turn, since changes of one object at once are answered by conflicts where a write takes long.
    """
    waits: list[float] = []
    expected = int(effort.rate * effort.span)
    await _post(http, "/api/v1/namespaces", {"metadata": {"name": "fan"}})
    for number in range(_TARGETS):
        await _post(http, _FAN, _map(f"fan-{number}"))
    query = {"watch": "1"}
    watches = [await http.get(_FAN, params=query) for _ in range(effort.watchers)]
    tasks = [asyncio.create_task(_follow(watch, expected, waits.append)) for watch in watches]
    begun = time.monotonic()
    sending: set[asyncio.Task[None]] = set()
    for number in range(expected):
        await asyncio.sleep(max(0.0, begun + number / effort.rate - time.monotonic()))
        if len(sending) >= _AT_ONCE:
            # The server does not keep up: what waits here counts as latency, too.
            await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(_touch(http, number % _TARGETS))
        sending.add(task)
        task.add_done_callback(sending.discard)
    await asyncio.gather(*sending)
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    for watch in watches:
        watch.close()
    waits.sort()
    figures["fan_out_p50"] = waits[len(waits) // 2] * 1000
    figures["fan_out_p99"] = waits[len(waits) * 99 // 100] * 1000


async def _touch(http: aiohttp.ClientSession, target: int) -> None:
    patch = json.dumps({"data": {"sent": str(time.monotonic_ns())}})
    kind = {"Content-Type": "application/merge-patch+json"}
    async with http.patch(f"{_FAN}/fan-{target}", data=patch, headers=kind) as answer:
        await answer.read()
        if answer.status != 200:
            raise SystemExit(f"PATCH: {answer.status} {await answer.text()}")


async def _follow(
    watch: aiohttp.ClientResponse, expected: int, note: Callable[[float], None]
) -> None:
    rest, seen = b"", 0
    async for chunk in watch.content.iter_any():
        now = time.monotonic_ns()
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            found = _SENT.search(line)
            if found is not None:
                note((now - int(found[1])) / 1e9)
                seen += 1
        if seen == expected:
            return
