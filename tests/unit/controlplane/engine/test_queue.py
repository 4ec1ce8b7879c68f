"""What a queue does with keys whose looks never wait."""

from __future__ import annotations

import asyncio

from controlplane.engine.queue import WorkQueue


async def test_a_key_that_comes_back_at_once_leaves_others_their_turn() -> None:
    looks = 0

    async def handle(key: str) -> None:
        nonlocal looks
        looks += 1
        queue.add(key)

    queue = WorkQueue("test", handle, workers=2)
    queue.add("a")
    working = asyncio.create_task(queue.run())
    async with asyncio.timeout(10):
        for _ in range(100):
            await asyncio.sleep(0)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert 0 < looks <= 200
