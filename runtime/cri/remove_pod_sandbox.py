"""RemovePodSandbox: no trace of a pod is left."""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.lifecycle import make_event
from runtime.cri.runtime import Runtime
from runtime.cri.teardown import destroy_pod
from runtime.state import records
from runtime.state.store import NotFoundError


async def remove_pod_sandbox(
    runtime: Runtime, request: cri.RemovePodSandboxRequest
) -> cri.RemovePodSandboxResponse:
    """Remove a pod with its containers, by force where they run; one that is gone is fine.

    Raises:
        CleanupError: something is left; the pod stays listed, and the call can be repeated.
    """
    try:
        pod = runtime.store.pod(request.pod_sandbox_id)
    except NotFoundError:
        return cri.RemovePodSandboxResponse()
    async with pod.lock:
        if not runtime.store.knows(pod):
            # Somebody else removed it while this call waited.
            return cri.RemovePodSandboxResponse()
        # From here on it is of no use, whatever happens to this call; and a daemon that is killed
        # meanwhile finishes it at its next start.
        runtime.store.update_pod(pod, records.removing_sandbox(pod.record))
        await destroy_pod(runtime, pod)
    runtime.events.publish(lambda: make_event(runtime, pod, pod.id, cri.CONTAINER_DELETED_EVENT))
    return cri.RemovePodSandboxResponse()
