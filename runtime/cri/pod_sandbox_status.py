"""PodSandboxStatus: what is known of one pod."""

from __future__ import annotations

import json
import time
from typing import Any

from google.protobuf import json_format

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.lifecycle import pod_container_statuses
from runtime.cri.runtime import Runtime
from runtime.cri.statuses import sandbox_status, visible
from runtime.state.store import NotFoundError, Pod


async def pod_sandbox_status(
    runtime: Runtime, request: cri.PodSandboxStatusRequest
) -> cri.PodSandboxStatusResponse:
    """Return the status of a pod and of its containers; with ``verbose`` the inside as JSON.

    Raises:
        NotFoundError: there is no such pod.
    """
    pod = runtime.store.pod(request.pod_sandbox_id)
    if not visible(pod):
        raise NotFoundError(f"pod sandbox {pod.id} is still being made")
    return cri.PodSandboxStatusResponse(
        status=sandbox_status(pod),
        info={"info": _info(runtime, pod)} if request.verbose else {},
        containers_statuses=pod_container_statuses(runtime, pod),
        timestamp=time.time_ns(),
    )


def _info(runtime: Runtime, pod: Pod) -> str:
    record = pod.record
    return json.dumps(
        {
            "pid": record.shim_pid,
            "sandboxId": record.id,
            "state": record.state,
            "cgroupParent": record.cgroup,
            "namespaces": record.namespaces,
            "ips": record.ips,
            "directory": str(runtime.sandbox_directory(pod.id)),
            "runtimeHandler": record.runtime_handler,
            "connected": pod.shim is not None,
            "resources": _limits(record.resources),
            "overhead": _limits(record.overhead),
        }
    )


def _limits(recorded: bytes) -> dict[str, Any] | None:
    """Return limits that were told after the pod was made."""
    if not recorded:
        return None
    return json_format.MessageToDict(cri.LinuxContainerResources.FromString(recorded))
