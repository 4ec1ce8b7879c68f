"""The CRI log format: ``<RFC 3339 time> <stream> <P|F> <text>``, one line of text each.

Source: Kubernetes, design proposal "CRI: Log management for container stdout/stderr streams".
``P`` marks a part of a line without its line feed, ``F`` its last or only part.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from kubeletpy_common.linux.libc import AT_FDCWD
from kubeletpy_common.linux.paths import RESOLVE_NO_SYMLINKS, openat2

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from runtime.shim.messages import StrPath

MAX_LINE: Final = 16 << 10
"""Bytes of text in one entry at most; what is longer is split, as containerd's default does."""

# Without O_NONBLOCK the opening of a fifo would wait for its reader.
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK


def timestamp(nanoseconds: int) -> str:
    """Return a time since the epoch in RFC 3339 with nine decimals, UTC."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


class LineCutter:
    """Turns the bytes of one stream into log entries, however they arrive (pure)."""

    def __init__(self, stream: str, max_line: int = MAX_LINE) -> None:
        self._full = f" {stream} F ".encode()
        self._part = f" {stream} P ".encode()
        self._max_line = max_line
        self._rest = b""

    def feed(self, data: bytes, now_ns: int) -> bytes:
        """Take more bytes, and return the entries that are complete now."""
        stamp = timestamp(now_ns).encode()
        *lines, self._rest = (self._rest + data).split(b"\n")
        out: list[bytes] = []
        for line in lines:
            tail = self._split(out, stamp, line)
            out += (stamp, self._full, tail, b"\n")
        if len(self._rest) > self._max_line:
            self._rest = self._split(out, stamp, self._rest)
        return b"".join(out)

    def finish(self, now_ns: int) -> bytes:
        """Return what is left of a last line without a line feed.

        It is marked as a part, as no line feed was written: a reader must not make one up.
        """
        if not self._rest:
            return b""
        line, self._rest = self._rest, b""
        return timestamp(now_ns).encode() + self._part + line + b"\n"

    def _split(self, out: list[bytes], stamp: bytes, line: bytes) -> bytes:
        while len(line) > self._max_line:
            out += (stamp, self._part, line[: self._max_line], b"\n")
            line = line[self._max_line :]
        return line


class LogFile:
    """A container's log file, appended to by its streams; None as the path drops everything.

    A full disk costs log lines, never the container: it must not block on its own output. What is
    in the file are whole entries nevertheless, and one of them says how many are missing.

    Args:
        path: of the file.
        on_trouble: told in words when entries begin to be lost, and when that is over.

    Attributes:
        lost: entries that are missing and of which the file does not tell yet.
    """

    def __init__(
        self, path: StrPath | None, on_trouble: Callable[[str], None] | None = None
    ) -> None:
        self._path = path
        self._on_trouble = on_trouble
        self._fd = -1
        self.lost = 0
        self._reason = ""
        if path is not None:
            self._fd = _open(path)

    def write(self, entries: bytes) -> None:
        """Append whole entries."""
        if self._fd < 0 or not entries:
            return
        if self.lost and not self.tell_lost():
            self.lost += entries.count(b"\n")
            return
        self._append(entries)

    def tell_lost(self) -> bool:
        """Write down how many entries are missing; return whether nothing is left to be told."""
        if self._fd < 0 or not self.lost:
            return True
        lost, self.lost = self.lost, 0
        text = f"kubeletpy: {lost} log entries are missing here: {self._reason}"
        if self._append(f"{timestamp(time.time_ns())} stderr F {text}\n".encode()):
            self._trouble(f"can be written again; {lost} entries are missing")
            return True
        self.lost = lost
        return False

    def _append(self, entries: bytes) -> bool:
        first = not self.lost and not self._reason
        written = 0
        try:
            while written < len(entries):
                written += os.write(self._fd, entries[written:] if written else entries)
        except OSError as error:
            whole = entries.rfind(b"\n", 0, written) + 1
            self._cut_off(written - whole)
            self.lost += entries.count(b"\n", whole)
            self._reason = os.strerror(error.errno or 0)
            if first:
                self._trouble(
                    f"cannot be written: {self._reason}; entries are dropped until it can"
                )
            return False
        self._reason = ""
        return True

    def _cut_off(self, size: int) -> None:
        """Take back the part of an entry that found room."""
        if size:
            try:
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - size)
            except OSError:
                # An entry without its end is all that can be left then.
                pass

    def _trouble(self, text: str) -> None:
        if self._on_trouble is not None:
            self._on_trouble(f"log file {os.fspath(self._path or '')} {text}")

    def reopen(self) -> None:
        """Go on in a new file of the same path, after the old one was renamed by a log rotation.

        Raises:
            OSError: the new file cannot be made; the old one is kept.
        """
        if self._path is None:
            return
        fresh = _open(self._path)
        self.tell_lost()
        os.close(self._fd)
        self._fd = fresh

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            self.tell_lost()
            os.close(self._fd)
            self._fd = -1


def _open(path: StrPath) -> int:
    """Open a log file, which nobody who can write to its directory may have replaced.

    The path was resolved when the container was made; a link in it has come since.
    """
    descriptor = openat2(AT_FDCWD, path, _FLAGS, 0o640, RESOLVE_NO_SYMLINKS)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"log file {path}: something else is in its place; remove it")
    return descriptor
