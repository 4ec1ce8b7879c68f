"""Blocking work beside the event loop, so that cancelling never leaves a thread at large."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """A thread was told to stop, and did."""


def _nothing() -> None:
    return None


async def in_thread(
    executor: Executor,
    function: Callable[..., T],
    *arguments: Any,
    stop: Callable[[], None] = _nothing,
) -> T:
    """Run ``function(*arguments)`` in a thread.

    A thread cannot be cancelled. If the caller is, ``stop`` is called and the thread's end awaited
    before the cancellation goes on: what the thread uses, such as a file descriptor, can then be
    released. The function's result is lost in that case, so it must not be the only hold on
    anything.

    Raises:
        asyncio.CancelledError: the caller was cancelled, or the function raised :class:`Stopped`.
    """
    work = asyncio.get_running_loop().run_in_executor(executor, function, *arguments)
    try:
        return await asyncio.shield(work)
    except Stopped:
        raise asyncio.CancelledError from None
    except asyncio.CancelledError:
        stop()
        while not work.done():
            try:
                await asyncio.wait([work])
            except asyncio.CancelledError:
                # Cancelled once more; the thread still has to end first.
                continue
        if not work.cancelled():
            # Its own failure gives way to the cancellation; looked at, it counts as seen.
            work.exception()
        raise
