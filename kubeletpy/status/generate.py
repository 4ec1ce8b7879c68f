"""PodStatus from what shall be, what is, and what was decided; pure."""

from __future__ import annotations

from dataclasses import dataclass

from kubeletpy.api.status import ContainerStatus, HostIP, PodIP, PodStatus
from kubeletpy.pods.plan import Actions, Desired
from kubeletpy.pods.state import ContainerPhase, Observed
from kubeletpy.resources.qos import qos_class

from .conditions import conditions
from .containers import container_status, instant

PENDING, RUNNING, SUCCEEDED, FAILED = "Pending", "Running", "Succeeded", "Failed"


@dataclass(frozen=True, slots=True)
class Node:
    """What a status says of the node.

    Attributes:
        ips: its addresses, the primary one first.
        runtime: the runtime's name, before ``://`` in ids.
    """

    ips: tuple[str, ...] = ()
    runtime: str = "kubeletpy"


def phase_of(desired: Desired, observed: Observed, actions: Actions) -> str:
    """Return the phase of a pod.

    Succeeded and Failed come from the decision alone (`actions.Actions.terminal`), and only once
    nothing runs any more (KEP-3329); a pod is Pending until each of its regular containers has
    been started once in it, and Running from then on, also while all of them are restarting.
    """
    if actions.terminal is not None:
        if not any(record.running for record in observed.containers):
            return actions.terminal.phase
        return RUNNING
    if not actions.initialized:
        return PENDING
    for container in desired.pod.spec.containers:
        begun = any(
            record.phase is not ContainerPhase.CREATED
            for record in observed.history(container.name)
        )
        if not begun:
            return PENDING
    return RUNNING


def pod_status(
    desired: Desired,
    observed: Observed,
    actions: Actions,
    *,
    node: Node,
    now: float,
    previous: PodStatus | None = None,
) -> PodStatus:
    """Return the status of a pod.

    Args:
        desired, observed, actions: the pod, what is, and what was decided.
        node: what a status says of the node.
        now: the time in seconds since the epoch.
        previous: the status before, for the times of transitions and the last addresses.
    """
    pod = desired.pod
    phase = phase_of(desired, observed, actions)
    init_statuses, statuses = (
        [
            container_status(one, desired, observed, actions, runtime=node.runtime, init=init)
            for one in containers
        ]
        for containers, init in ((pod.spec.init_containers, True), (pod.spec.containers, False))
    )
    sandbox = observed.sandbox
    ready = sandbox is not None and sandbox.ready and bool(sandbox.ips or pod.spec.host_network)
    time = instant(now)
    assert time is not None  # now is not 1970
    status = PodStatus(
        observed_generation=pod.metadata.generation,
        phase=phase,
        conditions=conditions(
            pod,
            phase,
            init_statuses,
            statuses,
            sandbox_ready=ready,
            previous=previous.conditions if previous else [],
            now=time,
        ),
        host_ip=node.ips[0] if node.ips else "",
        host_ips=[HostIP(ip=address) for address in node.ips],
        start_time=instant(observed.started_at),
        init_container_statuses=init_statuses,
        container_statuses=statuses,
        qos_class=qos_class(pod),
    )
    if actions.terminal is not None and phase == actions.terminal.phase:
        status.reason, status.message = actions.terminal.reason, actions.terminal.message
    _addresses(status, desired, observed, node, previous)
    return status


def _addresses(
    status: PodStatus,
    desired: Desired,
    observed: Observed,
    node: Node,
    previous: PodStatus | None,
) -> None:
    sandbox = observed.sandbox
    addresses: tuple[str, ...] = ()
    if sandbox is not None and sandbox.ready:
        addresses = node.ips if desired.pod.spec.host_network else sandbox.ips
    elif previous is not None:
        # An ended pod keeps the address it had, as in the Go kubelet.
        addresses = tuple(one.ip for one in previous.pod_ips)
    status.pod_ip = addresses[0] if addresses else ""
    status.pod_ips = [PodIP(ip=address) for address in addresses]


def ready_containers(statuses: list[ContainerStatus]) -> str:
    """Return how many containers are ready, as ``kubectl get pods`` writes it: ``1/2``."""
    return f"{sum(one.ready for one in statuses)}/{len(statuses)}"
