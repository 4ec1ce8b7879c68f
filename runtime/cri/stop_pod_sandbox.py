"""StopPodSandbox: ends everything of a pod; its records stay until it is removed."""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.lifecycle import publish
from runtime.cri.runtime import Runtime
from runtime.cri.teardown import stop_pod
from runtime.state import records
from runtime.state.store import NotFoundError


async def stop_pod_sandbox(
    runtime: Runtime, request: cri.StopPodSandboxRequest
) -> cri.StopPodSandboxResponse:
    """Stop a pod: containers by SIGKILL, then shim, network and namespaces.

    A pod that is stopped or gone is fine: its caller may have missed the first answer.

    Raises:
        CleanupError: something could not be ended; the call can be repeated.
    """
    try:
        pod = runtime.store.pod(request.pod_sandbox_id)
    except NotFoundError:
        return cri.StopPodSandboxResponse()
    async with pod.lock:
        if not runtime.store.knows(pod):
            # Somebody else removed it while this call waited.
            return cri.StopPodSandboxResponse()
        was_ready = pod.ready
        await stop_pod(runtime, pod)
        if was_ready:
            runtime.store.update_pod(pod, records.down(pod.record))
            publish(runtime, pod, pod.id, cri.CONTAINER_STOPPED_EVENT)
    return cri.StopPodSandboxResponse()
