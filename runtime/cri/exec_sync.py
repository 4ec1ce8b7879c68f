"""ExecSync: one command in a running container, and what it says."""

from __future__ import annotations

from typing import Any

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.bundle import read_config
from runtime.cri.errors import ExecTimeoutError, InvalidRequestError, NotReadyError
from runtime.cri.runtime import Runtime
from runtime.oci.translate_process import check_text
from runtime.state.records import ContainerState


async def exec_sync(runtime: Runtime, request: cri.ExecSyncRequest) -> cri.ExecSyncResponse:
    """Run a command and wait for its end; stdout and stderr together are bounded.

    When the caller goes away the command is killed.

    Raises:
        InvalidRequestError: there is no command, or the timeout (seconds) is negative.
        NotFoundError: there is no such container.
        NotReadyError: it does not run.
        ExecTimeoutError: the command took longer, and was killed.
        ShimError: it could not be executed.
    """
    if not request.cmd or request.timeout < 0:
        raise InvalidRequestError("ExecSync needs a command, and a timeout that is not negative")
    for word in request.cmd:
        check_text(word, "a word of the command")
    container = runtime.store.container(request.container_id)
    shim = container.pod.shim
    if container.record.state is not ContainerState.RUNNING or shim is None:
        raise NotReadyError(
            f"container {container.id} is {container.record.state}, a command needs a running one"
        )
    if container.process is None:
        # Probes come every second; the configuration does not change.
        container.process = read_config(runtime.container_directory(container.id))["process"]
    process: dict[str, Any] = container.process | {"args": list(request.cmd), "terminal": False}
    timeout = float(request.timeout) or None
    result = await shim.exec_sync(container.id, process, timeout=timeout)
    if result.timed_out:
        raise ExecTimeoutError(
            f"command {request.cmd[0]!r} in container {container.id} exceeded its timeout of "
            f"{request.timeout} s and was killed"
        )
    limit = runtime.config.limits.exec_output_bytes
    stdout = result.stdout[:limit]
    return cri.ExecSyncResponse(
        stdout=stdout,
        stderr=result.stderr[: limit - len(stdout)],
        exit_code=result.exit_code,
    )
