"""Getting the image of a container, as its pull policy says.

https://kubernetes.io/docs/concepts/containers/images/ : Always asks the registry at every start,
IfNotPresent only if the runtime does not have the image, Never not at all. A pull that fails is
tried again after 10 s, 20 s, ... 300 s. Reasons and events are the Go kubelet's.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy.cri.client import CriError
from kubeletpy.events import Recorder
from kubeletpy.pods.backoff import IMAGE_PULL, Retry, go_duration
from kubeletpy.pods.state import ImagePhase, ImageState
from kubeletpy_common.apiclient.client import Throttle
from kubeletpy_proto import cri_pb2

from .keyring import Credential
from .names import with_tag
from .records import PullRecords


class ImageService(Protocol):
    """What is needed of the runtime; `kubeletpy.cri.client.CriClient` has it."""

    async def image_status(self, image: str) -> cri_pb2.Image | None:
        """Return the image of that name, or None."""

    async def pull_image(
        self,
        image: str,
        *,
        auth: cri_pb2.AuthConfig | None = None,
        sandbox_config: cri_pb2.PodSandboxConfig | None = None,
    ) -> str:
        """Fetch an image."""


class CredentialSource(Protocol):
    """Where credentials come from; `credentials.Credentials` is one."""

    async def of(self, pod: Pod, image: str) -> list[Credential]:
        """Return the credentials to try for an image, best first; none: without any.

        Raises:
            ValueError: a pull secret cannot be read.
        """


_KNOWN_CAUSES = {
    "RegistryUnavailable": "the registry is unavailable",
    "SignatureValidationFailed": "the signature validation failed",
}
"""How errors of runtimes begin that have a reason of their own (cri-api, pkg/errors)."""


@dataclass
class _Failures:
    count: int = 0
    since: float = 0.0


class Images:
    """Gets images, a bounded number at once.

    Args:
        service: the runtime's images.
        recorder: where events go.
        parallel: pulls that may run at the same time (``serializeImagePulls``: 1).
        retry: delays between failed pulls of one image for one pod.
        clock: seconds since the epoch.

    Attributes:
        credentials: where credentials come from; None: pulls have none.
        records: which pods may use what is here; None: all may.
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
        self.credentials: CredentialSource | None = None
        self.records: PullRecords | None = None
        self._throttle = Throttle(0.0, 0)
        self._service = service
        self._recorder = recorder
        self._slots = asyncio.Semaphore(parallel)
        self._retry = retry
        self._clock = clock
        self._failures: dict[tuple[str, str], _Failures] = {}

    def limit(self, rate: float, burst: int) -> None:
        """Set how many pulls may begin in a second, and at once (``registryPullQPS``).

        A rate of 0 is no limit. Pulls beyond it wait, where the Go kubelet lets them fail.
        """
        self._throttle = Throttle(rate, burst)

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
            image = with_tag(container.image)
        except ValueError as error:
            message = f'Failed to apply default image tag "{container.image}": {error}'
            self._recorder.warning(pod, "InspectFailed", message, container.name)
            return self._failed(pod, container, "InvalidImageName", message)
        if policy == "Always":
            return await self._pull(pod, container, image, sandbox)
        try:
            present = await self._service.image_status(image)
        except CriError as error:
            message = f'Failed to inspect image "{container.image}": {reason_of(error)}'
            self._recorder.warning(pod, "InspectFailed", message, container.name)
            return self._failed(pod, container, "ImageInspectError", message)
        if present is not None and await self._usable(pod, container.image, present.id):
            message = (
                f'Container image "{container.image}" already present on machine '
                "and can be accessed by the pod"
            )
            self._recorder.normal(pod, "Pulled", message, container.name)
            return self._present(pod, container, present, present.id)
        if policy == "Never":
            # The same for an image that is here but not for this pod: it shall not learn of it.
            message = (
                f'Container image "{container.image}" is not present with pull policy of Never'
            )
            self._recorder.warning(pod, "ErrImageNeverPull", message, container.name)
            return self._failed(pod, container, "ErrImageNeverPull", message)
        return await self._pull(pod, container, image, sandbox)

    async def _usable(self, pod: Pod, image: str, reference: str) -> bool:
        if self.records is None:
            return True
        usable = self.records.usable(image, reference)
        if usable is None:
            try:
                found = await self._credentials_of(pod, image)
            except ValueError:
                # The pull that follows tells it.
                return False
            usable = await asyncio.to_thread(self.records.fits, image, reference, found)
        return usable

    async def _credentials_of(self, pod: Pod, image: str) -> list[Credential]:
        return [] if self.credentials is None else await self.credentials.of(pod, image)

    async def _pull(
        self, pod: Pod, container: Container, image: str, sandbox: cri_pb2.PodSandboxConfig
    ) -> ImageState:
        asked = self._clock()
        async with self._slots:
            await self._throttle.take()
            begun = self._clock()
            self._recorder.normal(
                pod, "Pulling", f'Pulling image "{container.image}"', container.name
            )
            try:
                reference = await self._fetch(pod, container.image, image, sandbox)
                found = await self._service.image_status(image)
            except PullError as error:
                message = f'Failed to pull image "{container.image}": {error.cause}'
                self._recorder.warning(pod, "Failed", message, container.name)
                return self._failed(pod, container, error.reason, str(error))
            except CriError as error:
                return self._failed(pod, container, "ImageInspectError", reason_of(error))
        done = self._clock()
        size = 0 if found is None else found.size
        message = (
            f'Successfully pulled image "{container.image}" in {_short(done - begun)} '
            f"({_short(done - asked)} including waiting). Image size: {size} bytes."
        )
        self._recorder.normal(pod, "Pulled", message, container.name)
        return self._present(pod, container, found, reference)

    async def _fetch(
        self, pod: Pod, named: str, image: str, sandbox: cri_pb2.PodSandboxConfig
    ) -> str:
        """Pull an image by one of the credentials that fit it, and write down by which.

        Raises:
            PullError: none of them worked.
        """
        try:
            credentials = await self._credentials_of(pod, image)
            if self.records is not None:
                await asyncio.to_thread(self.records.begin, named)
        except (ValueError, OSError) as error:
            raise PullError(str(error), named) from error
        try:
            reference, used = await self._try(credentials, named, image, sandbox)
        except BaseException:
            if self.records is not None:
                self.records.failed(named)
            raise
        if self.records is not None:
            # Asked again by its name the runtime gives the id by which it is looked up later.
            with contextlib.suppress(CriError):
                status = await self._service.image_status(image)
                known = status.id if status is not None else reference
                await asyncio.to_thread(self.records.succeeded, named, known, used)
        return reference

    async def _try(
        self,
        credentials: Sequence[Credential],
        named: str,
        image: str,
        sandbox: cri_pb2.PodSandboxConfig,
    ) -> tuple[str, Credential | None]:
        causes: dict[str, None] = {}
        for one in credentials or (None,):
            auth = None
            if one is not None:
                auth = cri_pb2.AuthConfig(username=one.username, password=one.password)
            try:
                reference = await self._service.pull_image(image, auth=auth, sandbox_config=sandbox)
                return reference, one
            except CriError as error:
                causes[reason_of(error)] = None
        told = list(causes)
        raise PullError(told[0] if len(told) == 1 else f"[{', '.join(told)}]", named)

    def _present(
        self, pod: Pod, container: Container, image: cri_pb2.Image | None, reference: str
    ) -> ImageState:
        self._failures.pop((pod.metadata.uid, container.image), None)
        uid = image.uid.value if image is not None and image.HasField("uid") else None
        username = "" if image is None else image.username
        return ImageState(ImagePhase.PRESENT, ref=reference, uid=uid, username=username)

    def _failed(self, pod: Pod, container: Container, reason: str, message: str) -> ImageState:
        self._recorder.warning(pod, "Failed", f"Error: {reason}", container.name)
        failures = self._failures.setdefault((pod.metadata.uid, container.image), _Failures())
        failures.count += 1
        now = self._clock()
        failures.since = failures.since or now
        return ImageState(
            ImagePhase.FAILED,
            reason=reason,
            message=message,
            failed_at=now,
            retry_at=now + self._retry.delay(failures.count),
            since=failures.since,
            tried=failures.count,
        )


class PullError(Exception):
    """An image that could not be pulled.

    Attributes:
        reason: of the waiting container.
        cause: what the runtime said.
    """

    def __init__(self, cause: str, image: str) -> None:
        self.cause = cause
        self.reason = "ErrImagePull"
        message = cause
        for reason, why in _KNOWN_CAUSES.items():
            if cause.startswith(reason):
                self.reason = reason
                message = f"image pull failed for {image} because {why}{cause[len(reason) :]}"
        super().__init__(message)


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
