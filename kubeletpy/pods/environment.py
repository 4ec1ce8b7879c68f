"""What a pod needs on the node before its containers can run, behind one small interface."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection
from typing import Protocol, TypeVar

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy_proto import cri_pb2

from .state import ImageState, SandboxRecord

_T = TypeVar("_T")


class EnvironmentFault(Exception):
    """The node could not give a pod what it needs.

    Attributes:
        reason: one word, for the event (FailedMount, FailedCreatePodContainer, ...).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ContainerFault(Exception):
    """A container's configuration cannot be made (CreateContainerConfigError)."""


class Environment(Protocol):
    """Cgroups, directories, volumes and CRI configurations of pods.

    All methods may be called again and again; each has a deadline of its own.
    """

    def admit(self, pod: Pod) -> None:
        """Count the pod among those of the node, whose cgroups are weighed together."""

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

    async def purge(self, pod: Pod) -> None:
        """Remove the pod's directories and logs.

        Raises:
            EnvironmentFault: something of it could not be removed.
        """

    async def forget_log(self, pod: Pod, path: str) -> None:
        """Remove the log file of a removed container."""


class Blocking:
    """Runs blocking calls each in a thread of its own, with a deadline.

    A mount may hang for ever; a shared pool of threads would then run dry, and with it every
    other pod. A call that hangs keeps its one thread, and the same key is refused meanwhile.
    """

    def __init__(self) -> None:
        self._hanging: dict[str, str] = {}

    async def run(self, key: str, what: str, timeout: float, call: Callable[[], _T]) -> _T:
        """Run ``call`` and return its result.

        Args:
            key: whose call it is; one at a time.
            what: what it does, for the error.
            timeout: seconds it may take.
            call: the blocking function.

        Raises:
            TimeoutError: it is not done in time, or an earlier call of ``key`` still hangs.
            Exception: whatever ``call`` raised.
        """
        if key in self._hanging:
            raise TimeoutError(f"{self._hanging[key]} still hangs since an earlier attempt")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()

        def finish(result: _T | None, error: BaseException | None) -> None:
            self._hanging.pop(key, None)
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            result: _T | None = None
            error: BaseException | None = None
            try:
                result = call()
            except BaseException as caught:  # handed to the waiting task, whatever it is
                error = caught
            try:
                loop.call_soon_threadsafe(finish, result, error)
            except RuntimeError:
                # The loop was closed: the daemon has ended, nobody waits any more.
                pass

        self._hanging[key] = what
        threading.Thread(target=work, name=f"{what} {key}"[:60], daemon=True).start()
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            if future.done() and not future.cancelled() and future.exception() is not None:
                raise
            raise TimeoutError(f"{what} was not done within {timeout:.0f} s") from None
