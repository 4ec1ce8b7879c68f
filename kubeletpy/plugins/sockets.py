"""gRPC servers on unix sockets that only root may use."""

from __future__ import annotations

import asyncio
import contextlib
import os
from abc import ABC, abstractmethod
from pathlib import Path

import grpc.aio

_LONGEST_PATH = 107


async def listen(server: grpc.aio.Server, path: Path) -> None:
    """Start a server on a socket, in place of one that an earlier kubelet left.

    Raises:
        OSError: it cannot listen there.
    """
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise OSError(
            f"{path}: the path of a socket has at most {_LONGEST_PATH} bytes; shorten --root-dir"
        )
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    before = os.umask(0o177)
    try:
        if server.add_insecure_port(f"unix:{path}") == 0:
            raise OSError(f"cannot listen on {path}")
    except RuntimeError as error:
        raise OSError(f"cannot listen on {path}: {error}") from error
    finally:
        os.umask(before)
    await server.start()
    path.chmod(0o600)


class SocketServer(ABC):
    """What listens on a socket of its own below the root directory, as long as the kubelet runs."""

    def __init__(self) -> None:
        self._server: grpc.aio.Server | None = None

    @abstractmethod
    async def listening(self) -> grpc.aio.Server:
        """Make the server and let it listen.

        Raises:
            OSError: it cannot.
        """

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: it cannot.
        """
        self._server = await self.listening()

    async def run(self) -> None:
        """Listen until cancelled.

        Raises:
            OSError: it cannot.
        """
        try:
            await self.start()
            await asyncio.Event().wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop listening."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)
