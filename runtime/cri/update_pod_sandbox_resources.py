"""UpdatePodSandboxResources: the limits of a pod as a whole have changed."""

from __future__ import annotations

import asyncio

import msgspec

from kubeletpy_common.cgroups import LinuxResources
from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.errors import NotReadyError
from runtime.cri.resource_updates import check_memory, refusals_told
from runtime.cri.runtime import Runtime
from runtime.oci.translate_limits import translate_resources
from runtime.state.store import Pod


async def update_pod_sandbox_resources(
    runtime: Runtime, request: cri.UpdatePodSandboxResourcesRequest
) -> cri.UpdatePodSandboxResourcesResponse:
    """Record the limits of a pod, and set them where the pod's cgroup is the runtime's own.

    A kubelet owns the cgroup that it names as parent, and calls this after it changed it; there
    is nothing left to do then. The cgroup of a pod whose client named none is the runtime's.

    Raises:
        NotFoundError: there is no such pod.
        NotReadyError: the pod is down, or its processes use more memory.
        TranslationError, CgroupError: the limits cannot be set; those that were stay recorded.
    """
    pod = runtime.store.pod(request.pod_sandbox_id)
    async with pod.lock:
        if not pod.ready:
            raise NotReadyError(f"pod sandbox {pod.id} is not ready: its limits cannot change")
        limits = LinuxResources.from_oci(
            translate_resources(request.resources, runtime.cgroups.version)
        )
        if pod.record.cgroup_owned and request.HasField("resources"):
            with refusals_told(runtime.cgroups.cgroup(pod.record.cgroup)):
                await asyncio.to_thread(_apply, runtime, pod, limits)
        record = pod.record
        if request.HasField("resources"):
            record = msgspec.structs.replace(
                record, resources=request.resources.SerializeToString()
            )
        if request.HasField("overhead"):
            record = msgspec.structs.replace(record, overhead=request.overhead.SerializeToString())
        runtime.store.update_pod(pod, record)
    return cri.UpdatePodSandboxResourcesResponse()


def _apply(runtime: Runtime, pod: Pod, limits: LinuxResources) -> None:
    cgroup = runtime.cgroups.cgroup(pod.record.cgroup)
    check_memory(cgroup.path, limits.memory_limit or 0, cgroup.stats().memory)
    cgroup.apply(limits)
