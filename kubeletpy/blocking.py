"""Blocking calls beside the event loop, each with a deadline."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
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


class Blocking:
    """Runs blocking calls each in a thread that does nothing else, with a deadline.

    A mount may hang for ever; a shared pool of threads would then run dry, and with it every
    other pod. A call that hangs keeps its one thread, and the same key is refused meanwhile.
    """

    def __init__(self) -> None:
        self._hanging: dict[str, str] = {}
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
        if key in self._hanging:
            raise TimeoutError(f"{self._hanging[key]} still hangs since an earlier attempt")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()

        def finish(result: _T | None, error: BaseException | None) -> None:
            self._hanging.pop(key, None)
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

        self._hanging[key] = what
        self._threads.start(work, f"{what} {key}"[:60])
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            if future.done() and not future.cancelled() and future.exception() is not None:
                raise
            raise TimeoutError(f"{what} was not done within {timeout:.0f} s") from None
