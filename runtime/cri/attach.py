"""Attach: a URL at which a client gets the streams of a container's first process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.errors import InvalidRequestError
from runtime.cri.exec import check_running, streams_of, wanted_streams
from runtime.cri.runtime import Runtime
from runtime.shim.client import ShimError
from runtime.shim.session import ShimSession
from runtime.state.store import Container
from runtime.streaming.commands import CommandRequest, Process
from runtime.streaming.status import Outcome

_SHIM_SECONDS = 10.0
_TOO_SLOW = "the client read too slowly, and the container does not wait for it: attach again"


async def attach(runtime: Runtime, request: cri.AttachRequest) -> cri.AttachResponse:
    """Return the URL; the client sees what is written from the moment that it opens it.

    Raises:
        InvalidRequestError: no stream is asked for, stderr beside a terminal, or the container
            was made with ``tty`` and the request without, or the other way round.
        NotFoundError: there is no such container.
        NotReadyError: it does not run.
        TooManyTokensError: too many URLs were asked for and not opened.
    """
    streams = wanted_streams(request, request.tty)
    container = runtime.store.container(request.container_id)
    check_running(container)
    if request.tty and not container.config.tty:
        raise InvalidRequestError(f"container {container.id} has no terminal to attach to")
    command = CommandRequest(
        kind="attach",
        subject=container.id,
        streams=streams,
        terminal=request.tty,
        open=lambda: _attach(runtime, container, streams),
    )
    return cri.AttachResponse(url=runtime.streaming.issue(command))


@asynccontextmanager
async def _attach(
    runtime: Runtime, container: Container, streams: frozenset[str]
) -> AsyncIterator[Process]:
    check_running(container)
    socket = runtime.sandbox_directory(container.pod.id) / "shim.sock"
    timeout = _SHIM_SECONDS
    async with await ShimSession.attach(socket, container.id, streams, timeout=timeout) as shim:
        has_output = bool(streams - {"stdin"})
        end = asyncio.ensure_future(_outcome(shim, container, has_output))
        process = streams_of(shim, streams, end)

        async def on_stdin_end() -> bool:
            return await _end_input(container, process)

        if "stdin" in streams:
            process.on_stdin_end = on_stdin_end
        try:
            yield process
        finally:
            process.close()
            end.cancel()


async def _end_input(container: Container, process: Process) -> bool:
    """Do what the end of a client's input means; False: the client leaves with it.

    As with containerd: a container made with ``stdin_once`` sees the end of its input, and the
    client its output until it ends; any other container goes on to wait for the next client.
    """
    if not container.config.stdin_once or container.config.tty:
        return False
    if process.stdin is not None:
        process.stdin.close()
    if container.pod.shim is not None:
        try:
            await container.pod.shim.close_stdin(container.id)
        except ShimError:
            # It has ended, and the container with it.
            pass
    return True


async def _outcome(shim: ShimSession, container: Container, has_output: bool) -> Outcome:
    if has_output:
        message = await shim.end
        return Outcome() if message["complete"] else Outcome(error=_TOO_SLOW)
    await container.exited.wait()
    return Outcome()
