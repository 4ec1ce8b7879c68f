"""Events on their way to the API server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.events import sink as sinks
from kubeletpy_common.events.sink import EventSink


def event(reason: str = "Started") -> dict[str, Any]:
    return {
        "metadata": {"name": f"web.{reason}", "namespace": "x"},
        "involvedObject": {"kind": "Pod", "namespace": "x", "name": "web", "uid": "u1"},
        "type": "Normal", "reason": reason, "message": "done", "count": 1,
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z",
    }  # fmt: skip


class Server:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        self.faults: list[ApiError | None] = []

    async def request(
        self, method: str, path: str, body: Any = None, **more: Any
    ) -> dict[str, Any]:
        self.calls.append((method, path, body))
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        return {}

    def methods(self) -> list[str]:
        return [call[0] for call in self.calls]


class Bench:
    def __init__(self) -> None:
        self.server = Server()
        self.sink = EventSink(self.server, rate=0)


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(sinks, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(sinks, "LONGEST_PAUSE", 0.001)
    made = Bench()
    task = asyncio.create_task(made.sink.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not check():  # noqa: ASYNC110 - plain data tells nobody that it has changed
            await asyncio.sleep(0.002)


async def test_created_then_counted_up(bench: Bench) -> None:
    bench.sink.take(event())
    bench.sink.take(event())
    await until(lambda: len(bench.server.calls) == 2)
    (_, path, created), (_, patched, changes) = bench.server.calls
    assert bench.server.methods() == ["POST", "PATCH"]
    assert path == "/api/v1/namespaces/x/events"
    assert (created["count"], created["reason"], created["type"]) == (1, "Started", "Normal")
    assert patched == f"{path}/{created['metadata']['name']}"
    assert changes["count"] == 2


async def test_an_expired_event_is_created_again(bench: Bench) -> None:
    bench.server.faults = [None, ApiError(404, "NotFound", "expired")]
    bench.sink.take(event())
    bench.sink.take(event())
    await until(lambda: bench.server.methods() == ["POST", "PATCH", "POST"])
    assert bench.server.calls[-1][2]["count"] == 2


async def test_one_whose_answer_was_lost_is_not_written_twice(bench: Bench) -> None:
    bench.server.faults = [ApiError(0, "Timeout", "?"), ApiError(409, "AlreadyExists", "there")]
    bench.sink.take(event())
    bench.sink.take(event("Next"))
    await until(lambda: len(bench.server.calls) == 3)
    assert [call[2]["reason"] for call in bench.server.calls] == ["Started", "Started", "Next"]


async def test_one_that_is_refused_is_dropped(bench: Bench) -> None:
    bench.server.faults = [ApiError(403, "Forbidden", "the namespace is being terminated")]
    bench.sink.take(event())
    bench.sink.take(event("Next"))
    await until(lambda: len(bench.server.calls) == 2)


async def test_what_waits_is_bounded() -> None:
    sink = EventSink(Server())
    for number in range(sinks.WAITING + 10):
        sink.take(event(f"R{number}"))
    assert len(sink._waiting) == sinks.WAITING
    assert sink._dropped == 10
