"""Listening, and what runs beside, from the start to the end of the server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator

from aiohttp import web

from controlplane.assembly import assemble
from controlplane.options import Options
from controlplane.plane import Background, Plane
from controlplane.server.app import Server
from kubeletpy_common import logs

_log = logging.getLogger(__name__)
_SHUTDOWN_SECONDS = 2.0


@contextlib.asynccontextmanager
async def serving(options: Options, tls: ssl.SSLContext | None = None) -> AsyncIterator[Running]:
    """Serve within the block.

    Args:
        options: how.
        tls: certificate and key; None: plain HTTP, for tests of the machinery.

    Raises:
        OSError: the address cannot be listened on.
        StoreError: the store cannot be opened.
    """
    async with contextlib.AsyncExitStack() as stack:
        plane = await assemble(options)
        stack.push_async_callback(plane.store.close)
        for start in plane.starters:
            await start()
        runner = web.AppRunner(
            Server(plane).application(),
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        site = web.TCPSite(runner, options.bind_address, options.secure_port, ssl_context=tls)
        await site.start()
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        running = [tasks.create_task(keep(work)) for work in plane.background]
        stack.callback(lambda: [task.cancel() for task in running])
        yield Running(plane, runner.addresses[0][1])


class Running:
    """A server that listens.

    Attributes:
        plane: its parts.
        port: that it listens on.
    """

    def __init__(self, plane: Plane, port: int) -> None:
        self.plane = plane
        self.port = port


async def keep(work: Background) -> None:
    """Run something to its end; begin again, ever later, when it fails."""
    pause = 1.0
    while True:
        try:
            return await work()
        except Exception as error:
            _log.exception("a part of the server failed and begins again")
            logs.event(_log, logging.ERROR, "begins again", error=str(error), seconds=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 60.0)
