"""ContainerStatus: what is known of one container."""

from __future__ import annotations

import json

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri import statuses
from runtime.cri.bundle import read_config
from runtime.cri.runtime import Runtime
from runtime.state.store import Container, NotFoundError


async def container_status(
    runtime: Runtime, request: cri.ContainerStatusRequest
) -> cri.ContainerStatusResponse:
    """Return the status of a container; with ``verbose`` the inside as JSON.

    Raises:
        NotFoundError: there is no such container.
    """
    container = runtime.store.container(request.container_id)
    if not statuses.visible_container(container):
        raise NotFoundError(f"container {container.id} is still being made")
    return cri.ContainerStatusResponse(
        status=statuses.container_status(container, runtime.images.get(container.record.image_id)),
        info={"info": _info(runtime, container)} if request.verbose else {},
    )


def _info(runtime: Runtime, container: Container) -> str:
    record = container.record
    bundle = runtime.container_directory(container.id)
    try:
        oci = read_config(bundle)
    except (OSError, ValueError):
        # After a reboot the state directory is new, the record is not.
        oci = None
    return json.dumps(
        {
            "pid": record.pid,
            "sandboxID": record.sandbox_id,
            "state": record.state,
            "cgroup": record.cgroup,
            "bundle": str(bundle),
            "runtimeSpec": oci,
        }
    )
