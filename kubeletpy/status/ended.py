"""The last status of a pod that was terminated: no container of it is left in doubt; pure."""

from __future__ import annotations

from collections.abc import Sequence

from kubeletpy.api.pod import Pod
from kubeletpy.api.status import ContainerState, ContainerStateTerminated, ContainerStatus
from kubeletpy.pods.restarts import is_sidecar
from kubeletpy.pods.state import Observed

from .containers import LOST_EXIT_CODE

UNKNOWN_REASON = "ContainerStatusUnknown"


def close(
    pod: Pod, init_statuses: Sequence[ContainerStatus], statuses: Sequence[ContainerStatus]
) -> None:
    """Mark as failed what should have ended and did not, as the Go kubelet does.

    A container of which no end is known must never count as one that succeeded. Those that an
    unfinished initialization kept from starting go on to wait.

    Args:
        pod: whose statuses they are.
        init_statuses, statuses: of init and of regular containers; changed in place.
    """
    if _initialized(pod, init_statuses, statuses):
        for status in statuses:
            _end(status)
    begun = [index for index, status in enumerate(init_statuses) if _begun(status)]
    for status in init_statuses[: begun[-1] + 1 if begun else 1]:
        _end(status)


def remembered(
    statuses: Sequence[ContainerStatus], before: Sequence[ContainerStatus], observed: Observed
) -> list[ContainerStatus]:
    """Return ``statuses``, with the ends told before of containers that are there no longer."""
    ends = {one.name: one for one in before if one.state.terminated is not None}
    return [
        one if observed.latest(one.name) is not None else ends.get(one.name, one)
        for one in statuses
    ]


def _begun(status: ContainerStatus) -> bool:
    return status.state.waiting is None or status.last_state.terminated is not None


def _end(status: ContainerStatus) -> None:
    if status.state.terminated is None:
        message = "The container could not be located when the pod was terminated"
        ended = ContainerStateTerminated(
            exit_code=LOST_EXIT_CODE, reason=UNKNOWN_REASON, message=message
        )
        status.state = ContainerState(terminated=ended)


def _initialized(
    pod: Pod, init_statuses: Sequence[ContainerStatus], statuses: Sequence[ContainerStatus]
) -> bool:
    if not pod.spec.init_containers or any(_begun(status) for status in statuses):
        return True
    if is_sidecar(pod.spec.init_containers[-1]):
        return init_statuses[-1].state.running is not None and bool(init_statuses[-1].started)
    ends = (init_statuses[-1].state.terminated, init_statuses[-1].last_state.terminated)
    return any(end is not None and end.exit_code == 0 for end in ends)
