"""The streams of a command over SPDY, as client-go's ``remotecommand`` opens them.

Each stream has a header ``streamType``: ``error`` always, ``stdin``, ``stdout`` and ``stderr`` as
asked for, ``resize`` with a terminal from version 3 on.
"""

from __future__ import annotations

import asyncio
from typing import Final

from runtime.streaming.resize import SizeParser
from runtime.streaming.spdy.connection import Carrier, Connection, Stream
from runtime.streaming.status import Outcome, status_json

PROTOCOLS: Final = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io")
TYPE_HEADER: Final = "streamtype"

_MAX_STREAMS: Final = 8
_LINGER_SECONDS: Final = 2.0


class SpdyClient:
    """A client that speaks one of :data:`PROTOCOLS`; use it as an async context.

    Args:
        carrier: the upgraded connection.
        protocol: what was negotiated.
        streams: which of ``stdin``, ``stdout`` and ``stderr`` it will open.
        terminal: it has a terminal.
        ping_seconds: between pings.
    """

    def __init__(
        self,
        carrier: Carrier,
        protocol: str,
        streams: frozenset[str],
        *,
        terminal: bool,
        ping_seconds: float,
    ) -> None:
        self._carrier = carrier
        self._has_status = protocol == PROTOCOLS[0]
        resize = {"resize"} if terminal and protocol != PROTOCOLS[2] else set()
        self._expected = {"error", *streams, *resize}
        self._streams: dict[str, Stream] = {}
        self._complete = asyncio.Event()
        self._connection = Connection(carrier, self._on_stream, _MAX_STREAMS, ping_seconds)
        self._parser = SizeParser()
        self._waiting: list[tuple[int, int]] = []
        self._task: asyncio.Task[None] | None = None
        self.gone = self._connection.closed

    async def __aenter__(self) -> SpdyClient:
        self._task = asyncio.create_task(self._connection.run(), name="spdy-connection")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._carrier.close()

    async def opened(self, timeout: float) -> bool:
        """Wait until the client has opened its streams; False if it does not, or leaves.

        Args:
            timeout: seconds.
        """
        waits = [
            asyncio.create_task(self._complete.wait()),
            asyncio.create_task(self.gone.wait()),
        ]
        try:
            await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return self._complete.is_set()

    async def read_stdin(self) -> bytes:
        """Return some input; b"" at its end.

        Raises:
            ConnectionError: the client is gone, or has reset the stream.
        """
        stream = self._streams.get("stdin")
        return b"" if stream is None else await stream.read()

    async def read_size(self) -> tuple[int, int] | None:
        """Return the next size of the terminal; None when no more will come."""
        stream = self._streams.get("resize")
        while not self._waiting:
            data = b"" if stream is None else await stream.read()
            if not data:
                return None
            self._waiting = self._parser.feed(data)
        return self._waiting.pop(0)

    async def write(self, stream: str, data: bytes) -> None:
        """Send output.

        Raises:
            ConnectionError: the client is gone, or has reset the stream.
        """
        await self._streams[stream].write(data)

    async def finish(self, outcome: Outcome) -> None:
        """Send the status, end all streams, and give the client time to close.

        Raises:
            ConnectionError: the client is gone.
        """
        error = self._streams.get("error")
        if error is not None:
            if self._has_status:
                await error.write(status_json(outcome))
            elif outcome.text:
                await error.write(outcome.text.encode())
        for name in ("stdout", "stderr", "stdin", "resize", "error"):
            if (stream := self._streams.get(name)) is not None:
                await stream.close_write()
        # A connection that is closed with input unread is reset, and the client might lose the
        # status; so it goes first.
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                await self.gone.wait()
        except TimeoutError:
            await self._connection.go_away()

    def _on_stream(self, stream: Stream) -> bool:
        kind = stream.headers.get(TYPE_HEADER, "")
        if kind not in self._expected or kind in self._streams:
            return False
        self._streams[kind] = stream
        if len(self._streams) == len(self._expected):
            self._complete.set()
        return True
