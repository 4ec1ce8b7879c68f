from __future__ import annotations

import asyncio
import threading

import pytest

from kubeletpy import blocking
from kubeletpy.blocking import Blocking


async def test_calls_one_after_the_other_share_threads() -> None:
    calls = Blocking()
    threads = {await calls.run("a", "look", 5, threading.current_thread) for _ in range(50)}
    # The next call may come before the thread of the last one has noted that it is free.
    assert len(threads) < 10
    assert all(thread.daemon for thread in threads), "the interpreter must not wait for them"


async def test_a_call_that_hangs_holds_up_its_own_key_only() -> None:
    calls, release = Blocking(), threading.Event()
    with pytest.raises(TimeoutError, match="mount was not done within"):
        await calls.run("a", "mount", 0.01, release.wait)
    with pytest.raises(TimeoutError, match="mount still hangs"):
        await calls.run("a", "mount", 5, release.wait)
    assert await calls.run("b", "look", 5, lambda: 7) == 7
    release.set()


async def test_a_call_waits_for_one_of_its_key_that_was_cancelled() -> None:
    calls, begun, release = Blocking(), threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        release.wait()

    first = asyncio.create_task(calls.run("a", "mount", 5, block))
    await asyncio.to_thread(begun.wait)
    first.cancel()
    await asyncio.wait([first])
    next_ones = [asyncio.create_task(calls.run("a", "look", 5, lambda: 7)) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(each.done() for each in next_ones)
    release.set()
    assert await asyncio.gather(*next_ones) == [7, 7]


async def test_a_cancelled_call_that_hangs_is_waited_for_once() -> None:
    calls, release = Blocking(), threading.Event()
    first = asyncio.create_task(calls.run("a", "mount", 5, release.wait))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    for seconds in (0.01, 3600):
        with pytest.raises(TimeoutError, match="mount still hangs"):
            await calls.run("a", "look", seconds, lambda: 7)
    release.set()


async def test_errors_come_back_and_the_thread_goes_on() -> None:
    calls = Blocking()
    with pytest.raises(ZeroDivisionError):
        await calls.run("a", "divide", 5, lambda: 1 // 0)
    assert await calls.run("a", "look", 5, lambda: 7) == 7


async def test_a_thread_without_work_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "_IDLE_SECONDS", 0.01)
    calls = Blocking()
    thread = await calls.run("a", "look", 5, threading.current_thread)
    thread.join(5)
    assert not thread.is_alive()
    assert await calls.run("a", "look", 5, lambda: 7) == 7
