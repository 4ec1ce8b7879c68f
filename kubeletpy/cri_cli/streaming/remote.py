"""What a session needs of a connection, whatever it speaks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from kubeletpy.cri_cli.streaming.status import Ended

Output = Callable[[str, bytes], Awaitable[None]]
"""Takes bytes of ``stdout`` or ``stderr``; the connection is not read meanwhile."""


class StreamingError(Exception):
    """The session could not be opened, or its connection broke the protocol."""


class HalfCloseUnsupported(StreamingError):
    """The server cannot be told over this protocol that the input has ended."""


@dataclass(frozen=True)
class Streams:
    """Which streams a session has; with a terminal there is no stderr."""

    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    tty: bool = False


class Remote(Protocol):
    """An open session."""

    async def send(self, data: bytes) -> None:
        """Send input, at the pace of the server.

        Raises:
            ConnectionError: the session has ended.
        """
        ...

    async def end_input(self) -> None:
        """Tell that there is no more input.

        Raises:
            ConnectionError: the session has ended.
        """
        ...

    async def resize(self, columns: int, rows: int) -> None:
        """Tell the size of the terminal.

        Raises:
            ConnectionError: the session has ended.
        """
        ...

    async def run(self, output: Output) -> Ended:
        """Pass output on until the session ends; returns how it did.

        Raises:
            StreamingError: the server broke the protocol.
        """
        ...
