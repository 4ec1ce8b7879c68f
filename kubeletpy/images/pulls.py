"""Getting the image of a container, as its pull policy says.

https://kubernetes.io/docs/concepts/containers/images/ : Always asks the registry at every start,
IfNotPresent only if the runtime does not have the image, Never not at all. A pull that fails is
tried again after 10 s, 20 s, ... 300 s. Reasons and events are the Go kubelet's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy.cri.client import CriError
from kubeletpy.events import Recorder
from kubeletpy.pods.backoff import IMAGE_PULL, Retry, go_duration
from kubeletpy.pods.state import ImagePhase, ImageState
from kubeletpy_proto import cri_pb2


class ImageService(Protocol):
    """What is needed of the runtime; `kubeletpy.cri.client.CriClient` has it."""

    async def image_status(self, image: str) -> cri_pb2.Image | None:
        """Return the image of that name, or None."""

    async def pull_image(
        self, image: str, *, sandbox_config: cri_pb2.PodSandboxConfig | None = None
    ) -> str:
        """Fetch an image."""


@dataclass
class _Failures:
    count: int = 0


class Images:
    """Gets images, a bounded number at once.

    Args:
        service: the runtime's images.
        recorder: where events go.
        parallel: pulls that may run at the same time (``serializeImagePulls``: 1).
        retry: delays between failed pulls of one image for one pod.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        service: ImageService,
        recorder: Recorder,
        *,
        parallel: int = 1,
        retry: Retry = IMAGE_PULL,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._service = service
        self._recorder = recorder
        self._slots = asyncio.Semaphore(parallel)
        self._retry = retry
        self._clock = clock
        self._failures: dict[tuple[str, str], _Failures] = {}

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a pod that is gone."""
        for key in [key for key in self._failures if key[0] == uid]:
            del self._failures[key]

    async def ensure(
        self, pod: Pod, container: Container, sandbox: cri_pb2.PodSandboxConfig
    ) -> ImageState:
        """Make the image of ``container`` available and return it, or why it is not.

        Never raises for what the runtime or the registry did; cancelling gives up waiting.
        """
        policy = container.image_pull_policy or "IfNotPresent"
        try:
            present = await self._service.image_status(container.image)
        except CriError as error:
            message = f'Failed to inspect image "{container.image}": {reason_of(error)}'
            self._recorder.warning(pod, "InspectFailed", message, container.name)
            return self._failed(pod, container, "ImageInspectError", message)
        if present is not None and policy != "Always":
            message = (
                f'Container image "{container.image}" already present on machine '
                "and can be accessed by the pod"
            )
            self._recorder.normal(pod, "Pulled", message, container.name)
            return self._present(pod, container, present, present.id)
        if policy == "Never":
            message = (
                f'Container image "{container.image}" is not present with pull policy of Never'
            )
            self._recorder.warning(pod, "ErrImageNeverPull", message, container.name)
            return self._failed(pod, container, "ErrImageNeverPull", message)
        return await self._pull(pod, container, sandbox)

    async def _pull(
        self, pod: Pod, container: Container, sandbox: cri_pb2.PodSandboxConfig
    ) -> ImageState:
        asked = self._clock()
        async with self._slots:
            begun = self._clock()
            self._recorder.normal(
                pod, "Pulling", f'Pulling image "{container.image}"', container.name
            )
            try:
                reference = await self._service.pull_image(container.image, sandbox_config=sandbox)
                image = await self._service.image_status(container.image)
            except CriError as error:
                cause = reason_of(error)
                message = f'Failed to pull image "{container.image}": {cause}'
                self._recorder.warning(pod, "Failed", message, container.name)
                self._recorder.warning(pod, "Failed", "Error: ErrImagePull", container.name)
                return self._failed(pod, container, "ErrImagePull", cause)
        done = self._clock()
        size = 0 if image is None else image.size
        message = (
            f'Successfully pulled image "{container.image}" in {_short(done - begun)} '
            f"({_short(done - asked)} including waiting). Image size: {size} bytes."
        )
        self._recorder.normal(pod, "Pulled", message, container.name)
        return self._present(pod, container, image, reference)

    def _present(
        self, pod: Pod, container: Container, image: cri_pb2.Image | None, reference: str
    ) -> ImageState:
        self._failures.pop((pod.metadata.uid, container.image), None)
        uid = image.uid.value if image is not None and image.HasField("uid") else None
        username = "" if image is None else image.username
        return ImageState(ImagePhase.PRESENT, ref=reference, uid=uid, username=username)

    def _failed(self, pod: Pod, container: Container, reason: str, message: str) -> ImageState:
        failures = self._failures.setdefault((pod.metadata.uid, container.image), _Failures())
        failures.count += 1
        now = self._clock()
        return ImageState(
            ImagePhase.FAILED,
            reason=reason,
            message=message,
            failed_at=now,
            retry_at=now + self._retry.delay(failures.count),
        )


def reason_of(error: CriError) -> str:
    """Return the runtime's own words, or what became of the call if it said nothing."""
    if error.message and not (error.unavailable or error.timed_out):
        return error.message
    return str(error)


def _short(seconds: float) -> str:
    """Return a duration as Go prints a rounded one: ``734ms``, ``1.25s``, ``1m3s``."""
    if seconds < 1:
        return f"{max(round(seconds * 1000), 0)}ms"
    if seconds < 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    return go_duration(seconds)
