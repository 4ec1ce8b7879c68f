"""Listening, and what runs beside, from the start to the end of the server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

from aiohttp import web

from controlplane.assembly import assemble
from controlplane.data_dir import held
from controlplane.options import Options
from controlplane.plane import Background, Plane
from controlplane.server.app import Server
from kubeletpy_common import logs

_log = logging.getLogger(__name__)
_SHUTDOWN_SECONDS = 2.0
# As kube-apiserver.
_IDLE_SECONDS = 90.0
_MAX_HEADER = 64 << 10
_IP_FREEBIND = 15  # ip(7)
_IPV6_FREEBIND = 78


@contextlib.asynccontextmanager
async def serving(options: Options) -> AsyncIterator[Running]:
    """Serve within the block.

    Raises:
        OSError: the address cannot be listened on.
        StoreError: the store cannot be opened.
        TrustError: a key or certificate cannot be used.
        OptionsError: an option cannot be taken; another server has the directory.
    """
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(held(options.data_dir))
        # Bound before anything else: the port is in kubeconfigs and in objects.
        listener = stack.enter_context(_bind(options.bind_address, options.secure_port))
        options = replace(options, secure_port=listener.getsockname()[1])
        listeners = [listener]
        for address in options.extra_bind_addresses:
            listeners.append(stack.enter_context(_bind(address, options.secure_port, early=True)))
        plane = await assemble(options)
        stack.push_async_callback(plane.store.close)
        for start in plane.starters:
            await start()
        runner = web.AppRunner(
            Server(plane).application(),
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=_SHUTDOWN_SECONDS,
            # Also the time within which a new connection must send its first headers.
            keepalive_timeout=_IDLE_SECONDS,
            max_line_size=_MAX_HEADER,
            max_field_size=_MAX_HEADER,
        )
        stack.push_async_callback(runner.cleanup)
        stack.callback(_begin_to_stop, plane)
        await runner.setup()
        for one in listeners:
            await web.SockSite(runner, one, ssl_context=plane.tls).start()
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        running = [tasks.create_task(keep(work)) for work in plane.background]
        stack.callback(lambda: [task.cancel() for task in running])
        yield Running(plane, options.secure_port)


def _bind(address: str, port: int, *, early: bool = False) -> socket.socket:
    """Return a socket with an address; ``early``: also before the machine has that."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if early:
            level, name = (socket.IPPROTO_IP, _IP_FREEBIND)
            if family == socket.AF_INET6:
                level, name = (socket.IPPROTO_IPV6, _IPV6_FREEBIND)
            listener.setsockopt(level, name, 1)
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"listen on {address} port {port}: {error.strerror}") from error
    return listener


def _begin_to_stop(plane: Plane) -> None:
    """Be ready no longer, and end what would never end by itself."""
    plane.stopping = True
    plane.store.end_watches()


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
