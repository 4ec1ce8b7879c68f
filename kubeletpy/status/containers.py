"""Statuses of containers from what is observed; pure."""

from __future__ import annotations

from datetime import UTC, datetime

from kubeletpy.api.container import Container
from kubeletpy.api.status import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
)
from kubeletpy.pods.plan import Actions, Desired, is_sidecar
from kubeletpy.pods.state import ContainerPhase, ContainerRecord, Observed, Outcome

CREATING, INITIALIZING = "ContainerCreating", "PodInitializing"
_PLAIN = frozenset({CREATING, INITIALIZING})
LOST_EXIT_CODE = 137


def instant(seconds: float) -> datetime | None:
    """Return an instant of the API (whole seconds, UTC); None for 0, which means never."""
    return datetime.fromtimestamp(int(seconds), UTC) if seconds else None


def is_started(container: Container, record: ContainerRecord | None, observed: Observed) -> bool:
    """Whether a container runs and has passed its startup probe."""
    if record is None or not record.running:
        return False
    if container.startup_probe is None:
        return True
    return observed.probe(record.id).startup is Outcome.SUCCESS


def is_ready(container: Container, record: ContainerRecord | None, observed: Observed) -> bool:
    """Whether a container has started and its readiness probe, if any, says so."""
    if record is None or not is_started(container, record, observed):
        return False
    if container.readiness_probe is None:
        return True
    return observed.probe(record.id).readiness is Outcome.SUCCESS


def container_status(
    container: Container,
    desired: Desired,
    observed: Observed,
    actions: Actions,
    *,
    runtime: str,
    init: bool,
) -> ContainerStatus:
    """Return the status of one container.

    Args:
        container: as specified.
        desired, observed, actions: the pod, what is, and what was decided (why it waits).
        runtime: name of the runtime, before ``://`` in the container's id.
        init: whether it is an init container (or sidecar).
    """
    history = observed.history(container.name)
    record = history[0] if history else None
    current = observed.sandbox
    renewed = current is not None and current.ready and actions.terminal is None
    if init and renewed and record is not None and current is not None:
        # Init containers run anew in a new sandbox; those of the old one are the last state.
        record = record if record.sandbox_id == current.id else None
    status = ContainerStatus(
        name=container.name,
        image=container.image,
        image_id=history[0].image_id if history else "",
        started=is_started(container, record, observed),
        ready=False,
        restart_count=history[0].attempt if history else 0,
    )
    if history:
        status.image = history[0].image or container.image
        status.container_id = f"{runtime}://{history[0].id}"
    default = INITIALIZING if desired.pod.spec.init_containers else CREATING
    _set_states(status, record, history, actions, default, runtime)
    if init and not is_sidecar(container):
        ended = status.state.terminated
        status.ready = ended is not None and ended.exit_code == 0
    else:
        status.ready = is_ready(container, record, observed)
    return status


def _set_states(
    status: ContainerStatus,
    record: ContainerRecord | None,
    history: tuple[ContainerRecord, ...],
    actions: Actions,
    default: str,
    runtime: str,
) -> None:
    wait = actions.waiting.get(status.name)
    waiting = ContainerStateWaiting(reason=default)
    if wait is not None:
        reason = default if wait.reason in _PLAIN else wait.reason
        waiting = ContainerStateWaiting(reason=reason, message=wait.message)
    previous = history if record is None else history[1:]
    if record is None or record.phase is ContainerPhase.CREATED:
        status.state = ContainerState(waiting=waiting)
    elif record.running:
        running = ContainerStateRunning(started_at=instant(record.started_at))
        status.state = ContainerState(running=running)
    elif wait is not None and wait.reason not in _PLAIN:
        status.state = ContainerState(waiting=waiting)
        previous = history
    else:
        status.state = ContainerState(terminated=terminated(record, runtime))
    for earlier in previous:
        if earlier.phase in (ContainerPhase.EXITED, ContainerPhase.UNKNOWN):
            status.last_state = ContainerState(terminated=terminated(earlier, runtime))
            break


def terminated(record: ContainerRecord, runtime: str) -> ContainerStateTerminated:
    """Return how a container ended; one that the runtime lost counts as killed."""
    if record.phase is ContainerPhase.UNKNOWN:
        return ContainerStateTerminated(
            exit_code=LOST_EXIT_CODE,
            reason="ContainerStatusUnknown",
            message="The container could not be located when the pod was observed",
            container_id=f"{runtime}://{record.id}",
        )
    return ContainerStateTerminated(
        exit_code=record.exit_code,
        reason=record.reason or ("Completed" if record.exit_code == 0 else "Error"),
        message=record.message,
        started_at=instant(record.started_at),
        finished_at=instant(record.finished_at),
        container_id=f"{runtime}://{record.id}",
    )
