"""What is to be done for a pod: the results of `actions.decide`, plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from kubeletpy.api.container import Container, EphemeralContainer
from kubeletpy.api.pod import Pod
from kubeletpy.resize.plan import Resize

from .backoff import CrashLoop, go_duration
from .restarts import ALWAYS
from .state import (
    ContainerPhase,
    ContainerRecord,
    ImagePhase,
    ImageState,
    KillReason,
    Observed,
    Terminal,
    frozen,
)

PULL_FAULTS = frozenset({"ErrImagePull", "RegistryUnavailable", "SignatureValidationFailed"})
"""Reasons of a failed pull that turn into ImagePullBackOff."""
SHOW_FAILURE = 1.0
"""Seconds for which a failed pull shows as ErrImagePull, before it shows as ImagePullBackOff."""


@dataclass(frozen=True, slots=True)
class DeadContainers:
    """Which dead containers of a living pod are kept, for their logs and their exit codes.

    Attributes:
        each: newest dead ones of each container; negative: all. The newest of its name always is.
        minimum_age: seconds since its creation for which any is kept.
    """

    each: int = 1
    minimum_age: float = 0.0


@dataclass(frozen=True, slots=True)
class Desired:
    """A pod as it shall be.

    Attributes:
        pod: its specification, defaults filled in.
        hashes: by container name, the hash of the container's specification.
        crash_loop: limits of the back-off.
        dead: which of its dead containers are kept.
    """

    pod: Pod
    hashes: Mapping[str, str] = field(default_factory=frozen)
    crash_loop: CrashLoop = field(default_factory=CrashLoop)
    dead: DeadContainers = field(default_factory=DeadContainers)

    @property
    def policy(self) -> str:
        """The restart policy of its containers."""
        return self.pod.spec.restart_policy or ALWAYS

    @property
    def description(self) -> str:
        """Name as the Go kubelet writes it in messages: ``web_default(uid)``."""
        meta = self.pod.metadata
        return f"{meta.name}_{meta.namespace}({meta.uid})"


@dataclass(frozen=True, slots=True)
class StartContainer:
    """Create and start a container.

    Attributes:
        attempt: number of this container among those of its name; also its restart count.
        backoff: the delay it carries (see `backoff`).
        replaces: id of a created but never started container that has to go first.
        target: id of the container whose processes an ephemeral container sees.
    """

    name: str
    attempt: int
    backoff: float
    replaces: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class KillContainer:
    """End a running container; ``grace`` None means the pod's."""

    id: str
    name: str
    reason: KillReason
    message: str
    grace: int | None = None


