"""From lines of a log file to what a client is sent (pure)."""

from __future__ import annotations

from collections.abc import Iterable

from .format import parse
from .moments import fixed_width, nanoseconds
from .options import LogOptions


class Renderer:
    """Turns lines of the file into what the program wrote.

    Args:
        options: what is asked for.

    Attributes:
        done: whether no more may be sent: the limit of bytes is reached.
    """

    def __init__(self, options: LogOptions) -> None:
        self.done = options.limit == 0
        self._since = options.since
        self._timestamps = options.timestamps
        self._streams = options.streams
        self._left = options.limit
        self._at_start = True

    def render(self, lines: Iterable[bytes], *, ended: bool = True) -> bytes:
        """Return what is sent of some lines of the file.

        Args:
            lines: without their line feeds; those in another format are left out.
            ended: False for a line whose line feed has not been written yet.
        """
        sent: list[bytes] = []
        for line in lines:
            if self.done:
                break
            self._add(line, ended, sent)
        return b"".join(sent)

    def _add(self, line: bytes, ended: bool, sent: list[bytes]) -> None:
        entry = parse(line)
        if entry is None:
            return
        if self._since is not None:
            at = nanoseconds(entry.time)
            if at is None or at < self._since:
                return
        at_start, self._at_start = self._at_start, entry.whole and ended
        if entry.stream not in self._streams:
            return
        content = entry.content + b"\n" if entry.whole and ended else entry.content
        if self._timestamps and at_start:
            content = fixed_width(entry.time) + b" " + content
        if self._left is not None:
            content = content[: self._left]
            self._left -= len(content)
            self.done = self._left <= 0
        sent.append(content)
