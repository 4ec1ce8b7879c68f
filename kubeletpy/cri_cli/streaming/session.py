"""A session from end to end: our terminal or pipes here, a process in a container there."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager

from kubeletpy.cri_cli.streaming import spdy, terminal, websocket
from kubeletpy.cri_cli.streaming.remote import HalfCloseUnsupported, Remote, Streams
from kubeletpy.cri_cli.streaming.status import Ended

UrlMaker = Callable[[], str]
"""Asks the runtime for a session; its URL serves once."""


async def run(make_url: UrlMaker, streams: Streams) -> Ended:
    """Carry a session until it ends.

    Args:
        make_url: asked for a URL, again if the first protocol will not do.
        streams: which ones; with ``tty`` our stdin is made raw if it is a terminal.

    Raises:
        StreamingError: it could not be opened, or the server broke the protocol.
        RuntimeFailure: the runtime refused.
    """
    with ExitStack() as resources:
        async with _opened(make_url, streams) as remote:
            tasks: set[asyncio.Task[None]] = set()
            if streams.tty and sys.stdout.isatty():
                tasks.add(_follow_size(remote, resources))
            if streams.stdin:
                if streams.tty and sys.stdin.isatty():
                    resources.enter_context(terminal.raw(sys.stdin.fileno()))
                tasks.add(asyncio.create_task(_send_input(remote)))
            try:
                return await remote.run(terminal.write)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _opened(make_url: UrlMaker, streams: Streams) -> AsyncIterator[Remote]:
    """Open a session by WebSocket; by SPDY where only that can tell the end of the input."""
    try:
        async with websocket.connect(await asyncio.to_thread(make_url), streams) as remote:
            yield remote
            return
    except HalfCloseUnsupported:
        # Raised before anything was run; the URL is spent.
        pass
    url = await asyncio.to_thread(make_url)
    async with spdy.connect(url, spdy.REMOTE_COMMAND) as connection:
        session = spdy.SpdyRemote(connection, streams)
        await session.start()
        yield session


async def _send_input(remote: Remote) -> None:
    source = terminal.Input(sys.stdin.fileno())
    try:
        while chunk := await source.read():
            await remote.send(chunk)
        await remote.end_input()
    except ConnectionError:
        # The session has ended, and tells how.
        pass


def _follow_size(remote: Remote, resources: ExitStack) -> asyncio.Task[None]:
    """Tell the terminal's size now and whenever it changes."""
    changed = asyncio.Event()
    changed.set()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, changed.set)
    resources.callback(loop.remove_signal_handler, signal.SIGWINCH)

    async def follow() -> None:
        try:
            while True:
                await changed.wait()
                changed.clear()
                await remote.resize(*terminal.size(sys.stdout.fileno()))
        except ConnectionError:
            # The session has ended, and tells how.
            pass

    return asyncio.create_task(follow())
