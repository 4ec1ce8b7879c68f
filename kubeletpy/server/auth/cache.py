"""Answers that hold for a while; asked for once even if many wait for the same."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class AnswerCache(Generic[_K, _V]):
    """A bounded cache; what fails is not kept.

    Args:
        capacity: answers at most; the one unused for longest goes first.
        clock: seconds, monotonic.
    """

    def __init__(self, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._kept: OrderedDict[_K, tuple[float, _V]] = OrderedDict()
        self._asked: dict[_K, asyncio.Task[tuple[_V, float]]] = {}

    async def get(self, key: _K, ask: Callable[[], Awaitable[tuple[_V, float]]]) -> _V:
        """Return the answer kept for ``key``, or ask for it.

        Args:
            key: what is asked.
            ask: returns the answer, and for how many seconds it holds. It goes on when one of
                those who wait for it gives up.

        Raises:
            Exception: whatever ``ask`` raises.
        """
        found = self._kept.get(key)
        if found is not None and found[0] > self._clock():
            self._kept.move_to_end(key)
            return found[1]
        task = self._asked.get(key)
        if task is None:
            task = asyncio.ensure_future(_call(ask))
            self._asked[key] = task
            task.add_done_callback(lambda done: self._answered(key, done))
        answer, _ = await asyncio.shield(task)
        return answer

    def _answered(self, key: _K, task: asyncio.Task[tuple[_V, float]]) -> None:
        self._asked.pop(key, None)
        if task.cancelled() or task.exception() is not None:
            return
        answer, seconds = task.result()
        self._kept.pop(key, None)
        if seconds <= 0:
            return
        self._kept[key] = (self._clock() + seconds, answer)
        while len(self._kept) > self._capacity:
            self._kept.popitem(last=False)

    def __len__(self) -> int:
        return len(self._kept)


async def _call(ask: Callable[[], Awaitable[tuple[_V, float]]]) -> tuple[_V, float]:
    return await ask()
