"""Pipes, terminals and sockets of the kernel, read and written from the event loop.

asyncio's own pipe transports read ahead without an end; here a byte is read when somebody wants
it, so that a slow client makes the process wait and not this daemon grow.
"""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Final

CHUNK: Final = 64 << 10
# Bytes that an ended writer can have left in a pipe (/proc/sys/fs/pipe-max-size).
_MAX_LEFT: Final = 1 << 20


class Readable:
    """The reading end of a pipe, or a terminal's master. Owns its descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._left: int | None = None
        os.set_blocking(fd, False)

    async def read(self) -> bytes:
        """Return some bytes as soon as there are any; b"" at the end."""
        while self._fd >= 0 and (self._left is None or self._left > 0):
            try:
                data = os.read(self._fd, CHUNK)
            except BlockingIOError:
                if self._left is not None:
                    return b""
                await self._readable()
                continue
            except OSError as error:
                # A terminal's master says EIO once the last slave is closed (pty(7)).
                if error.errno != errno.EIO:
                    raise
                return b""
            if self._left is not None:
                self._left -= len(data)
            return data
        return b""

    def finish(self) -> None:
        """Let it end with what has been written by now: the process that mattered is gone.

        Others that it left behind may hold the other end open for ever.
        """
        if self._left is None:
            self._left = _MAX_LEFT
        self._wake()

    def close(self) -> None:
        """Close the descriptor; a reader that waits gets the end."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        self._wake()

    async def _readable(self) -> None:
        self._waiter = self._loop.create_future()
        self._loop.add_reader(self._fd, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if self._fd >= 0:
                self._loop.remove_reader(self._fd)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Writable:
    """The writing end of a pipe, or a terminal's master. Owns its descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        os.set_blocking(fd, False)

    async def write(self, data: bytes) -> None:
        """Write everything, waiting for the reader as long as it takes.

        Raises:
            BrokenPipeError: nobody reads any more, or it was closed here.
            OSError: the kernel refused otherwise.
        """
        view = memoryview(data)
        while view:
            if self._fd < 0:
                raise BrokenPipeError(errno.EPIPE, "the stream is closed")
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                await self._writable()

    def close(self) -> None:
        """Close the descriptor, which the reader notices as its end."""
        if self._fd >= 0:
            self._loop.remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1
        self._wake()

    def fileno(self) -> int:
        """Return the descriptor; -1 once it is closed."""
        return self._fd

    async def _writable(self) -> None:
        self._waiter = self._loop.create_future()
        self._loop.add_writer(self._fd, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if self._fd >= 0:
                self._loop.remove_writer(self._fd)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
