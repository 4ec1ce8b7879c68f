"""Statuses of containers from what is observed; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from kubeletpy.api.container import Container
from kubeletpy.api.status import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    ContainerUser,
    LinuxContainerUser,
    VolumeMountStatus,
)
from kubeletpy.pods.plan import Actions, Desired
from kubeletpy.pods.restarts import is_sidecar
from kubeletpy.pods.state import ContainerPhase, ContainerRecord, Observed, Outcome

CREATING, INITIALIZING = "ContainerCreating", "PodInitializing"
_PLAIN = frozenset({CREATING, INITIALIZING})
LOST_EXIT_CODE = 137
RESTARTING_ALL = "RestartingAllContainers"
REMOVED = "The container is removed because RestartAllContainers in place"


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


@dataclass(frozen=True, slots=True)
class Setting:
    """What statuses of containers say of the node and its runtime.

    Attributes:
        runtime: the runtime's name, before ``://`` in ids.
        recursive_read_only: whether it makes mounts recursively read-only.
    """

    runtime: str
    recursive_read_only: bool = False


class Kind(StrEnum):
    """Which list of the specification a container stands in."""

    INIT = "init"
    REGULAR = "regular"
    EPHEMERAL = "ephemeral"


def container_status(
    container: Container,
    desired: Desired,
    observed: Observed,
    actions: Actions,
    *,
    setting: Setting,
    kind: Kind = Kind.REGULAR,
    previous: ContainerStatus | None = None,
) -> ContainerStatus:
    """Return the status of one container.

    Args:
        container: as specified.
        desired, observed, actions: the pod, what is, and what was decided (why it waits).
        setting: what statuses say of the node.
        kind: which list of the specification it stands in.
        previous: its status before; of a container that is gone from the runtime it is all that
            is left.
    """
    history = observed.history(container.name)
    record = history[0] if history else None
    current = observed.sandbox
    renewed = current is not None and current.ready and actions.terminal is None
    if kind is Kind.INIT and renewed and record is not None and current is not None:
        # Init containers run anew in a new sandbox; those of the old one are the last state.
        record = record if record.sandbox_id == current.id else None
    status = ContainerStatus(
        name=container.name,
        image=container.image,
        image_id=history[0].image_id if history else "",
        started=None if kind is Kind.EPHEMERAL else is_started(container, record, observed),
        ready=False,
        restart_count=history[0].attempt if history else 0,
        volume_mounts=_mounts(container, setting),
    )
    if history:
        status.image = history[0].image or container.image
        status.container_id = f"{setting.runtime}://{history[0].id}"
        status.user = _user(history[0])
    default = INITIALIZING if desired.pod.spec.init_containers else CREATING
    _set_states(status, record, history, actions, default, setting.runtime)
    _recall(status, history, actions, observed, previous)
    if kind is Kind.INIT and not is_sidecar(container):
        ended = status.state.terminated
        status.ready = ended is not None and ended.exit_code == 0
    else:
        # What has no readiness probe is ready as soon as it runs; ephemeral containers never are.
        status.ready = kind is not Kind.EPHEMERAL and is_ready(container, record, observed)
    return status


def _recall(
    status: ContainerStatus,
    history: tuple[ContainerRecord, ...],
    actions: Actions,
    observed: Observed,
    previous: ContainerStatus | None,
) -> None:
    """Complete what the runtime has forgotten of earlier runs from the status before."""
    if previous is None:
        return
    if history:
        if status.last_state.terminated is None and status.restart_count:
            renewed = previous.container_id != status.container_id
            ended = previous.state.terminated if renewed else None
            status.last_state = ContainerState(terminated=ended) if ended else previous.last_state
        return
    if status.name not in observed.attempts:
        status.last_state = previous.last_state
        return
    status.restart_count = observed.attempts[status.name] + 1
    if previous.state.terminated is not None:
        status.last_state = ContainerState(terminated=previous.state.terminated)
    elif previous.state.running is not None:
        status.last_state = ContainerState(terminated=_vanished(actions))
    else:
        status.last_state = previous.last_state
    if actions.reset:
        status.state = ContainerState(
            waiting=ContainerStateWaiting(reason=RESTARTING_ALL, message=REMOVED)
        )


def _vanished(actions: Actions) -> ContainerStateTerminated:
    """Return the end of a container that ran and is gone, as the Go kubelet puts it."""
    if actions.reset:
        return ContainerStateTerminated(
            exit_code=LOST_EXIT_CODE, reason=RESTARTING_ALL, message=REMOVED
        )
    return ContainerStateTerminated(
        exit_code=LOST_EXIT_CODE,
        reason="ContainerStatusUnknown",
        message=(
            "The container could not be located when the pod was deleted.  The container used to "
            "be Running"
        ),
    )


def _mounts(container: Container, setting: Setting) -> list[VolumeMountStatus]:
    found = []
    for mount in container.volume_mounts:
        recursive = None
        if mount.read_only:
            wanted = mount.recursive_read_only
            enabled = wanted == "Enabled" or (
                wanted == "IfPossible" and setting.recursive_read_only
            )
            recursive = "Enabled" if enabled else "Disabled"
        found.append(
            VolumeMountStatus(
                name=mount.name,
                mount_path=mount.mount_path,
                read_only=mount.read_only,
                recursive_read_only=recursive,
            )
        )
    return found


def _user(record: ContainerRecord) -> ContainerUser | None:
    if record.user is None:
        return None
    uid, gid, groups = record.user
    return ContainerUser(
        linux=LinuxContainerUser(uid=uid, gid=gid, supplemental_groups=list(groups))
    )


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
