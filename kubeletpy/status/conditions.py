"""Conditions of a pod; pure. Types, reasons and messages are those of the Go kubelet 1.36.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-conditions
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kubeletpy.api.pod import Pod
from kubeletpy.api.status import ContainerStatus, PodCondition, PodStatus
from kubeletpy.pods.restarts import could_restart_all, is_sidecar
from kubeletpy.pods.state import StepFailure

from .ownership import foreign

READY_TO_START = "PodReadyToStartContainers"
INITIALIZED = "Initialized"
READY = "Ready"
CONTAINERS_READY = "ContainersReady"
SCHEDULED = "PodScheduled"
RESTARTING = "AllContainersRestarting"


def conditions(
    pod: Pod,
    phase: str,
    init_statuses: Sequence[ContainerStatus],
    statuses: Sequence[ContainerStatus],
    *,
    sandbox_ready: bool,
    sandbox_fault: StepFailure | None = None,
    end_fault: StepFailure | None = None,
    restarting: bool = False,
    previous: Sequence[PodCondition],
    now: datetime,
) -> list[PodCondition]:
    """Return all conditions of a pod.

    Args:
        pod: with readiness gates.
        phase: of the pod, as just computed.
        init_statuses, statuses: of init and of regular containers, in the specified order.
        sandbox_ready: whether the sandbox runs and has its network.
        sandbox_fault: why the sandbox could not be made, the last time it was tried.
        end_fault: what holds up the end of the pod.
        restarting: whether all containers are being removed to start anew (KEP-5532).
        previous: earlier conditions: those of others are kept, and the time of the last change.
        now: the time of any change.
    """
    containers_ready = _containers_ready(pod, phase, init_statuses, statuses)
    fresh = [
        _ready_to_start(sandbox_ready, sandbox_fault, end_fault),
        _initialized(pod, phase, init_statuses, statuses),
        _ready(pod, containers_ready, previous),
        containers_ready,
        PodCondition(type=SCHEDULED, status="True"),
    ]
    if could_restart_all(pod):
        fresh.append(_restarting(phase, restarting))
    before = {condition.type: condition for condition in previous}
    for condition in fresh:
        condition.observed_generation = pod.metadata.generation
        last = before.get(condition.type)
        same = last is not None and last.status == condition.status
        condition.last_transition_time = (
            last.last_transition_time if same and last is not None else now
        )
    return fresh + foreign(previous)


def _ready_to_start(
    ready: bool, fault: StepFailure | None, end_fault: StepFailure | None
) -> PodCondition:
    # The Go kubelet gives no reason here; people need one, also after the event has expired. While
    # a pod cannot be ended its sandbox may still be ready.
    shown = end_fault if ready else end_fault or fault
    if shown is None:
        return PodCondition(type=READY_TO_START, status=_word(ready))
    return PodCondition(
        type=READY_TO_START, status=_word(ready), reason=shown.reason, message=shown.message
    )


def _restarting(phase: str, restarting: bool) -> PodCondition:
    reason = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase, "")
    if reason or not restarting:
        return PodCondition(type=RESTARTING, status="False", reason=reason)
    return PodCondition(
        type=RESTARTING,
        status="True",
        reason="RestartAllContainersStarted",
        message="container exited with restart policy rule",
    )


def _word(value: bool) -> str:
    return "True" if value else "False"


def _names(names: Sequence[str]) -> str:
    return f"[{' '.join(names)}]"


def _initialized(
    pod: Pod,
    phase: str,
    init_statuses: Sequence[ContainerStatus],
    statuses: Sequence[ContainerStatus],
) -> PodCondition:
    if phase == "Succeeded":
        return PodCondition(type=INITIALIZED, status="True", reason="PodCompleted")
    begun = any(status.state.running or status.state.terminated for status in statuses)
    sidecars = {one.name for one in pod.spec.init_containers if is_sidecar(one)}
    missing = [
        status.name
        for status in init_statuses
        if not (bool(status.started) if status.name in sidecars else status.ready)
    ]
    # Once a regular container ran, initialization is over, whatever became of sidecars.
    if not missing or begun:
        return PodCondition(type=INITIALIZED, status="True")
    return PodCondition(
        type=INITIALIZED,
        status="False",
        reason="ContainersNotInitialized",
        message=f"containers with incomplete status: {_names(missing)}",
    )


def _containers_ready(
    pod: Pod,
    phase: str,
    init_statuses: Sequence[ContainerStatus],
    statuses: Sequence[ContainerStatus],
) -> PodCondition:
    if phase == "Succeeded":
        return PodCondition(type=CONTAINERS_READY, status="False", reason="PodCompleted")
    if phase == "Failed":
        return PodCondition(type=CONTAINERS_READY, status="False", reason="PodFailed")
    sidecars = {one.name for one in pod.spec.init_containers if is_sidecar(one)}
    watched = [one for one in init_statuses if one.name in sidecars] + list(statuses)
    unready = [status.name for status in watched if not status.ready]
    if not unready:
        return PodCondition(type=CONTAINERS_READY, status="True")
    return PodCondition(
        type=CONTAINERS_READY,
        status="False",
        reason="ContainersNotReady",
        message=f"containers with unready status: {_names(unready)}",
    )


def _ready(
    pod: Pod, containers_ready: PodCondition, previous: Sequence[PodCondition]
) -> PodCondition:
    if containers_ready.status != "True":
        return PodCondition(
            type=READY,
            status=containers_ready.status,
            reason=containers_ready.reason,
            message=containers_ready.message,
        )
    given = {condition.type: condition.status for condition in previous}
    faults = []
    for gate in pod.spec.readiness_gates:
        kind = gate.condition_type
        if kind not in given:
            faults.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif given[kind] != "True":
            faults.append(
                f'the status of pod readiness gate "{kind}" is not "True", but {given[kind]}'
            )
    if faults:
        return PodCondition(
            type=READY,
            status="False",
            reason="ReadinessGatesNotReady",
            message=", ".join(faults),
        )
    return PodCondition(type=READY, status="True")


def set_condition(status: PodStatus, condition: PodCondition) -> None:
    """Put ``condition`` in the place of the one of its type, with the time of its change."""
    before = next((one for one in status.conditions if one.type == condition.type), None)
    if before is not None and before.status == condition.status:
        condition.last_transition_time = before.last_transition_time
    status.conditions = [
        *(one for one in status.conditions if one.type != condition.type), condition
    ]  # fmt: skip
