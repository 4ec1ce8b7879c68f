"""Attach in the shim: copies of a container's output, and its input, for a client."""

from __future__ import annotations

import fcntl
import os

from runtime.shim.loop import WRITE

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from runtime.shim.containers import Container
    from runtime.shim.loop import Loop

_PIPE_SIZE: Final = 1 << 20
_MAX_WAITING: Final = 8 << 20
"""Bytes beyond the pipe's own that wait for an attached client; one that is slower is cut off."""
_CHUNK: Final = 256 << 10


class Tap:
    """A copy of one stream, by way of a pipe whose other end the client has.

    The container and its log never wait for it.

    Args:
        loop: the shim's event loop.
        on_end: called once when nothing more will come: True if everything was delivered.
    """

    def __init__(self, loop: Loop, on_end: Callable[[bool], None]) -> None:
        self._loop = loop
        self._on_end = on_end
        self.reading, self._fd = os.pipe()
        os.set_blocking(self._fd, False)
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        except PermissionError:
            # Root's pipes have used up /proc/sys/fs/pipe-user-pages-soft; the queue below serves.
            pass
        self._waiting = bytearray()
        self._finishing = False

    def write(self, data: bytes) -> None:
        """Pass on one more piece."""
        if self._fd < 0 or self._finishing:
            return
        self._waiting += data
        self._flush()
        if len(self._waiting) > _MAX_WAITING:
            self._end(False)

    def finish(self) -> None:
        """End it once what waits was delivered."""
        self._finishing = True
        self._flush()

    def close(self) -> None:
        """End it now, without telling anybody."""
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _flush(self) -> None:
        if self._fd < 0:
            return
        try:
            while self._waiting:
                with memoryview(self._waiting) as view:
                    sent = os.write(self._fd, view[:_CHUNK])
                del self._waiting[:sent]
        except BlockingIOError:
            self._loop.watch(self._fd, WRITE, self._flush)
            return
        except OSError:
            # The client's end is closed.
            self._end(True)
            return
        self._loop.unwatch(self._fd)
        if self._finishing:
            self._end(True)

    def _end(self, complete: bool) -> None:
        self.close()
        self._waiting.clear()
        self._on_end(complete)


class Attachment:
    """One client's connection to the streams of a running container.

    Args:
        loop: the shim's event loop.
        container: whose streams.
        streams: which of ``stdin``, ``stdout`` and ``stderr``.
        on_end: called once all of its output streams have ended, with False if the client was cut
            off for being too slow.
    """

    def __init__(
        self,
        loop: Loop,
        container: Container,
        streams: frozenset[str],
        on_end: Callable[[bool], None],
    ) -> None:
        self._container = container
        self._on_end = on_end
        self._complete = True
        self._has_stdin = "stdin" in streams
        # With a terminal both kinds of output come out of its master, as one.
        outputs = {"stdout"} if container.request.terminal else {"stdout", "stderr"}
        self._taps = {name: Tap(loop, self._ended) for name in sorted(streams & outputs)}
        self._open = len(self._taps)

    def open(self) -> dict[str, int]:
        """Begin to copy; returns the client's descriptors, of which the pipes are to be closed.

        ``terminal`` and ``stdin`` are the container's own and stay open here.
        """
        descriptors = {name: tap.reading for name, tap in self._taps.items()}
        if self._container.terminal >= 0:
            descriptors["terminal"] = self._container.terminal
        elif self._has_stdin and self._container.stdin >= 0:
            descriptors["stdin"] = self._container.stdin
        for name, tap in self._taps.items():
            self._container.add_tap(name, tap)
        return descriptors

    def close_pipes(self) -> None:
        """Close the client's ends here, once they were sent."""
        for tap in self._taps.values():
            os.close(tap.reading)

    def kill(self) -> None:
        """End it: the client is gone. Its input ends with it, if the container wants that."""
        for name, tap in self._taps.items():
            self._container.remove_tap(name, tap)
            tap.close()
        if self._has_stdin and self._container.request.stdin_once:
            self._container.close_stdin()

    def _ended(self, complete: bool) -> None:
        self._complete = self._complete and complete
        self._open -= 1
        if self._open == 0 or not complete:
            self._on_end(self._complete)
