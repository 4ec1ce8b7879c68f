"""The lists that several commands need."""

from __future__ import annotations

from kubeletpy.cri_cli.connection import Connection
from kubeletpy_proto import cri_pb2 as cri


def list_containers(
    connection: Connection, wanted: cri.ContainerFilter | None = None
) -> list[cri.Container]:
    """Return the containers that pass a filter.

    Raises:
        RuntimeFailure: the call failed.
    """
    request = cri.ListContainersRequest(filter=wanted or cri.ContainerFilter())
    answer = connection.call("list containers", connection.runtime.ListContainers, request)
    return list(answer.containers)


def list_pods(
    connection: Connection, wanted: cri.PodSandboxFilter | None = None
) -> list[cri.PodSandbox]:
    """Return the pods that pass a filter.

    Raises:
        RuntimeFailure: the call failed.
    """
    request = cri.ListPodSandboxRequest(filter=wanted or cri.PodSandboxFilter())
    return list(connection.call("list pods", connection.runtime.ListPodSandbox, request).items)


def list_images(connection: Connection) -> list[cri.Image]:
    """Return all images.

    Raises:
        RuntimeFailure: the call failed.
    """
    request = cri.ListImagesRequest()
    return list(connection.call("list images", connection.images.ListImages, request).images)
