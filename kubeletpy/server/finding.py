"""Finding pods and containers by what a request calls them (pure, but for the runtime's list)."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from kubeletpy.api.container import Container, EphemeralContainer
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import ContainerStatus
from kubeletpy.cri import labels
from kubeletpy.cri.client import CriClient
from kubeletpy_proto import cri_pb2


class Refused(Exception):
    """A request that cannot be served.

    Attributes:
        status: of HTTP.
        text: the body of the answer.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text

    def answer(self) -> web.Response:
        """Return the answer."""
        return web.Response(status=self.status, text=self.text)


def find_pod(pods: Iterable[Pod], namespace: str, name: str, uid: str = "") -> Pod | None:
    """Return the pod of that name; of two instances, the one that does not end."""
    found = [
        pod
        for pod in pods
        if pod.metadata.name == name
        and pod.metadata.namespace == namespace
        and uid in ("", pod.metadata.uid)
    ]
    living = [pod for pod in found if pod.metadata.deletion_timestamp is None]
    return next(iter([*living, *found]), None)


def find_container(pod: Pod, name: str) -> Container | EphemeralContainer | None:
    """Return the container of that name, of whichever kind."""
    spec = pod.spec
    every = (*spec.containers, *spec.init_containers, *spec.ephemeral_containers)
    return next((one for one in every if one.name == name), None)


def find_status(pod: Pod, name: str) -> ContainerStatus | None:
    """Return the status of a container."""
    status = pod.status
    every = (
        *status.container_statuses,
        *status.init_container_statuses,
        *status.ephemeral_container_statuses,
    )
    return next((one for one in every if one.name == name), None)


async def running_container(cri: CriClient, pod: Pod, name: str) -> str:
    """Return the id of the instance of a container that runs; "" if none does.

    Raises:
        CriError: the runtime cannot tell.
    """
    listed = await cri.list_containers(
        labels={labels.POD_UID: pod.metadata.uid, labels.CONTAINER_NAME: name}
    )
    running = [one for one in listed if one.state == cri_pb2.CONTAINER_RUNNING]
    return max(running, key=lambda one: one.created_at).id if running else ""


async def ready_sandbox(cri: CriClient, pod: Pod) -> str:
    """Return the id of the sandbox of a pod; "" if there is none that is ready.

    Raises:
        CriError: the runtime cannot tell.
    """
    listed = await cri.list_pod_sandboxes({labels.POD_UID: pod.metadata.uid})
    ready = [one for one in listed if one.state == cri_pb2.SANDBOX_READY]
    return max(ready, key=lambda one: one.created_at).id if ready else ""
