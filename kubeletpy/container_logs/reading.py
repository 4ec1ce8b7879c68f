"""Reading a log file over its rotations; the calls block and are made in threads.

The directory of a pod's logs can be one that a pod writes to (a hostPath volume), so nothing in it
is trusted: no link is followed, and what is no plain file is not read. CVE-2024-5154 and its kin.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

from kubeletpy_common.linux.paths import (
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
)

from .format import tail_offset
from .rendering import Renderer

_BLOCK: Final = 128 << 10
_LONGEST_LINE: Final = 4 << 20
_RESOLVE: Final = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS


class LogError(Exception):
    """A log cannot be read; the message says which and why."""


class LogFile:
    """A log file; after its rotation, the one that took its place.

    Args:
        root: directory of all pods' logs.
        path: of the file, relative to it.
        tail: lines from the end to begin with; None: from the start.
        follow: whether it will be read on after its end.

    Raises:
        LogError: it cannot be opened.
    """

    def __init__(self, root: Path, path: str, *, tail: int | None, follow: bool) -> None:
        self._path = path
        self._follow = follow
        self._rest = b""
        directory, _, self._name = path.rpartition("/")
        try:
            parent = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self.directory = openat2(parent, directory, os.O_PATH | os.O_DIRECTORY, 0, _RESOLVE)
            finally:
                os.close(parent)
        except OSError as error:
            raise self._error(error) from error
        try:
            self._file = self._open()
        except OSError as error:
            os.close(self.directory)
            raise self._error(error) from error
        try:
            self._file.seek(0 if tail is None else tail_offset(self._file, tail))
            self._end = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            self.close()
            raise self._error(error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        os.close(self.directory)

    def next(self, renderer: Renderer) -> bytes | None:
        """Return some of what is to be sent; it may be empty. None: there is no more for now.

        Raises:
            LogError: it cannot be read.
        """
        try:
            data = self._read()
            if not data and self._follow and self._rotated():
                data = self._read()
        except OSError as error:
            raise self._error(error) from error
        if data:
            *lines, self._rest = (self._rest + data).split(b"\n")
            if len(self._rest) > _LONGEST_LINE:
                raise LogError(f"log file {self._path!r}: a line is longer than {_LONGEST_LINE} B")
            return renderer.render(lines)
        if self._rest and not self._follow:
            line, self._rest = self._rest, b""
            return renderer.render([line], ended=False)
        return None

    def finish(self) -> None:
        """Nothing more will be written: the end is the end."""
        self._follow = False
        self._end = os.fstat(self._file.fileno()).st_size

    def _read(self) -> bytes:
        length = _BLOCK
        if not self._follow:
            # Somebody who writes as fast as we read does not make the answer endless.
            length = min(length, max(self._end - self._file.tell(), 0))
        return self._file.read(length)

    def _open(self) -> BinaryIO:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY
        descriptor = openat2(self.directory, self._name, flags, 0, _RESOLVE)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError("it is no plain file")
        return os.fdopen(descriptor, "rb")

    def _rotated(self) -> bool:
        """Go on with the file that took the place of ours, once ours is read to its end."""
        here = os.fstat(self._file.fileno())
        try:
            there = os.stat(self._name, dir_fd=self.directory, follow_symlinks=False)
        except FileNotFoundError:
            # Between the renaming of the old file and the making of the new one.
            return False
        if os.path.samestat(here, there):
            if here.st_size < self._file.tell():
                # Truncated in place.
                self._file.seek(0)
                self._rest = b""
                return True
            return False
        if here.st_size > self._file.tell():
            # Written to between our last look and the rotation.
            return True
        fresh = self._open()
        self._file.close()
        self._file, self._rest = fresh, b""
        return True

    def _error(self, error: OSError) -> LogError:
        why = error.strerror or str(error)
        return LogError(f"failed to open log file {self._path!r}: {why}")
