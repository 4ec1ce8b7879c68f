"""When systemd reads its units anew, and writes cgroup files again by what it keeps of them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from kubeletpy_common.cgroups.systemd.bus import SOCKET

NOT_KEPT: Final = ("memory.oom.group", "memory.zswap.max", "memory.zswap.writeback")
"""Files that systemd writes and has no property for (not in all versions, or not for scopes)."""
# The signal of org.freedesktop.systemd1.Manager, before and after (systemd.io, D-Bus API).
_SIGNAL: Final = b"Reloading"
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 30.0
_HANDSHAKE_SECONDS: Final = 30.0

_log = logging.getLogger(__name__)


async def reloads(path: str = SOCKET) -> AsyncGenerator[None, None]:
    """Yield once it is listened, and after each ``daemon-reload`` and ``daemon-reexec``; for ever.

    Signals need no subscription on this socket. They are not parsed, only looked for: there are
    many of them. At a ``daemon-reexec`` systemd closes the connection.
    """
    wait = _FIRST_WAIT
    while True:
        try:
            async with aclosing(_listen(path)) as heard:
                async for _ in heard:
                    wait = _FIRST_WAIT
                    yield
        except (OSError, EOFError, asyncio.IncompleteReadError, TimeoutError) as error:
            _log.debug("systemd's signals are not heard at present: %s", error)
        await asyncio.sleep(wait)
        wait = min(wait * 2, _LONGEST_WAIT)


async def _listen(path: str) -> AsyncGenerator[None, None]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        identity = str(os.geteuid()).encode().hex()
        writer.write(f"\0AUTH EXTERNAL {identity}\r\nBEGIN\r\n".encode())
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            answer = await reader.readline()
        if not answer.startswith(b"OK "):
            raise PermissionError(f"systemd refused us: {answer[:100]!r}")
        yield
        seen = b""
        while data := await reader.read(1 << 16):
            if _SIGNAL in seen + data:
                seen = b""
                # The first of the two signals does as well: what is asked of systemd then is
                # answered when it is done.
                yield
            else:
                seen = data[-len(_SIGNAL) :]
    finally:
        writer.close()
