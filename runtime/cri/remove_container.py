"""RemoveContainer: no trace of a container is left."""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.lifecycle import publish
from runtime.cri.runtime import Runtime
from runtime.cri.teardown import destroy_container
from runtime.state import records
from runtime.state.store import NotFoundError


async def remove_container(
    runtime: Runtime, request: cri.RemoveContainerRequest
) -> cri.RemoveContainerResponse:
    """Remove a container, by force if it runs; one that is gone is fine. Its log stays.

    Raises:
        CleanupError: something is left; it stays listed, and the call can be repeated.
    """
    try:
        container = runtime.store.container(request.container_id)
    except NotFoundError:
        return cri.RemoveContainerResponse()
    async with container.pod.lock:
        if container.id in container.pod.containers:
            # A daemon that is killed from here on finishes it at its next start.
            runtime.store.update_container(container, records.removing_container(container.record))
            await destroy_container(runtime, container)
            publish(runtime, container.pod, container.id, cri.CONTAINER_DELETED_EVENT)
    return cri.RemoveContainerResponse()
