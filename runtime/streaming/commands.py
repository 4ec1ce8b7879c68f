"""One exec or attach: bytes between a client and a process, until one of them ends it."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from runtime.streaming.descriptors import Readable, Writable
from runtime.streaming.status import Outcome


class CommandClient(Protocol):
    """Where the streams of a command come from and go to.

    Attributes:
        gone: set when the client has left, whatever is still to be read from it.
    """

    gone: asyncio.Event

    async def read_stdin(self) -> bytes:
        """Return some input; b"" at its end."""
        ...

    async def read_size(self) -> tuple[int, int] | None:
        """Return the next size (width, height) of the terminal; None when no more will come."""
        ...

    async def write(self, stream: str, data: bytes) -> None:
        """Send output of ``stdout`` or ``stderr``, at the pace of the client."""
        ...

    async def finish(self, outcome: Outcome) -> None:
        """Say how it ended."""
        ...


@dataclass
class Process:
    """The streams of a running process.

    Attributes:
        end: done when it has ended; its result says how.
        outputs: by name, ``stdout`` and ``stderr``.
        stdin: None if it has none.
        terminal: to tell of its size; None without one.
        on_stdin_end: called when the client's input has ended; False from it ends the session.
    """

    end: asyncio.Future[Outcome]
    outputs: dict[str, Readable] = field(default_factory=dict)
    stdin: Writable | None = None
    terminal: Writable | None = None
    on_stdin_end: Callable[[], Awaitable[bool]] | None = None

    def close(self) -> None:
        """Close all of its streams."""
        for stream in (*self.outputs.values(), self.stdin, self.terminal):
            if stream is not None:
                stream.close()


@dataclass(frozen=True)
class CommandRequest:
    """What a token of exec or attach stands for.

    Attributes:
        kind: ``exec`` or ``attach``.
        subject: id of the container, for the log.
        streams: which of ``stdin``, ``stdout`` and ``stderr`` the client gets.
        terminal: it has one.
        open: starts the process, or attaches to it; leaving the context ends that.
    """

    kind: str
    subject: str
    streams: frozenset[str]
    terminal: bool
    open: Callable[[], AbstractAsyncContextManager[Process]]


class IdleTimer:
    """Ends what nobody has used for a while."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()

    def touch(self) -> None:
        """Note that it was used."""
        self._last = self._loop.time()

    async def expired(self) -> None:
        """Return once it was not used for its time."""
        while (left := self._last + self._seconds - self._loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)


async def converse(process: Process, client: CommandClient, idle_seconds: float) -> Outcome | None:
    """Carry bytes both ways until the process ends, or the client leaves.

    Returns:
        how it ended; None if the client has gone, and nobody is left to hear it.
    """
    idle = IdleTimer(idle_seconds)
    detached = asyncio.Event()
    outputs = [
        asyncio.create_task(_send_output(client, name, stream, idle), name=f"stream-{name}")
        for name, stream in process.outputs.items()
    ]
    others = [
        asyncio.create_task(_take_input(client, process, idle, detached), name="stream-stdin"),
        asyncio.create_task(_take_sizes(client, process), name="stream-resize"),
    ]
    gone = asyncio.create_task(client.gone.wait())
    expired = asyncio.create_task(idle.expired())
    leave = asyncio.create_task(detached.wait())
    stops: set[asyncio.Future[Any]] = {gone, expired, leave}
    try:
        await asyncio.wait({process.end, *stops}, return_when=asyncio.FIRST_COMPLETED)
        if process.end.done():
            for stream in process.outputs.values():
                stream.finish()
            sent = asyncio.gather(*outputs)
            await asyncio.wait({sent, *stops}, return_when=asyncio.FIRST_COMPLETED)
            sent.cancel()
        if gone.done():
            return None
        if expired.done():
            return Outcome(error=f"the session was idle for {idle_seconds:g} s and was ended")
        return process.end.result() if process.end.done() else Outcome()
    finally:
        tasks = [*outputs, *others, *stops]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _send_output(client: CommandClient, name: str, stream: Readable, idle: IdleTimer) -> None:
    try:
        while data := await stream.read():
            await client.write(name, data)
            idle.touch()
    except ConnectionError:
        client.gone.set()


async def _take_input(
    client: CommandClient, process: Process, idle: IdleTimer, detached: asyncio.Event
) -> None:
    stdin = process.stdin
    try:
        while data := await client.read_stdin():
            idle.touch()
            if stdin is None:
                # Taken all the same: what comes behind it on the connection may matter.
                continue
            try:
                await stdin.write(data)
            except OSError:
                # The process reads no more.
                stdin.close()
                stdin = None
    except ConnectionError:
        client.gone.set()
        return
    if process.on_stdin_end is not None:
        if not await process.on_stdin_end():
            detached.set()
    elif stdin is not None and process.terminal is None:
        stdin.close()


async def _take_sizes(client: CommandClient, process: Process) -> None:
    try:
        while (size := await client.read_size()) is not None:
            if process.terminal is not None and process.terminal.fileno() >= 0:
                window = struct.pack("HHHH", size[1], size[0], 0, 0)
                fcntl.ioctl(process.terminal.fileno(), termios.TIOCSWINSZ, window)
    except ConnectionError:
        client.gone.set()
