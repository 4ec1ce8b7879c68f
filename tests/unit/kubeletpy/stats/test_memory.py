"""Blocking calls, made once for all who ask."""

from __future__ import annotations

import asyncio
import threading

from kubeletpy.stats.memory import Memory


async def test_who_asks_at_the_same_time_gets_the_same_answer() -> None:
    memory: Memory[int] = Memory("count", 10.0)
    gate, calls = threading.Event(), 0

    def call() -> int:
        nonlocal calls
        calls += 1
        gate.wait(10)
        return calls

    first, second = (asyncio.ensure_future(memory.get("a", call, 60)) for _ in range(2))
    other = asyncio.ensure_future(memory.get("b", lambda: 7, 60))
    assert await other == 7
    # One who gives up takes nothing from the other one.
    first.cancel()
    gate.set()
    assert await second == 1
    assert await memory.get("a", call, 60) == 1
    assert await memory.get("a", call, 0) == 2
    memory.forget(0)
    assert await memory.get("a", call, 60) == 3


async def test_what_fails_or_hangs_has_no_answer() -> None:
    memory: Memory[int] = Memory("count", 0.05)
    gate = threading.Event()
    hanging: list[threading.Thread] = []

    def fail() -> int:
        raise OSError("gone")

    def hang() -> int:
        hanging.append(threading.current_thread())
        gate.wait(10)
        return 1

    assert await memory.get("a", fail, 60) is None
    assert await memory.get("a", hang, 60) is None
    # It still hangs: no second thread for it, and no waiting.
    assert await memory.get("a", hang, 60) is None
    assert len(hanging) == 1
    gate.set()