@dataclass(frozen=True, slots=True)
class ResetContainer:
    """Remove a container because all of the pod start anew; end it before if ``kill``."""

    id: str
    name: str
    kill: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a container does not run: reason and message of its waiting state."""

    reason: str
    message: str = ""


SUCCEEDED = Terminal("Succeeded")
FAILED = Terminal("Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """What to do now, and when to look again.

    Attributes:
        kill_pod: why everything that lives of the pod has to end; empty: it has not.
        create_sandbox: attempt number of the sandbox to create.
        reset: containers to remove, in this order, before all start anew (KEP-5532).
        kill: containers to end.
        pull: names of the containers whose image is to be got.
        start: containers to start, in this order.
        remove_containers, remove_sandboxes: ids of what nobody needs any more.
        waiting: by container name, why it does not run.
        terminal: set once the pod is at its end.
        initialized: whether all init containers have done their work.
        ended: whether the pod was terminated and nothing of it lives any more.
        resize: limits to change while the containers run; None: there is nothing to change now.
        resizing: whether something that runs has not yet what the pod was allocated.
        wake_at: when to decide again even if nothing happens.
    """

    kill_pod: str = ""
    create_sandbox: int | None = None
    reset: tuple[ResetContainer, ...] = ()
    kill: tuple[KillContainer, ...] = ()
    pull: tuple[str, ...] = ()
    start: tuple[StartContainer, ...] = ()
    remove_containers: tuple[str, ...] = ()
    remove_sandboxes: tuple[str, ...] = ()
    waiting: Mapping[str, Waiting] = field(default_factory=frozen)
    terminal: Terminal | None = None
    initialized: bool = False
    ended: bool = False
    resize: Resize | None = None
    resizing: bool = False
    wake_at: float | None = None

    @property
    def has_step(self) -> bool:
        """Whether there is something of what is done one after another, in one step."""
        return bool(
            self.kill_pod
            or self.create_sandbox is not None
            or self.reset
            or self.resize is not None
            or self.start
            or self.remove_containers
            or self.remove_sandboxes
        )

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do but to wait."""
        return not (self.has_step or self.kill or self.pull)

    def is_brief(self, containers: Mapping[str, Container | EphemeralContainer]) -> bool:
        """Whether the step is usually done within milliseconds.

        Args:
            containers: the pod's, by name.
        """
        if self.create_sandbox is not None:
            return True
        hooks = (containers[start.name].lifecycle for start in self.start)
        return bool(self.start) and all(hook is None or hook.post_start is None for hook in hooks)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(math.ceil(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Plan:
    """Collects actions while they are decided; becomes `Actions` by `finish`."""

    def __init__(self, desired: Desired, observed: Observed, now: float) -> None:
        self.desired = desired
        self.observed = observed
        self.now = now
        self.kill_pod = ""
        self.create_sandbox: int | None = None
        self.terminal: Terminal | None = None
        self.initialized = False
        self.reset: list[ResetContainer] = []
        self.ended = False
        self.resize: Resize | None = None
        self.resizing = False
        self.waiting: dict[str, Waiting] = {}
        self._kill: list[KillContainer] = []
        self._pull: list[str] = []
        self._start: list[StartContainer] = []
        self._wake: list[float] = []
        self._image_pending = False

    def wake(self, at: float) -> None:
        """Decide again at ``at`` at the latest."""
        self._wake.append(at)

    def blocked(self, step: str) -> bool:
        """Whether ``step`` failed and is not to be tried yet; if so, wake up when it is."""
        failure = self.observed.failures.get(step)
        if failure is None or self.now >= failure.retry_at:
            return False
        self.wake(failure.retry_at)
        return True

    def kill(
        self, record: ContainerRecord, reason: KillReason, message: str, grace: int | None = None
    ) -> None:
        """End a container, unless ending it failed a moment ago."""
        if not self.blocked(record.id):
            self._kill.append(KillContainer(record.id, record.name, reason, message, grace))

    def lost(self, record: ContainerRecord) -> bool:
        """Whether the runtime lost track of a container; if so, end it, once, to be sure."""
        if record.phase is not ContainerPhase.UNKNOWN or record.id in self.observed.killed:
            return False
        message = f"Container {record.name} is in an unknown state, ended before any restart"
        self.kill(record, KillReason.UNKNOWN_STATE, message)
        return True

    def start(self, container: Container, last: ContainerRecord | None) -> None:
        """Start ``container`` once back-off, earlier failures and its image allow.

        Containers start in the order of the specification: while the image of one is being
        pulled, the later ones' images are pulled too, but they do not overtake it.
        """
        name = container.name
        delay = self._crash_delay(last)
        if last is not None and delay > 0 and self._in_backoff(container, last, delay):
            return
        if self._failing(name):
            return
        if not self._image_ready(container) or self._image_pending:
            return
        replaces = ""
        # Nothing is left of earlier ones if all started anew, or if somebody removed them.
        attempt = self.observed.attempts.get(name, -1) + 1
        if last is not None:
            unstarted = last.phase is ContainerPhase.CREATED
            replaces = last.id if unstarted else ""
            attempt = last.attempt if unstarted else last.attempt + 1
        carried = 0.0 if last is None else self.desired.crash_loop.carried_by_next(delay)
        if last is not None and last.phase is ContainerPhase.CREATED:
            carried = last.backoff
        self._start.append(StartContainer(name, attempt, carried, replaces))

    def start_ephemeral(self, container: EphemeralContainer) -> None:
        """Start an ephemeral container, which has not been created yet; it holds up nobody."""
        pending = self._image_pending
        if not self._failing(container.name) and self._image_ready(container):
            target = container.target_container_name
            record = self.observed.latest(target) if target else None
            self._start.append(
                StartContainer(container.name, 0, 0.0, target=record.id if record else "")
            )
        self._image_pending = pending

    def _failing(self, name: str) -> bool:
        """Whether the last start failed a moment ago."""
        failure = self.observed.failures.get(name)
        if failure is None:
            return False
        self.waiting[name] = Waiting(failure.reason, failure.message)
        return self.blocked(name)

    def _crash_delay(self, last: ContainerRecord | None) -> float:
        if last is None or not last.exited:
            return 0.0
        if self.observed.killed.get(last.id) is KillReason.RESIZE:
            return 0.0
        if last.spec_hash != self.desired.hashes.get(last.name, last.spec_hash):
            return 0.0
        return self.desired.crash_loop.delay(last.backoff, last.started_at, last.finished_at)

    def _in_backoff(self, container: Container, last: ContainerRecord, delay: float) -> bool:
        # An end that lies in the future means that the clock was set back: do not wait for it.
        ready_at = last.finished_at + delay
        if not last.finished_at - 1 <= self.now < ready_at:
            return False
        message = (
            f"back-off {go_duration(delay)} restarting failed container={container.name} "
            f"pod={self.desired.description}, next attempt at {_clock(ready_at)}"
        )
        self.waiting[container.name] = Waiting("CrashLoopBackOff", message)
        self.wake(ready_at)
        return True

    def _image_ready(self, container: Container) -> bool:
        name = container.name
        image = self.observed.images.get(name)
        if image is None:
            self.waiting.setdefault(name, Waiting("ContainerCreating"))
            self._pull.append(name)
            self._image_pending = True
            return False
        if image.reason:
            self.waiting[name] = self._image_waiting(container, image)
        else:
            self.waiting.setdefault(name, Waiting("ContainerCreating"))
        if image.phase is ImagePhase.PULLING:
            self._image_pending = True
            return False
        if image.phase is ImagePhase.FAILED:
            if self.now >= image.retry_at:
                self._pull.append(name)
            else:
                self.wake(image.retry_at)
            return False
        return True

    def _image_waiting(self, container: Container, image: ImageState) -> Waiting:
        """Return the failure at first, then, as the Go kubelet, the back-off with its cause."""
        if image.reason not in PULL_FAULTS:
            return Waiting(image.reason, image.message)
        if image.failed_at <= self.now < image.failed_at + SHOW_FAILURE:
            self.wake(image.failed_at + SHOW_FAILURE)
            return Waiting(image.reason, image.message)
        cause = f'Back-off pulling image "{container.image}": {image.reason}: {image.message}'
        return Waiting("ImagePullBackOff", cause)

    def finish(self, remove: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())) -> Actions:
        """Return what was collected, and what is to be removed."""
        return Actions(
            kill_pod=self.kill_pod,
            create_sandbox=self.create_sandbox,
            reset=tuple(self.reset),
            kill=tuple(self._kill),
            pull=tuple(self._pull),
            start=tuple(self._start),
            remove_containers=remove[0],
            remove_sandboxes=remove[1],
            waiting=frozen(self.waiting),
            terminal=self.terminal,
            initialized=self.initialized,
            ended=self.ended,
            resize=self.resize,
            resizing=self.resizing,
            wake_at=min(self._wake) if self._wake else None,
        )
