"""The story of one pod, from what its worker knows; pure.

It says what the statuses of Kubernetes leave open: what is under way right now, what was tried how
often, when it is tried again, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kubeletpy.api.container import Container
from kubeletpy.api.events import Event
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodStatus
from kubeletpy.pods.plan import PULL_FAULTS, Actions, Desired, Waiting
from kubeletpy.pods.restarts import is_sidecar
from kubeletpy.pods.state import (
    KILL_STEP,
    RESET_STEP,
    RESIZE_STEP,
    SANDBOX_STEP,
    ContainerRecord,
    ImagePhase,
    Observed,
    Outcome,
)

MOST_EVENTS = 20
_STEPS = {
    SANDBOX_STEP: "its sandbox (cgroup, volumes, network)",
    KILL_STEP: "the end of what still runs of it, and its volumes to be unmounted",
    RESET_STEP: "all its containers to be removed, so that they start anew",
    RESIZE_STEP: "its new limits",
}
_ADVICE = {
    "ErrImagePull": "check the name of the image, the registry, and the pull secrets of the pod",
    "RegistryUnavailable": "check that this node reaches the registry",
    "SignatureValidationFailed": "check the image's signature and the runtime's policy",
    "InvalidImageName": "correct the name of the image",
    "ErrImageNeverPull": "bring the image to this node, or use another imagePullPolicy",
    "ImageInspectError": "look at the runtime's log",
    "CrashLoopBackOff": "look at its last output: kubectl logs {pod} -c {container} --previous",
    "CreateContainerConfigError": "correct what the cause names: a reference, a user, a mount",
    "CreateContainerError": "look at the cause: the runtime refused the container",
    "RunContainerError": "look at the cause: its program could not be started",
    "PostStartHookError": "correct its postStart hook",
    "FailedMount": "look at the volume that the cause names",
    "FailedCreatePodSandBox": "look at the cause: runtime, network plugin or runtime class",
    "FailedCreatePodContainer": "look at the cgroups of this node: kubeletpy doctor",
    "FailedKillPod": "look at the state of its processes (ps: D, frozen) and at the runtime's log",
    "FailedUnmount": "find out who uses the volume: lsof, fuser",
    "RuntimeNotReachable": "start the container runtime, or look at its log",
    "Startup": "look at what its startup probe asks, and at its log",
    "Readiness": "look at what its readiness probe asks, and at its log",
    "InitContainer": "look at its output: kubectl logs {pod} -c {container}",
    "ReadinessGate": "look at the controller that sets this condition",
}


@dataclass(frozen=True, slots=True)
class Doing:
    """What is under way right now, since when (seconds since the epoch)."""

    what: str
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One thing that a pod waits for.

    Attributes:
        what: in words.
        reason: one word.
        since: when it began, in seconds since the epoch; 0: not known.
        tried: how often it was tried in vain.
        cause: what went wrong last.
        next_at: when it is tried again; 0: as soon as something changes.
        advice: what to do.
    """

    what: str
    reason: str
    since: float = 0.0
    tried: int = 0
    cause: str = ""
    next_at: float = 0.0
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """An event."""

    at: float
    kind: str
    reason: str
    message: str
    count: int
    container: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The story of a pod; times are seconds since the epoch, 0 where there is none."""

    namespace: str
    name: str
    uid: str
    phase: str
    reason: str = ""
    message: str = ""
    ready: str = ""
    started_at: float = 0.0
    ending_until: float = 0.0
    doing: list[Doing] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    happened: list[Happened] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """All that a worker knows.

    Attributes:
        desired, observed, actions, status: as decided and published last.
        doing: what is under way.
        ending_until: when its termination has to be over; 0: it is not being terminated.
        runtime_fault: why the runtime is not reachable, "".
    """

    desired: Desired
    observed: Observed
    actions: Actions
    status: PodStatus
    doing: Sequence[Doing] = ()
    ending_until: float = 0.0
    runtime_fault: str = ""


def tell(known: Known, events: Sequence[Event] = ()) -> Story:
    """Return the story of a pod.

    Args:
        known: what its worker knows.
        events: of all pods, the last one at the end.
    """
    meta, status = known.desired.pod.metadata, known.status
    own = [event for event in events if event.involved_object.uid == meta.uid]
    statuses = status.container_statuses
    return Story(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        phase=status.phase,
        reason=status.reason,
        message=status.message,
        ready=f"{sum(one.ready for one in statuses)}/{len(statuses)}",
        started_at=status.start_time.timestamp() if status.start_time else 0.0,
        ending_until=known.ending_until,
        doing=list(known.doing),
        waits=list(_waits(known, _probe_faults(own))),
        happened=[_happened(event) for event in own[-MOST_EVENTS:]],
    )


def tell_of(pod: Pod, events: Sequence[Event] = ()) -> Story:
    """Return what its status tells of a pod that no worker runs: it was refused, or waits."""
    meta, status = pod.metadata, pod.status
    own = [event for event in events if event.involved_object.uid == meta.uid]
    waits = []
    if status.phase not in ("Succeeded", "Failed"):
        what = "its worker: an earlier pod of this name is still being ended"
        waits.append(Wait(what=what, reason="Replaced"))
    return Story(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        phase=status.phase,
        reason=status.reason,
        message=status.message,
        started_at=status.start_time.timestamp() if status.start_time else 0.0,
        waits=waits,
        happened=[_happened(event) for event in own[-MOST_EVENTS:]],
    )


def _waits(known: Known, probe_faults: Mapping[str, str]) -> Iterator[Wait]:
    observed = known.observed
    if known.runtime_fault:
        yield Wait(
            what="the container runtime",
            reason="RuntimeNotReachable",
            cause=known.runtime_fault,
            advice=_ADVICE["RuntimeNotReachable"],
        )
    for step, what in _STEPS.items():
        failure = observed.failures.get(step)
        if failure is not None:
            yield Wait(
                what=what,
                reason=failure.reason,
                since=failure.since,
                tried=failure.count,
                cause=failure.message,
                next_at=failure.retry_at,
                advice=_ADVICE.get(failure.reason, ""),
            )
    if known.actions.terminal is not None or known.ending_until:
        return
    for name, waiting in known.actions.waiting.items():
        wait = _container(known, name, waiting)
        if wait is not None:
            yield wait
    yield from _running(known, probe_faults)
    yield from _gates(known)


def _container(known: Known, name: str, waiting: Waiting) -> Wait | None:
    """Return what a container waits for that does not run."""
    observed = known.observed
    what = f"container {name}"
    advice = _advice(known, waiting.reason, name)
    latest = observed.latest(name)
    if waiting.reason == "CrashLoopBackOff" and latest is not None:
        delay = known.desired.crash_loop.delay(
            latest.backoff, latest.started_at, latest.finished_at
        )
        return Wait(
            what=f"{what} to be started again",
            reason=waiting.reason,
            since=latest.finished_at,
            tried=latest.attempt + 1,
            cause=_end(latest),
            next_at=latest.finished_at + delay,
            advice=advice,
        )
    image = observed.images.get(name)
    if image is not None and image.reason:
        reason = image.reason
        kind = "its image" if reason in PULL_FAULTS else "an image that can be used"
        asking = image.phase is ImagePhase.PULLING
        return Wait(
            what=f"{what}: {kind}",
            reason=waiting.reason,
            since=image.since or image.failed_at,
            tried=image.tried,
            cause=image.message,
            next_at=0.0 if asking else image.retry_at,
            advice=_advice(known, reason, name),
        )
    failure = observed.failures.get(name)
    if failure is not None:
        return Wait(
            what=f"{what} to be started",
            reason=failure.reason,
            since=failure.since,
            tried=failure.count,
            cause=failure.message,
            next_at=failure.retry_at,
            advice=_advice(known, failure.reason, name),
        )
    return None


def _running(known: Known, probe_faults: Mapping[str, str]) -> Iterator[Wait]:
    """Yield what running containers wait for: to end, to have started, to be ready."""
    observed, spec = known.observed, known.desired.pod.spec
    for container in spec.init_containers:
        record = observed.latest(container.name)
        if not is_sidecar(container) and record is not None and record.running:
            yield Wait(
                what=f"init container {container.name} to end",
                reason="InitContainer",
                since=record.started_at,
                advice=_advice(known, "InitContainer", container.name),
            )
    for container in (*filter(is_sidecar, spec.init_containers), *spec.containers):
        record = observed.latest(container.name)
        if record is not None and record.running:
            yield from _probed(known, container, record, probe_faults)


def _probed(
    known: Known, container: Container, record: ContainerRecord, faults: Mapping[str, str]
) -> Iterator[Wait]:
    results = known.observed.probe(record.id)
    kind = ""
    if container.startup_probe is not None and results.startup is not Outcome.SUCCESS:
        kind = "Startup"
    elif container.readiness_probe is not None and results.readiness is not Outcome.SUCCESS:
        kind = "Readiness"
    if kind:
        yield Wait(
            what=f"container {container.name} to pass its {kind.lower()} probe",
            reason=kind,
            since=record.started_at,
            cause=faults.get(f"{container.name} {kind}", ""),
            advice=_advice(known, kind, container.name),
        )


def _gates(known: Known) -> Iterator[Wait]:
    given = {one.type: one.status for one in known.status.conditions}
    for gate in known.desired.pod.spec.readiness_gates:
        if given.get(gate.condition_type) != "True":
            yield Wait(
                what=f"condition {gate.condition_type}, a readiness gate",
                reason="ReadinessGate",
                cause=f"it is {given.get(gate.condition_type, 'not set')}",
                advice=_ADVICE["ReadinessGate"],
            )


def _advice(known: Known, reason: str, container: str) -> str:
    meta = known.desired.pod.metadata
    pod = f"-n {meta.namespace} {meta.name}"
    return _ADVICE.get(reason, "").format(pod=pod, container=container)


def _end(record: ContainerRecord) -> str:
    text = f"it ended with exit code {record.exit_code}"
    if record.reason:
        text += f" ({record.reason})"
    return f"{text}: {record.message}" if record.message else text


def _probe_faults(events: Sequence[Event]) -> dict[str, str]:
    """Return by container and kind of probe what its last failed run said."""
    found: dict[str, str] = {}
    for event in events:
        if event.reason == "Unhealthy":
            kind = event.message.partition(" ")[0]
            found[f"{_container_of(event)} {kind}"] = event.message
    return found


def _container_of(event: Event) -> str:
    return event.involved_object.field_path.partition("{")[2].rstrip("}")


def _happened(event: Event) -> Happened:
    last = event.last_timestamp or event.event_time
    return Happened(
        at=last.timestamp() if last is not None else 0.0,
        kind=event.type,
        reason=event.reason,
        message=event.message,
        count=event.count,
        container=_container_of(event),
    )
