"""What a worker knows of its pod: as last seen in the runtime, and what came of its own doings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from kubeletpy.api.container import Container, EphemeralContainer
from kubeletpy.api.pod import Pod

from .backoff import STEP
from .observe import PodView
from .state import (
    KILL_STEP,
    RESET_STEP,
    RESIZE_STEP,
    SANDBOX_STEP,
    ContainerPhase,
    ImagePhase,
    ImageState,
    KillReason,
    StepFailure,
)
from .steps import StepError

STEPS = frozenset({SANDBOX_STEP, KILL_STEP, RESET_STEP, RESIZE_STEP})
"""Keys of steps of a pod as a whole; other keys are names and ids of containers and sandboxes."""


class Memory:
    """What is remembered of one pod between two looks at it.

    Args:
        clock: seconds of the epoch.

    Attributes:
        view: the pod in the runtime, as last seen.
        images: of each container by name, as far as asked for.
        failures: of steps and of containers, by key.
        killed: why a container was ended by us, by its id.
        attempts: the highest attempt of each container that ever ran, by name.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.view = PodView()
        self.images: dict[str, ImageState] = {}
        self.failures: dict[str, StepFailure] = {}
        self.killed: dict[str, KillReason] = {}
        self.attempts: dict[str, int] = {}
        self._killed_at: dict[str, float] = {}
        self._clock = clock

    def fail(self, key: str, error: StepError) -> None:
        """Remember that something failed, and when it is to be tried again."""
        before = self.failures.get(key)
        count = 1 if before is None else before.count + 1
        now = self._clock()
        since = now if before is None else before.since
        self.failures[key] = StepFailure(
            error.reason, error.message, count, now + STEP.delay(count), since
        )

    def held_up(self, error: StepError) -> None:
        """Remember what holds up the end of the pod; it is waited for still, and has not failed."""
        before = self.failures.get(KILL_STEP)
        count, since = (before.count, before.since) if before else (0, self._clock())
        self.failures[KILL_STEP] = StepFailure(error.reason, error.message, count, 0.0, since)

    def succeed(self, key: str) -> None:
        """Forget that something failed."""
        self.failures.pop(key, None)

    def retry(self, reasons: Collection[str]) -> None:
        """Let what failed for one of ``reasons`` be tried at once."""
        now = self._clock()
        for key, failure in self.failures.items():
            if failure.reason in reasons:
                self.failures[key] = replace(failure, retry_at=now)

    def retry_at(self, key: str) -> float:
        """Return when something may be tried again: 0.0 if it has not failed."""
        failure = self.failures.get(key)
        return 0.0 if failure is None else failure.retry_at

    def mark(self, container_id: str, reason: KillReason) -> None:
        """Remember why a container is ended, unless that is known already."""
        if container_id not in self.killed:
            self.killed[container_id] = reason
            self._killed_at[container_id] = self._clock()

    def forget_images(
        self, before: Pod, containers: Mapping[str, Container | EphemeralContainer]
    ) -> None:
        """Ask anew for the image of each container that names another one now.

        Args:
            before: the pod as it was.
            containers: of the pod as it is, by name.
        """
        for container in (*before.spec.init_containers, *before.spec.containers):
            now = containers.get(container.name)
            image = self.images.get(container.name)
            if now is None or now.image == container.image or image is None:
                continue
            if image.phase is not ImagePhase.PULLING:
                del self.images[container.name]

    def see(self, view: PodView, names: Iterable[str]) -> set[str]:
        """Take over what the runtime has of the pod, and forget what was of things that are gone.

        Args:
            view: what it has now.
            names: of all containers of the pod.

        Returns:
            The ids of its containers and sandboxes.
        """
        lived = sum(record.running for record in self.view.containers)
        self.view = view
        known = {record.id for record in view.containers} | {box.id for box in view.sandboxes}
        failure = self.failures.get(KILL_STEP)
        if failure is not None and lived > sum(record.running for record in view.containers):
            # What held up the end was perhaps the container that has ended now.
            self.failures[KILL_STEP] = replace(failure, retry_at=self._clock())
        for record in view.containers:
            if record.phase is not ContainerPhase.CREATED:
                highest = max(self.attempts.get(record.name, 0), record.attempt)
                self.attempts[record.name] = highest
        for key in self.failures.keys() - known - STEPS - set(names):
            del self.failures[key]
        ended = {one.id: one.finished_at for one in view.containers if one.exited}
        for key, at in list(self._killed_at.items()):
            # One that had ended by itself before it was to be killed has not been killed.
            if key not in known or ended.get(key, at) < at:
                self.killed.pop(key, None)
                del self._killed_at[key]
        return known
