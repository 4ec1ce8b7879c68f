"""Blocking calls beside the event loop, each with a deadline."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


class Blocking:
    """Runs blocking calls each in a thread of its own, with a deadline.

    A mount may hang for ever; a shared pool of threads would then run dry, and with it every
    other pod. A call that hangs keeps its one thread, and the same key is refused meanwhile.
    """

    def __init__(self) -> None:
        self._hanging: dict[str, str] = {}

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
        threading.Thread(target=work, name=f"{what} {key}"[:60], daemon=True).start()
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            if future.done() and not future.cancelled() and future.exception() is not None:
                raise
            raise TimeoutError(f"{what} was not done within {timeout:.0f} s") from None
