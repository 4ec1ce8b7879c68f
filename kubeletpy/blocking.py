"""Blocking calls beside the event loop, each with a deadline."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

_T = TypeVar("_T")
_IDLE_SECONDS = 5.0
"""That a thread waits for another call."""


class _Threads:
    """Threads that do one call at a time; as many as there are calls, and a few that wait.

    None of them keeps the interpreter from ending, as those of ``concurrent.futures`` do.
    """

    def __init__(self) -> None:
        self._idle: list[queue.SimpleQueue[Callable[[], None]]] = []
        self._lock = threading.Lock()

    def start(self, call: Callable[[], None], name: str) -> None:
        """Have ``call`` done at once, by a thread that waits or by a new one."""
        with self._lock:
            mine = self._idle.pop() if self._idle else None
            if mine is not None:
                mine.put(call)
                return
        threading.Thread(target=self._work, args=(call,), name=name, daemon=True).start()

    def _work(self, call: Callable[[], None]) -> None:
        mine: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        while True:
            call()
            # What it holds on to is not to stay while this thread waits.
            del call
            with self._lock:
                self._idle.append(mine)
            try:
                call = mine.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if mine in self._idle:
                        self._idle.remove(mine)
                        return
                # It was given a call in this very moment.
                call = mine.get()


@dataclass
class _Running:
    """A call that a thread is at.

    Attributes:
        what: it does.
        ended: set when it returned, however long after its deadline.
        overdue: it outlived a deadline.
    """

    what: str
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    overdue: bool = False


class Blocking:
    """Runs blocking calls each in a thread that does nothing else, with a deadline.

    A mount may hang for ever; a shared pool of threads would then run dry, and with it every
    other pod. A call that hangs keeps its one thread, and the same key is refused meanwhile.
    Who cancels a call cannot end its thread: the next call of the key waits for it.
    """

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}
        self._threads = _Threads()

    async def run(self, key: str, what: str, timeout: float, call: Callable[[], _T]) -> _T:
        """Run ``call`` and return its result.

        Args:
            key: whose call it is; one at a time.
            what: what it does, for the error.
            timeout: seconds it may take.
            call: the blocking function.

        Raises:
            TimeoutError: it is not done in time, or an earlier call of ``key`` still hangs.
            Exception: whatever ``call`` raised.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while (earlier := self._running.get(key)) is not None:
            await _outlive(earlier, deadline)
        mine = self._running[key] = _Running(what)
        future: asyncio.Future[_T] = loop.create_future()

        def finish(result: _T | None, error: BaseException | None) -> None:
            del self._running[key]
            mine.ended.set()
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            result: _T | None = None
            error: BaseException | None = None
            try:
                result = call()
            except BaseException as caught:  # handed to the waiting task, whatever it is
                error = caught
            try:
                loop.call_soon_threadsafe(finish, result, error)
            except RuntimeError:
                # The loop was closed: the daemon has ended, nobody waits any more.
                pass

        self._threads.start(work, f"{what} {key}"[:60])
        try:
            async with asyncio.timeout_at(deadline):
                return await future
        except TimeoutError:
            if future.done() and not future.cancelled() and future.exception() is not None:
                raise
            mine.overdue = True
            raise TimeoutError(f"{what} was not done within {timeout:.0f} s") from None


async def _outlive(earlier: _Running, deadline: float) -> None:
    """Wait until a call has ended.

    Raises:
        TimeoutError: it hangs, or did not end before ``deadline`` (of the loop's clock).
    """
    if not earlier.overdue:
        try:
            async with asyncio.timeout_at(deadline):
                await earlier.ended.wait()
            return
        except TimeoutError:
            earlier.overdue = True
    raise TimeoutError(f"{earlier.what} still hangs since an earlier attempt")
