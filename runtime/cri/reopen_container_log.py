"""ReopenContainerLog: go on in a new file after a rotation."""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.errors import NotReadyError
from runtime.cri.runtime import Runtime
from runtime.state.records import ContainerState


async def reopen_container_log(
    runtime: Runtime, request: cri.ReopenContainerLogRequest
) -> cri.ReopenContainerLogResponse:
    """Have the shim open the container's log file anew.

    Raises:
        NotFoundError: there is no such container.
        NotReadyError: it does not run.
        ShimError: the file could not be made.
    """
    container = runtime.store.container(request.container_id)
    shim = container.pod.shim
    if container.record.state is not ContainerState.RUNNING or shim is None:
        raise NotReadyError(
            f"container {container.id} is {container.record.state}: it logs nothing"
        )
    await shim.reopen_log(container.id)
    return cri.ReopenContainerLogResponse()
