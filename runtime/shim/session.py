"""The daemon's side of one exec or attach: a connection of its own to the shim."""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from runtime.shim.client import ShimError
from runtime.shim.messages import Decoder, ProtocolError, encode

if TYPE_CHECKING:
    from runtime.shim.messages import Message

_CHUNK: Final = 64 << 10
_MAX_DESCRIPTORS: Final = 4


class ShimSession:
    """What a shim handed over for one client; closing it ends the command or the attachment.

    Made by :meth:`exec` or :meth:`attach`.

    Attributes:
        end: done when the command or the container has ended; its result is the shim's message,
            with ``exit_code`` of a command, or ``complete`` of an attachment; it fails with
            :class:`ShimError` when the shim dies.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._decoder = Decoder()
        self._descriptors: list[int] = []
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Message] = self._loop.create_future()
        self._names: dict[str, int] = {}
        self.end: asyncio.Future[Message] = self._loop.create_future()
        self._loop.add_reader(sock.fileno(), self._on_readable)

    @classmethod
    async def exec(
        cls,
        path: Path,
        container_id: str,
        process: dict[str, Any],
        streams: Iterable[str],
        *,
        timeout: float,
    ) -> Self:
        """Run a command in a container.

        Args:
            path: the shim's socket.
            container_id: a running container.
            process: the OCI ``process``; with ``terminal`` it gets one, in place of streams.
            streams: which of ``stdin``, ``stdout`` and ``stderr`` it gets.
            timeout: seconds until it must have been executed.

        Raises:
            ShimError: it could not be executed.
        """
        request = {"op": "exec", "container_id": container_id, "process": process}
        return await cls._open(path, request | {"streams": list(streams)}, timeout)

    @classmethod
    async def attach(
        cls, path: Path, container_id: str, streams: Iterable[str], *, timeout: float
    ) -> Self:
        """Get copies of a container's output from now on, and its input.

        Args:
            path: the shim's socket.
            container_id: a running container.
            streams: which of ``stdin``, ``stdout`` and ``stderr``.
            timeout: seconds until the shim must have answered.

        Raises:
            ShimError: the container does not run, or the shim does not answer.
        """
        request = {"op": "attach", "container_id": container_id, "streams": list(streams)}
        return await cls._open(path, request, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def take(self, name: str) -> int:
        """Return a descriptor, which belongs to the caller from now on; -1 if there is none.

        Names are ``stdin``, ``stdout``, ``stderr``, and ``terminal``: the master of a terminal.
        """
        return self._names.pop(name, -1)

    def close(self) -> None:
        """Disconnect: the shim kills the command, or stops copying."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        for fd in (*self._descriptors, *self._names.values()):
            os.close(fd)
        self._descriptors.clear()
        self._names.clear()
        for future in (self._answer, self.end):
            if future.done() and not future.cancelled():
                future.exception()
            future.cancel()

    @classmethod
    async def _open(cls, path: Path, request: Message, timeout: float) -> Self:
        operation = request["op"]
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        session = None
        try:
            _connect(sock, path)
            session = cls(sock)
            async with asyncio.timeout(timeout):
                await session._loop.sock_sendall(sock, encode({"id": 1, **request}))
                answer = await session._answer
            session._name(answer["result"]["descriptors"])
        except BaseException as error:
            session.close() if session is not None else sock.close()
            if isinstance(error, TimeoutError):
                text = f"{operation}: the shim did not answer within {timeout:g} s"
                raise ShimError("timeout", text) from None
            if isinstance(error, OSError):
                raise ShimError("lost", f"{operation}: connect to the shim: {error}") from error
            raise
        return session

    def _name(self, names: list[str]) -> None:
        if len(names) != len(self._descriptors):
            raise ShimError("protocol", "the shim sent other descriptors than it named")
        self._names = dict(zip(names, self._descriptors, strict=True))
        self._descriptors = []

    def _on_readable(self) -> None:
        try:
            data, ancillary, _, _ = self._socket.recvmsg(
                _CHUNK,
                socket.CMSG_SPACE(_MAX_DESCRIPTORS * array.array("i").itemsize),
                socket.MSG_CMSG_CLOEXEC,
            )
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds = array.array("i")
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                self._descriptors += fds
        try:
            messages = self._decoder.feed(data)
        except ProtocolError:
            data, messages = b"", []
        for message, _ in messages:
            self._dispatch(message)
        if not data:
            self._loop.remove_reader(self._socket.fileno())
            lost = ShimError("lost", "the shim of this pod has ended")
            for future in (self._answer, self.end):
                if not future.done():
                    future.set_exception(lost)
                    # Not everybody waits for both.
                    future.exception()

    def _dispatch(self, message: Message) -> None:
        if message.get("event") == "end":
            if not self.end.done():
                self.end.set_result(message)
        elif self._answer.done():
            return
        elif error := message.get("error"):
            self._answer.set_exception(ShimError(error["code"], error["message"]))
        else:
            self._answer.set_result(message)


def _connect(sock: socket.socket, path: Path) -> None:
    # As in ShimClient.connect: the length of the path does not matter. A Unix socket connects at
    # once or not at all (unix(7)).
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.setblocking(False)
        sock.connect(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)
