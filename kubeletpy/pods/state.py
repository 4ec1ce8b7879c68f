"""What is observed of a pod: plain, immutable data, from which everything else is decided.

States of a container, as CRI reports them (`ContainerState` of `proto/cri.proto`)::

    CREATED --start--> RUNNING --exit--> EXITED --remove--> (gone)
       \\________________ start failed ____/^
    UNKNOWN: the runtime lost track of it; it must be killed before another may start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar

from kubeletpy.resize.plan import Actual, Amounts

_K = TypeVar("_K")
_V = TypeVar("_V")


def frozen(mapping: Mapping[_K, _V] | None = None) -> Mapping[_K, _V]:
    """Return a read-only copy of ``mapping``."""
    return MappingProxyType(dict(mapping or {}))


class ContainerPhase(StrEnum):
    """State of a container as the runtime reports it."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """What a probe says of its container."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


class KillReason(StrEnum):
    """Why the kubelet ends a container before it ends by itself."""

    LIVENESS = "liveness"
    STARTUP = "startup"
    CHANGED = "changed"
    UNKNOWN_STATE = "unknown-state"
    HOOK = "hook"
    POD = "pod"
    RESIZE = "resize"


@dataclass(frozen=True, slots=True)
class RuntimeLimits:
    """Limits of a container in the kernel's units as the runtime reports them; 0: none."""

    cpu_shares: int = 0
    cpu_quota_us: int = 0
    cpu_period_us: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRecord:
    """One container, dead or alive, as the runtime reports it.

    Attributes:
        created_at, started_at, finished_at: seconds since the epoch; 0 if it has not happened.
        spec_hash: hash of the container's specification that it was created from.
        backoff: seconds to wait after its end before it may start again (see `backoff`).
        user: uid, gid and supplemental groups of its first process, if the runtime tells.
        amounts: CPU and memory that it was created with; None: not known.
        limits: what the runtime says of its limits; None: nothing.
    """

    id: str
    sandbox_id: str
    name: str
    attempt: int
    phase: ContainerPhase
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    image: str = ""
    image_id: str = ""
    spec_hash: str = ""
    backoff: float = 0.0
    log_path: str = ""
    user: tuple[int, int, tuple[int, ...]] | None = None
    amounts: Amounts | None = None
    limits: RuntimeLimits | None = None

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.phase is ContainerPhase.RUNNING

    @property
    def exited(self) -> bool:
        """Whether its process has ended (or could not be started)."""
        return self.phase is ContainerPhase.EXITED


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxRecord:
    """One sandbox of the pod; ``ips`` are of the pod's own network, primary one first."""

    id: str
    attempt: int
    ready: bool
    created_at: float = 0.0
    host_network: bool = False
    ips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProbeResults:
    """Latest word of each probe of one container; UNKNOWN where there is no probe or word yet."""

    startup: Outcome = Outcome.UNKNOWN
    liveness: Outcome = Outcome.UNKNOWN
    readiness: Outcome = Outcome.UNKNOWN


class ImagePhase(StrEnum):
    """Where the image for a container's next start stands."""

    PULLING = "pulling"
    PRESENT = "present"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ImageState:
    """The image for the next start of a container.

    Attributes:
        ref: what CreateContainer is given, once PRESENT.
        uid, username: the user that the image asks for; uid None: by name, or root.
        reason, message: why there is none, once FAILED; kept while the next pull runs.
        failed_at: when it FAILED.
        retry_at: when to try again, once FAILED.
        since: when it FAILED first, without a success since.
        tried: how often it FAILED since then.
    """

    phase: ImagePhase
    ref: str = ""
    uid: int | None = None
    username: str = ""
    reason: str = ""
    message: str = ""
    failed_at: float = 0.0
    retry_at: float = 0.0
    since: float = 0.0
    tried: int = 0


@dataclass(frozen=True, slots=True)
class StepFailure:
    """A step that failed, and when it may be tried again; ``since``: when it failed first."""

    reason: str
    message: str
    count: int
    retry_at: float
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Terminal:
    """The pod has come to its end: phase Succeeded or Failed, for good."""

    phase: str
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything known about a pod at one instant.

    Attributes:
        sandboxes: newest first.
        containers: of all sandboxes, newest first.
        probes: by container id.
        images: by container name; absent: nobody asked yet.
        failures: by step: a container's name, or `SANDBOX_STEP`.
        killed: why the kubelet itself ended a container, by container id.
        started_at: when this kubelet (or the one before it) first saw the pod.
        concluded: the end the pod came to earlier; it is for good.
        attempts: by container name, the highest number that one ever had.
        ending: whether the pod is being terminated: nothing of it starts any more.
        actual: what of CPU and memory its containers and its cgroup have.
    """

    sandboxes: tuple[SandboxRecord, ...] = ()
    containers: tuple[ContainerRecord, ...] = ()
    probes: Mapping[str, ProbeResults] = field(default_factory=frozen)
    images: Mapping[str, ImageState] = field(default_factory=frozen)
    failures: Mapping[str, StepFailure] = field(default_factory=frozen)
    killed: Mapping[str, KillReason] = field(default_factory=frozen)
    started_at: float = 0.0
    concluded: Terminal | None = None
    attempts: Mapping[str, int] = field(default_factory=frozen)
    ending: bool = False
    actual: Actual = field(default_factory=Actual)

    @property
    def sandbox(self) -> SandboxRecord | None:
        """The newest sandbox."""
        return self.sandboxes[0] if self.sandboxes else None

    def latest(self, name: str, sandbox_id: str | None = None) -> ContainerRecord | None:
        """Return the newest container called ``name``, of one sandbox or of all."""
        for record in self.containers:
            if record.name == name and sandbox_id in (None, record.sandbox_id):
                return record
        return None

    def history(self, name: str) -> tuple[ContainerRecord, ...]:
        """Return all containers called ``name``, newest first."""
        return tuple(record for record in self.containers if record.name == name)

    def probe(self, container_id: str) -> ProbeResults:
        """Return the probes' results of one container."""
        return self.probes.get(container_id, _NO_RESULTS)


_NO_RESULTS = ProbeResults()

SANDBOX_STEP = "\0sandbox"
"""Key in ``Observed.failures`` of the creation of the sandbox; no container can be called so."""


def newest_first(
    sandboxes: list[SandboxRecord], containers: list[ContainerRecord]
) -> tuple[tuple[SandboxRecord, ...], tuple[ContainerRecord, ...]]:
    """Order sandboxes by attempt and containers by creation, the newest first.

    Creation times alone do not order sandboxes: a clock may be set back; attempts only grow.
    """
    return (
        tuple(sorted(sandboxes, key=lambda box: (box.attempt, box.created_at), reverse=True)),
        tuple(sorted(containers, key=lambda one: (one.attempt, one.created_at), reverse=True)),
    )


KILL_STEP = "\0kill"
"""Key in ``Observed.failures`` of the end of all that lives of the pod."""

RESET_STEP = "\0reset"
"""Key in ``Observed.failures`` of the removal of all containers before they start anew."""

RESIZE_STEP = "\0resize"
"""Key in ``Observed.failures`` of the change of limits of running containers."""
