"""The daemon's side of a shim's socket."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.shim.messages import (
    ContainerReport,
    Decoder,
    ExecResult,
    ExitRecord,
    ProtocolError,
    Started,
    StartRequest,
    encode,
    to_message,
)

if TYPE_CHECKING:
    from runtime.shim.messages import Message

_CHUNK = 256 << 10
_REQUEST_TIMEOUT = 10.0
_EXTERNAL_SECONDS = 10.0
"""That an external runtime may take in addition."""


class ShimError(Exception):
    """A shim refused a request or could not carry it out.

    Attributes:
        code: as :class:`runtime.shim.forking.LaunchError`, and ``lost`` when the shim is gone.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ShimClient:
    """A connection to the shim of one pod; made by :meth:`connect`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_exit: Callable[[ExitRecord], None],
        on_lost: Callable[[], None],
        on_notice: Callable[[str, str], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_exit = on_exit
        self._on_lost = on_lost
        self._on_notice = on_notice
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[tuple[Message, bytes]]] = {}
        self._closing = False
        self._task = asyncio.create_task(self._receive(), name="shim-client")

    @classmethod
    async def connect(
        cls,
        socket: Path,
        *,
        on_exit: Callable[[ExitRecord], None],
        on_lost: Callable[[], None],
        on_notice: Callable[[str, str], None] = lambda container_id, text: None,
        timeout: float = 5,
    ) -> ShimClient:
        """Connect to the shim that listens on ``socket``.

        Args:
            socket: its path, of any length.
            on_exit: called when a container ends while connected.
            on_lost: called once if the shim ends without having been asked to.
            on_notice: called with a container's id and a text about it for the administrator.
            timeout: seconds.

        Raises:
            OSError: nobody listens there.
            TimeoutError: the shim does not accept.
        """
        # A Unix socket's address holds 107 bytes; going through a descriptor of the directory
        # makes the length of the path irrelevant.
        directory = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            address = f"/proc/self/fd/{directory}/{socket.name}"
            async with asyncio.timeout(timeout):
                reader, writer = await asyncio.open_unix_connection(address)
        finally:
            os.close(directory)
        return cls(reader, writer, on_exit, on_lost, on_notice)

    async def start(self, request: StartRequest, *, timeout: float = 60) -> Started:
        """Start a container.

        Args:
            request: what to start.
            timeout: seconds until execve must have succeeded.

        Raises:
            ShimError: it could not be started; nothing of it runs.
        """
        message = {"request": to_message(request), "timeout": timeout}
        result, _ = await self._call("start", message, timeout + _REQUEST_TIMEOUT)
        return Started(**result)

    async def exec_sync(
        self, container_id: str, process: dict[str, Any], *, timeout: float | None
    ) -> ExecResult:
        """Run a command in a container and wait for its end.

        When this call is cancelled, the command is killed.

        Args:
            container_id: a running container.
            process: the OCI ``process``.
            timeout: seconds until it is killed; None: never.

        Raises:
            ShimError: it could not be executed.
        """
        message = {"container_id": container_id, "process": process, "timeout": timeout}
        limit = None if timeout is None else timeout + _REQUEST_TIMEOUT
        result, payload = await self._call("exec_sync", message, limit, cancellable=True)
        size = result["stdout_size"]
        return ExecResult(payload[:size], payload[size:], result["exit_code"], result["timed_out"])

    async def kill(self, container_id: str, signal: int, *, all: bool = False) -> None:
        """Send a signal to a container's first process, or to all of its processes.

        A container that has ended, or is unknown, is no error.
        """
        await self._call("kill", {"container_id": container_id, "signal": signal, "all": all})

    async def reopen_log(self, container_id: str) -> None:
        """Go on in a new log file.

        Raises:
            ShimError: the container does not run, or the file cannot be made.
        """
        await self._call("reopen_log", {"container_id": container_id})

    async def close_stdin(self, container_id: str) -> None:
        """Let a container's standard input end once nobody else holds it open."""
        await self._call("close_stdin", {"container_id": container_id})

    async def forget(self, container_id: str) -> None:
        """Let go of an ended container.

        Raises:
            ShimError: it still runs.
        """
        timeout = _REQUEST_TIMEOUT + _EXTERNAL_SECONDS
        await self._call("forget", {"container_id": container_id}, timeout)

    async def update(self, container_id: str, resources: dict[str, Any]) -> None:
        """Tell a container's external runtime of other limits.

        Args:
            container_id: a running container.
            resources: OCI ``linux.resources``.

        Raises:
            ShimError: the container does not run, or the runtime refused.
        """
        await self._call(
            "update",
            {"container_id": container_id, "resources": resources},
            _REQUEST_TIMEOUT + _EXTERNAL_SECONDS,
        )

    async def containers(self) -> list[ContainerReport]:
        """Return what the shim knows of its containers."""
        result, _ = await self._call("containers", {})
        return [_container_report(report) for report in result["containers"]]

    async def shutdown(self) -> None:
        """Have the shim kill its containers and end; a shim that is gone is no error."""
        self._closing = True
        try:
            await self._call("shutdown", {})
        except ShimError as error:
            if error.code != "lost":
                raise
        await self.close()

    async def close(self) -> None:
        """Close this connection; the shim and its containers go on."""
        self._closing = True
        self._writer.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def lost(self) -> bool:
        """The shim has ended or the connection was closed."""
        return self._task.done()

    async def _call(
        self,
        operation: str,
        message: Message,
        timeout: float | None = _REQUEST_TIMEOUT,
        *,
        cancellable: bool = False,
    ) -> tuple[Message, bytes]:
        if self.lost:
            raise ShimError("lost", f"{operation}: the shim of this pod has ended")
        number = next(self._ids)
        future: asyncio.Future[tuple[Message, bytes]]
        future = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        try:
            self._writer.write(encode({"id": number, "op": operation, **message}))
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise ShimError(
                "timeout", f"{operation}: the shim did not answer within {timeout:g} s"
            ) from None
        except asyncio.CancelledError:
            if cancellable and not self.lost:
                cancel = {"id": next(self._ids), "op": "cancel", "request_id": number}
                self._writer.write(encode(cancel))
            raise
        finally:
            self._pending.pop(number, None)

    async def _receive(self) -> None:
        decoder = Decoder()
        try:
            while data := await self._reader.read(_CHUNK):
                for message, payload in decoder.feed(data):
                    self._dispatch(message, payload)
        except (OSError, ProtocolError):
            # Either way the connection is of no more use, which is what is told below.
            pass
        finally:
            self._writer.close()
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(ShimError("lost", "the shim of this pod has ended"))
            if not self._closing:
                self._on_lost()

    def _dispatch(self, message: Message, payload: bytes) -> None:
        if message.get("event") == "exit":
            self._on_exit(ExitRecord(**message["record"]))
            return
        if message.get("event") == "notice":
            self._on_notice(message["container_id"], message["text"])
            return
        future = self._pending.get(message.get("id", 0))
        if future is None or future.done():
            return
        if error := message.get("error"):
            future.set_exception(ShimError(error["code"], error["message"]))
        else:
            future.set_result((message["result"], payload))


def _container_report(message: Message) -> ContainerReport:
    record = message.pop("exit")
    return ContainerReport(**message, exit=ExitRecord(**record) if record else None)
