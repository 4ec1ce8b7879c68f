"""Writing the audit log: beside the requests, never before them; bounded in memory and on disk."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import deque
from pathlib import Path
from typing import Any, Final

from controlplane.api import codec
from controlplane.options import OptionsError
from kubeletpy_common import logs

_log = logging.getLogger(__name__)
_MAX_WAITING: Final = 10_000
_MAX_BYTES: Final = 100 << 20
_STANDARD_OUTPUT: Final = Path("-")


class AuditLog:
    """Lines, one event each; the file is renamed to ``<name>.1`` at 100 MiB.

    Events that come faster than the disk takes them are left out, and counted.

    Args:
        path: of the file, ``-`` for standard output.
        waiting: events at most that wait to be written.
        size: bytes at which a new file begins.

    Raises:
        OptionsError: the file cannot be written.
    """

    def __init__(self, path: Path, *, waiting: int = _MAX_WAITING, size: int = _MAX_BYTES) -> None:
        self._path = path
        self._waiting = waiting
        self._size = size
        self._queue: deque[dict[str, Any]] = deque()
        self._wake = asyncio.Event()
        self._lost = 0
        self._descriptor = self._open()

    def add(self, event: dict[str, Any]) -> None:
        """Have an event written soon."""
        if len(self._queue) >= self._waiting:
            self._lost += 1
            return
        self._queue.append(event)
        self._wake.set()

    async def run(self) -> None:
        """Write what comes; what is there is written before this ends."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await asyncio.shield(asyncio.to_thread(self._write, self._take()))
        finally:
            self._write(self._take())

    def _take(self) -> list[dict[str, Any]]:
        taken = list(self._queue)
        self._queue.clear()
        if self._lost:
            logs.event(_log, logging.ERROR, "audit events left out", count=self._lost)
            self._lost = 0
        return taken

    def _write(self, events: list[dict[str, Any]]) -> None:
        content = b"".join(codec.encode(event) + b"\n" for event in events)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(self._descriptor, view) :]
            self._rotate()
        except OSError as error:
            logs.event(
                _log, logging.ERROR, "the audit log cannot be written", file=str(self._path),
                error=str(error), events=len(events),
            )  # fmt: skip

    def _rotate(self) -> None:
        if self._path == _STANDARD_OUTPUT or os.fstat(self._descriptor).st_size < self._size:
            return
        os.replace(self._path, f"{self._path}.1")
        old, self._descriptor = self._descriptor, self._open()
        os.close(old)

    def _open(self) -> int:
        if self._path == _STANDARD_OUTPUT:
            return sys.stdout.fileno()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(self._path, flags, 0o600)
        except OSError as error:
            raise OptionsError(f"audit log {self._path}: {error.strerror}") from error
