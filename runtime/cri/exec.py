"""Exec: a URL at which a client can run a command in a container and talk to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.bundle import read_config
from runtime.cri.errors import InvalidRequestError, NotReadyError
from runtime.cri.runtime import Runtime
from runtime.oci.translate_process import check_text
from runtime.shim.session import ShimSession
from runtime.state.records import ContainerState
from runtime.state.store import Container
from runtime.streaming.commands import CommandRequest, Process
from runtime.streaming.descriptors import Readable, Writable
from runtime.streaming.status import Outcome


async def exec_(runtime: Runtime, request: cri.ExecRequest) -> cri.ExecResponse:
    """Return the URL; the command is run when a client opens it.

    Raises:
        InvalidRequestError: there is no command, no stream, or stderr beside a terminal.
        NotFoundError: there is no such container.
        NotReadyError: it does not run.
        TooManyTokensError: too many URLs were asked for and not opened.
    """
    if not request.cmd:
        raise InvalidRequestError("Exec needs a command")
    for word in request.cmd:
        check_text(word, "a word of the command")
    streams = wanted_streams(request, request.tty)
    container = runtime.store.container(request.container_id)
    check_running(container)
    command = CommandRequest(
        kind="exec",
        subject=container.id,
        streams=streams,
        terminal=request.tty,
        open=lambda: _run(runtime, container, list(request.cmd), streams, request.tty),
    )
    return cri.ExecResponse(url=runtime.streaming.issue(command))


def wanted_streams(request: cri.ExecRequest | cri.AttachRequest, tty: bool) -> frozenset[str]:
    """Return which of ``stdin``, ``stdout`` and ``stderr`` a client asks for.

    Raises:
        InvalidRequestError: none, or stderr beside a terminal, which has one output only.
    """
    if request.stderr and tty:
        raise InvalidRequestError("tty and stderr exclude each other: a terminal has one output")
    names = ("stdin", "stdout", "stderr")
    streams = frozenset(name for name in names if getattr(request, name))
    if not streams:
        raise InvalidRequestError("one of stdin, stdout and stderr must be true")
    return streams


def check_running(container: Container) -> None:
    """Check that there is a process to talk to.

    Raises:
        NotReadyError: the container does not run.
    """
    if container.record.state is not ContainerState.RUNNING or container.pod.shim is None:
        raise NotReadyError(
            f"container {container.id} is {container.record.state}, streams need a running one"
        )


def streams_of(
    session: ShimSession, wanted: Collection[str], end: asyncio.Future[Outcome]
) -> Process:
    """Take the descriptors of a session."""
    process = Process(end)
    for name in ("stdout", "stderr"):
        if (fd := session.take(name)) >= 0:
            process.outputs[name] = Readable(fd)
    if (fd := session.take("terminal")) >= 0:
        process.terminal = Writable(fd)
        if "stdin" in wanted:
            process.stdin = Writable(os.dup(fd))
    elif (fd := session.take("stdin")) >= 0:
        process.stdin = Writable(fd)
    return process


@asynccontextmanager
async def _run(
    runtime: Runtime, container: Container, words: list[str], streams: frozenset[str], tty: bool
) -> AsyncIterator[Process]:
    # It may have ended since the URL was given out.
    check_running(container)
    oci = read_config(runtime.container_directory(container.id))
    spec: dict[str, Any] = oci["process"] | {"args": words, "terminal": tty}
    if tty and not any(entry.startswith("TERM=") for entry in spec["env"]):
        spec["env"] = [*spec["env"], "TERM=xterm"]
    socket = runtime.sandbox_directory(container.pod.id) / "shim.sock"
    timeout = runtime.config.limits.start_seconds
    async with await ShimSession.exec(socket, container.id, spec, streams, timeout=timeout) as shim:
        end = asyncio.ensure_future(_outcome(shim))
        process = streams_of(shim, streams, end)
        unwanted = None
        try:
            if process.terminal is not None:
                output = Readable(os.dup(process.terminal.fileno()))
                if "stdout" in streams:
                    process.outputs["stdout"] = output
                else:
                    unwanted = output
                    runtime.in_background(_discard(output), "discard a terminal's output")
            yield process
        finally:
            process.close()
            end.cancel()
            if unwanted is not None:
                unwanted.close()


async def _discard(stream: Readable) -> None:
    # A terminal that nobody reads would stop the command once it is full.
    while await stream.read():
        pass


async def _outcome(shim: ShimSession) -> Outcome:
    message = await shim.end
    return Outcome(exit_code=message["exit_code"])
