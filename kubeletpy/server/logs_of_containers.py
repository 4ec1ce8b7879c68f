"""``/containerLogs``: what containers write.

The words of refusals are those of the Go kubelet: the API server passes them on to people.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from aiohttp import web

from kubeletpy.api.pod import Pod
from kubeletpy.api.status import ContainerStatus, PodStatus
from kubeletpy.container_logs.following import read_log
from kubeletpy.container_logs.options import (
    InvalidError,
    LogOptions,
    UnreadableError,
    log_options,
)
from kubeletpy.container_logs.reading import LogError, LogFile
from kubeletpy.container_logs.watching import Bell, DirectoryWatches
from kubeletpy.core import Core
from kubeletpy.cri.client import CriError
from kubeletpy.cri.sandbox_config import pod_log_directory
from kubeletpy_proto import cri_pb2

from .finding import Refused, find_container, find_pod, find_status

_PULLING = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


class ContainerLogs:
    """Answers ``/containerLogs``.

    Args:
        core: the kubelet's parts.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._watches = DirectoryWatches()
        self._bells: dict[str, set[Bell]] = {}
        core.on_status.append(self._changed)
        core.on_gone.append(self._changed)

    def _changed(self, pod: Pod, _: PodStatus | None = None) -> None:
        for bell in self._bells.get(pod.metadata.uid, ()):
            bell.doubt()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """``GET /containerLogs/NAMESPACE/POD/CONTAINER``."""
        try:
            options = _options(request)
            pod = self._pod(request)
            container_id = container_of(pod, request.match_info["container"], options)
            return await self._send(request, pod, container_id, options)
        except Refused as refused:
            return refused.answer()
        except LogError as error:
            return web.Response(status=400, text=str(error))

    def _pod(self, request: web.Request) -> Pod:
        namespace, name = request.match_info["namespace"], request.match_info["pod"]
        pod = find_pod(self._core.manager.pods(), namespace, name)
        if pod is None:
            raise Refused(404, f'pod "{name}" does not exist')
        container = request.match_info["container"]
        if find_container(pod, container) is None:
            raise Refused(404, f'container "{container}" not found in pod "{name}"')
        return pod

    async def _send(
        self, request: web.Request, pod: Pod, container_id: str, options: LogOptions
    ) -> web.StreamResponse:
        runtime, _, plain = container_id.partition("://")
        try:
            status = (await self._core.cri.container_status(plain)).status
        except CriError as error:
            text = f"unable to retrieve container logs for {runtime}://{plain}"
            raise Refused(400, text) from error
        root = self._core.facts.pod_logs
        path = relative_path(status.log_path, pod_log_directory(pod, self._core.facts), root)
        file = await asyncio.to_thread(
            LogFile, root, path, tail=options.tail, follow=options.follow
        )
        bell = Bell()
        followers = self._bells.setdefault(pod.metadata.uid, set())
        followers.add(bell)
        try:
            return await self._stream(request, file, options, plain, bell)
        finally:
            file.close()
            followers.discard(bell)
            if not followers:
                self._bells.pop(pod.metadata.uid, None)

    async def _stream(
        self,
        request: web.Request,
        file: LogFile,
        options: LogOptions,
        container_id: str,
        bell: Bell,
    ) -> web.StreamResponse:
        async def alive() -> bool:
            return await self._alive(container_id)

        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        log = read_log(file, options, alive, self._watches, bell)
        try:
            async with contextlib.aclosing(log) as parts:
                async for data in parts:
                    await answer.write(data)
        except (LogError, OSError) as error:
            if isinstance(error, ConnectionError):
                raise
            # The head is sent: the end of what can be had is told in the log itself, as in Go.
            await answer.write(f"{error}".encode())
        await answer.write_eof()
        return answer

    async def _alive(self, container_id: str) -> bool:
        try:
            status = (await self._core.cri.container_status(container_id)).status
        except CriError as error:
            # A runtime that is away leaves its containers running.
            return not error.not_found
        return status.state in (cri_pb2.CONTAINER_RUNNING, cri_pb2.CONTAINER_CREATED)


def _options(request: web.Request) -> LogOptions:
    try:
        return log_options(request.query, time.time_ns())
    except UnreadableError:
        raise Refused(400, '{"message": "Unable to decode query."}') from None
    except InvalidError:
        raise Refused(422, '{"message": "Invalid request."}') from None


def container_of(pod: Pod, name: str, options: LogOptions) -> str:
    """Return the id (``runtime://id``) of the instance whose log is asked for (pure).

    Raises:
        Refused: there is none.
    """
    where = f'container "{name}" in pod "{pod.metadata.name}"'
    status = find_status(pod, name)
    if status is None:
        raise Refused(400, f"{where} is not available")
    last = status.last_state.terminated
    if options.previous:
        if last is None or not last.container_id:
            raise Refused(400, f"previous terminated {where} not found")
        return last.container_id
    return _latest(status, where)


def _latest(status: ContainerStatus, where: str) -> str:
    state, last = status.state, status.last_state.terminated
    if state.running is not None:
        return status.container_id
    if state.terminated is not None or last is not None:
        found = state.terminated.container_id if state.terminated is not None else ""
        found = found or (last.container_id if last is not None else "")
        if not found:
            raise Refused(400, f"{where} is terminated")
        return found
    if state.waiting is None:
        raise Refused(400, f"{where} is waiting to start - no logs yet")
    reason = state.waiting.reason
    raise Refused(400, f"{where} is waiting to start: {_PULLING.get(reason, reason)}")


def relative_path(log_path: str, directory: Path, root: Path) -> str:
    """Return the path of a log relative to the directory of all logs (pure).

    Args:
        log_path: as the runtime gives it.
        directory: of the pod's logs.
        root: of all logs.

    Raises:
        Refused: it is not one of the pod's.
    """
    path = Path(log_path)
    try:
        inside = path.relative_to(directory)
    except ValueError:
        inside = Path()
    if not inside.parts or ".." in path.parts:
        raise Refused(400, f"the container's log {log_path!r} is not in {directory}")
    return str(directory.relative_to(root) / inside)
