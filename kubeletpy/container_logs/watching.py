"""Waiting for changes of log directories: one inotify instance for all who wait.

An instance for each would soon be refused: the kernel grants a user 128 by default.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from asyncinotify import Inotify, Mask, Watch

_MASK = Mask.MODIFY | Mask.CREATE | Mask.MOVED_TO | Mask.DELETE_SELF | Mask.ONLYDIR


class Bell:
    """Wakes one who follows a log.

    Attributes:
        doubtful: whether the container may have ended.
    """

    def __init__(self) -> None:
        self.doubtful = True
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Something was written."""
        self._rung.set()

    def doubt(self) -> None:
        """The container may have ended."""
        self.doubtful = True
        self._rung.set()

    def still(self) -> None:
        """Forget what rang before."""
        self._rung.clear()

    async def wait(self, timeout: float) -> None:
        """Wait until it rings; nothing heard for ``timeout`` seconds is doubtful, too."""
        try:
            async with asyncio.timeout(timeout):
                await self._rung.wait()
        except TimeoutError:
            self.doubtful = True


@dataclass
class _Watched:
    watch: Watch
    bells: list[Bell] = field(default_factory=list)


class DirectoryWatches:
    """Rings when something changes in a directory."""

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._reading: asyncio.Task[None] | None = None
        self._watched: dict[tuple[int, int], _Watched] = {}

    @contextlib.contextmanager
    def watching(self, directory: int, bell: Bell) -> Iterator[None]:
        """Ring ``bell`` at each change in a directory, within the block.

        Args:
            directory: descriptor of it, so that it is the one meant whatever its name leads to.
            bell: of whoever waits.

        Raises:
            OSError: the kernel grants no more watches.
        """
        found = os.fstat(directory)
        key = (found.st_dev, found.st_ino)
        if self._inotify is None:
            self._inotify = Inotify()
        watched = self._watched.get(key)
        if watched is None:
            watch = self._inotify.add_watch(f"/proc/self/fd/{directory}", _MASK)
            watched = self._watched[key] = _Watched(watch)
        watched.bells.append(bell)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(self._inotify), name="log watches")
        try:
            yield
        finally:
            watched.bells.remove(bell)
            if not watched.bells:
                self._watched.pop(key, None)
                self._remove(watched.watch)

    def _remove(self, watch: Watch) -> None:
        assert self._inotify is not None
        # The kernel has removed it already if the directory is gone.
        with contextlib.suppress(OSError, ValueError, KeyError):
            self._inotify.rm_watch(watch)
        if not self._watched:
            assert self._reading is not None
            self._reading.cancel()
            self._inotify.close()
            self._inotify = self._reading = None

    async def _read(self, inotify: Inotify) -> None:
        async for change in inotify:
            lost = Mask.Q_OVERFLOW in change.mask
            for watched in list(self._watched.values()):
                if lost or change.watch is watched.watch:
                    for bell in watched.bells:
                        bell.ring()
