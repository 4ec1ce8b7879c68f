"""ListPodSandbox: all pods, or those that pass a filter."""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.filters import matches_pod
from runtime.cri.runtime import Runtime
from runtime.cri.statuses import sandbox_item, visible


async def list_pod_sandbox(
    runtime: Runtime, request: cri.ListPodSandboxRequest
) -> cri.ListPodSandboxResponse:
    """Return the pods that pass the filter, half-made ones excepted."""
    pods = (pod for pod in runtime.store.pods() if visible(pod))
    items = [sandbox_item(pod) for pod in pods if matches_pod(request.filter, pod)]
    return cri.ListPodSandboxResponse(items=items)
