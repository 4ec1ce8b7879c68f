"""ListContainers: all containers, or those that pass a filter."""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.filters import matches_container
from runtime.cri.runtime import Runtime
from runtime.cri.statuses import list_item, visible_container


async def list_containers(
    runtime: Runtime, request: cri.ListContainersRequest
) -> cri.ListContainersResponse:
    """Return the containers that pass the filter, half-made ones excepted."""
    shown = (c for c in runtime.store.containers() if visible_container(c))
    items = [list_item(container) for container in shown
             if matches_container(request.filter, container)]  # fmt: skip
    return cri.ListContainersResponse(containers=items)
