"""Reading what a container's processes write."""

from __future__ import annotations

import errno
import os
import time

from runtime.shim.logs import LineCutter
from runtime.shim.loop import READ

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from runtime.shim.logs import LogFile
    from runtime.shim.loop import Loop

    class Sink(Protocol):
        """Where a copy of a stream goes."""

        def write(self, data: bytes) -> None:
            """Take one more piece; never waits."""

        def finish(self) -> None:
            """Nothing more will come."""


_CHUNK = 64 << 10
_MAX_LEFT = 1 << 20
"""Bytes that an ended writer can have left in a pipe (/proc/sys/fs/pipe-max-size)."""


class Reader:
    """Reads one pipe or terminal until its end.

    Args:
        loop: the shim's event loop.
        fd: the descriptor, owned by the reader from now on.
        on_data: called with each piece.
        on_end: called once, after the last piece.
    """

    def __init__(
        self,
        loop: Loop,
        fd: int,
        on_data: Callable[[bytes], None],
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._on_data = on_data
        self._on_end = on_end
        os.set_blocking(fd, False)
        loop.watch(fd, READ, self._on_ready)

    def drain(self) -> None:
        """Read what is there now; afterwards nothing of an ended writer is missing.

        It ends even if another writer goes on without a pause.
        """
        left = _MAX_LEFT
        while self._fd >= 0 and left > 0 and (size := self._read()):
            left -= size

    def close(self) -> None:
        """Stop reading, whatever may still come."""
        if self._fd < 0:
            return
        self._loop.unwatch(self._fd)
        os.close(self._fd)
        self._fd = -1
        if self._on_end is not None:
            self._on_end()

    def _on_ready(self) -> None:
        self._read()

    def _read(self) -> int:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return 0
        except OSError as error:
            # A terminal's master says EIO once the last slave is closed (pty(7)).
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data:
            self.close()
            return 0
        self._on_data(data)
        return len(data)


def log_reader(loop: Loop, fd: int, stream: str, log: LogFile, copies: list[Sink]) -> Reader:
    """Read ``fd`` into ``log`` as entries of ``stream``, and into whatever is in ``copies``."""
    cutter = LineCutter(stream)

    def on_data(data: bytes) -> None:
        log.write(cutter.feed(data, time.time_ns()))
        for copy in list(copies):
            copy.write(data)

    def on_end() -> None:
        log.write(cutter.finish(time.time_ns()))
        for copy in list(copies):
            copy.finish()

    return Reader(loop, fd, on_data, on_end)


class Capture:
    """Keeps the first ``limit`` bytes of a stream and drops the rest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        """Take one more piece."""
        room = self._limit - len(self._data)
        if room > 0:
            self._data += data[:room]

    def bytes(self) -> bytes:
        """Return what was kept."""
        return bytes(self._data)
