"""Container logs as the CRI format has them: ``time stream P|F text`` (pure, but for reading)."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Final

_BLOCK: Final = 1 << 16


@dataclass(frozen=True)
class Entry:
    """One line of a log file.

    Attributes:
        time: as written, RFC 3339 with nanoseconds.
        stream: ``stdout`` or ``stderr``.
        whole: whether it ends a line of the program (F), or the line goes on (P).
        content: what the program wrote, without the line feed.
    """

    time: bytes
    stream: str
    whole: bool
    content: bytes

    def at(self) -> datetime | None:
        """Return when it was written, in whole microseconds; None if that cannot be read."""
        text = self.time.decode("ascii", "replace")
        head, dot, rest = text.partition(".")
        if dot:
            digits = rest.rstrip("Z")
            zone = ""
            for mark in "+-":
                digits, found, after = digits.partition(mark)
                zone = found + after if found else zone
            text = f"{head}.{digits[:6].ljust(6, '0')}{zone or 'Z'}"
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            return None


def parse(line: bytes) -> Entry | None:
    """Parse one line of the file without its line feed; None if it is in another format."""
    parts = line.split(b" ", 3)
    if len(parts) != 4 or parts[1] not in (b"stdout", b"stderr"):
        return None
    tags = parts[2].split(b":")
    return Entry(parts[0], parts[1].decode(), b"P" not in tags, parts[3])


def tail_offset(file: BinaryIO, lines: int) -> int:
    """Return where the last ``lines`` lines of the program begin, reading from the end.

    Parts of a long line (P) count as one with its end.
    """
    position = file.seek(0, os.SEEK_END)
    if lines <= 0:
        return position
    starts: deque[int] = deque()
    rest = b""
    while position > 0:
        length = min(_BLOCK, position)
        position -= length
        file.seek(position)
        data = file.read(length) + rest
        pieces = data.split(b"\n")
        # The first piece may have begun in the block before.
        rest = pieces[0]
        offset = position + len(data)
        for piece in reversed(pieces[1:]):
            offset -= len(piece)
            if piece and _begins(piece, starts, offset, lines):
                return starts[0]
            offset -= 1
    if rest and _begins(rest, starts, 0, lines):
        return starts[0]
    return 0


def _begins(piece: bytes, starts: deque[int], offset: int, lines: int) -> bool:
    """Note where a line of the file begins; True once there are more than enough of them."""
    entry = parse(piece)
    if entry is None or entry.whole or not starts:
        if len(starts) == lines:
            return True
        starts.appendleft(offset)
    else:
        # A part: it belongs to the line whose end was seen before.
        starts[0] = offset
    return False
