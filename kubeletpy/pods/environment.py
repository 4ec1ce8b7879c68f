"""What a pod needs on the node before its containers can run, behind one small interface."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy_proto import cri_pb2

from .state import ImageState, SandboxRecord


class EnvironmentFault(Exception):
    """The node could not give a pod what it needs.

    Attributes:
        reason: one word, for the event (FailedMount, FailedCreatePodContainer, ...).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ImageFault(EnvironmentFault):
    """The image of a volume could not be had: the container waits for it as for its own image."""


class ContainerFault(Exception):
    """A container's configuration cannot be made (CreateContainerConfigError)."""


class Environment(Protocol):
    """Cgroups, directories, volumes and CRI configurations of pods.

    All methods may be called again and again; each has a deadline of its own.
    """

    def admit(self, pod: Pod) -> None:
        """Count the pod among those of the node, whose cgroups are weighed together."""

    def changed(self, pod: Pod) -> None:
        """Take over what changed of an admitted pod: resources, labels, annotations."""

    async def sweep(self, known: Collection[str]) -> None:
        """Remove what pods other than the ``known`` UIDs left on the node."""

    async def prepare(self, pod: Pod) -> None:
        """Make cgroup, directories and volumes.

        Raises:
            EnvironmentFault: something of it cannot be had, for now.
        """

    def sandbox(self, pod: Pod, attempt: int) -> tuple[cri_pb2.PodSandboxConfig, list[str]]:
        """Return the sandbox's configuration, and warnings.

        Raises:
            EnvironmentFault: there is none.
        """

    async def container(
        self,
        pod: Pod,
        container: Container,
        attempt: int,
        image: ImageState,
        sandbox: SandboxRecord,
    ) -> cri_pb2.ContainerConfig:
        """Make what this container needs on the node, and return its configuration.

        Raises:
            ContainerFault, EnvironmentFault: it cannot be made.
        """

    async def teardown(self, pod: Pod) -> None:
        """Unmount the volumes and remove the cgroup of a pod of which nothing runs any more.

        Raises:
            EnvironmentFault: something of it is still in use.
        """

    def held_up(self, pod: Pod) -> str:
        """Return in words what `teardown` waits for right now, "" if that is not known."""

    async def purge(self, pod: Pod) -> None:
        """Remove the pod's directories and logs.

        Raises:
            EnvironmentFault: something of it could not be removed.
        """

    async def forget_log(self, pod: Pod, path: str) -> None:
        """Remove the log file of a removed container."""
