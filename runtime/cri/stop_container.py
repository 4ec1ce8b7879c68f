"""StopContainer: a polite signal, some time, then SIGKILL."""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.errors import InvalidRequestError
from runtime.cri.lifecycle import kill_container, swept, wait_exited
from runtime.cri.runtime import Runtime
from runtime.shim.client import ShimError
from runtime.state.store import Container, NotFoundError


async def stop_container(
    runtime: Runtime, request: cri.StopContainerRequest
) -> cri.StopContainerResponse:
    """Stop a container; one that has ended, never ran or is gone is fine.

    Two calls at a time are fine as well: the shorter timeout wins.

    Raises:
        InvalidRequestError: the timeout (seconds) is negative.
        CleanupError: the kernel does not let go of a process.
    """
    if request.timeout < 0:
        raise InvalidRequestError(f"timeout {request.timeout} is negative")
    try:
        container = runtime.store.container(request.container_id)
    except NotFoundError:
        return cri.StopContainerResponse()
    async with container.pod.lock:
        # A start that is under way comes to its end first. The lock is not held while waiting:
        # the other containers of the pod are stopped at the same time.
        running = container.running
    if running and request.timeout:
        await _ask(container)
        await wait_exited(container, request.timeout)
    if container.running:
        await kill_container(runtime, container)
    await swept(container)
    return cri.StopContainerResponse()


async def _ask(container: Container) -> None:
    shim = container.pod.shim
    if shim is None:
        return
    try:
        await shim.kill(container.id, container.record.stop_signal)
    except ShimError:
        # A lost shim takes its containers along; one that hangs is answered by SIGKILL.
        if shim.lost:
            await wait_exited(container, 1.0)
