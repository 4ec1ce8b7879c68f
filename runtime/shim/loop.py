"""The shim's event loop: readiness of descriptors, deadlines, ended children; one thread.

asyncio would do it too, at several times the memory, and that is paid once per pod.
"""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import signal
import time

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE


class Timer:
    """A call that will be made at a deadline, unless cancelled before."""

    def __init__(self, deadline: float, callback: Callable[[], None]) -> None:
        self.deadline = deadline
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Forget the call; harmless when it was made already."""
        self.callback = None


class Loop:
    """Waits for what may happen, and calls who asked for it.

    Args:
        on_child: called with each ended child's pid and wait status.
    """

    def __init__(self, on_child: Callable[[int, int], None]) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._on_child = on_child
        self._running = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self.watch(self._wake_read, READ, self._on_signal)
        # A handler is needed for the byte to be written; the work is done in the loop.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def watch(self, fd: int, events: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever ``fd`` is ready; replaces what was asked for it before."""
        try:
            self._selector.modify(fd, events, callback)
        except KeyError:
            self._selector.register(fd, events, callback)

    def unwatch(self, fd: int) -> None:
        """Stop watching ``fd``; harmless when it is not watched."""
        try:
            self._selector.unregister(fd)
        except KeyError:
            pass

    def call_after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` once, ``seconds`` from now."""
        timer = Timer(time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, (timer.deadline, next(self._order), timer))
        return timer

    def stop(self) -> None:
        """Let :meth:`run` return after what it is doing now."""
        self._running = False

    def run(self) -> None:
        """Serve until :meth:`stop`."""
        self._running = True
        # A child may have ended before the handler was there.
        self._reap()
        while self._running:
            for key, _ in self._selector.select(self._timeout()):
                # An earlier callback of this round may have unwatched the descriptor.
                if self._selector.get_map().get(key.fd) is key:
                    key.data()
            self._run_timers()

    def _timeout(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return max(0.0, self._timers[0][0] - time.monotonic())

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                callback()

    def _on_signal(self) -> None:
        try:
            while os.read(self._wake_read, 512):
                pass
        except BlockingIOError:
            pass
        self._reap()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._on_child(pid, status)


def exit_code(status: int) -> int:
    """Return the exit status of a wait status, or 128 plus the number of the signal that ended it.

    Source: wait(2); the shell's convention, which CRI clients expect.
    """
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status)
    return os.WEXITSTATUS(status)
