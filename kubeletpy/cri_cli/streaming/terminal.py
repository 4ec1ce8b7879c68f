"""Our own end of a session: standard streams, and the terminal if there is one."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_READ: Final = 32 << 10


@contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Pass every key on as it is, Ctrl-C too; the terminal is restored behind the block."""
    before = termios.tcgetattr(descriptor)
    try:
        # What was typed ahead is for the command, too.
        tty.setraw(descriptor, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def size(descriptor: int) -> tuple[int, int]:
    """Return columns and rows of a terminal."""
    found = os.get_terminal_size(descriptor)
    return found.columns, found.lines


class Input:
    """Our standard input, whatever it is: read by a thread, since a file cannot be polled."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue(1)
        # A daemon: it may wait for a key when the session has ended.
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    def _read(self) -> None:
        chunk = b"-"
        while chunk:
            try:
                chunk = os.read(self._descriptor, _READ)
            except OSError:
                chunk = b""
            try:
                asyncio.run_coroutine_threadsafe(self._chunks.put(chunk), self._loop).result()
            except (RuntimeError, asyncio.CancelledError, asyncio.InvalidStateError):
                # The session has ended, and the loop with it.
                return

    async def read(self) -> bytes:
        """Return some input; b"" at its end."""
        return await self._chunks.get()


async def write(name: str, data: bytes) -> None:
    """Write to our stdout or stderr; the session waits for whoever reads it.

    Raises:
        BrokenPipeError: nobody does any more.
    """
    stream = sys.stdout if name == "stdout" else sys.stderr
    await asyncio.to_thread(_write_all, stream.fileno(), data)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
