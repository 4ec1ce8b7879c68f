"""PodStatus from what shall be, what is, and what was decided; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import ContainerStatus, HostIP, PodCondition, PodIP, PodStatus
from kubeletpy.pods.plan import Actions, Desired
from kubeletpy.pods.state import KILL_STEP, SANDBOX_STEP, ContainerPhase, Observed
from kubeletpy.resources.qos import qos_class
from kubeletpy.sources.updates import from_api

from .conditions import conditions
from .containers import Kind, Setting, container_status, instant
from .ended import close, remembered
from .ownership import foreign, own
from .resources import add_resources

PENDING, RUNNING, SUCCEEDED, FAILED = "Pending", "Running", "Succeeded", "Failed"


@dataclass(frozen=True, slots=True)
class Node:
    """What a status says of the node.

    Attributes:
        ips: its addresses, the primary one first.
        runtime: the runtime's name, before ``://`` in ids.
        recursive_read_only: whether the runtime makes mounts recursively read-only.
    """

    ips: tuple[str, ...] = ()
    runtime: str = "kubeletpy"
    recursive_read_only: bool = False


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
        begun = container.name in observed.attempts or any(
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
    setting = Setting(node.runtime, node.recursive_read_only)
    init_statuses, statuses, ephemeral = _container_statuses(
        desired, observed, actions, setting, previous
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
            sandbox_fault=observed.failures.get(SANDBOX_STEP),
            end_fault=observed.failures.get(KILL_STEP),
            restarting=bool(actions.reset),
            previous=known_conditions(pod, previous),
            now=time,
        ),
        host_ip=node.ips[0] if node.ips else "",
        host_ips=[HostIP(ip=address) for address in node.ips],
        start_time=instant(observed.started_at),
        init_container_statuses=init_statuses,
        # As in the Go kubelet: init containers as specified, all others by name.
        container_statuses=sorted(statuses, key=_name),
        ephemeral_container_statuses=sorted(ephemeral, key=_name),
        qos_class=qos_class(pod),
    )
    if actions.terminal is not None and phase == actions.terminal.phase:
        status.reason, status.message = actions.terminal.reason, actions.terminal.message
    _addresses(status, desired, observed, node, previous)
    add_resources(status, desired, observed, previous)
    return status


def _container_statuses(
    desired: Desired,
    observed: Observed,
    actions: Actions,
    setting: Setting,
    previous: PodStatus | None,
) -> tuple[list[ContainerStatus], list[ContainerStatus], list[ContainerStatus]]:
    """Return the statuses of init, regular and ephemeral containers."""
    pod = desired.pod
    init_statuses, statuses, ephemeral = (
        [
            container_status(
                one, desired, observed, actions, setting=setting, kind=kind,
                previous=_named(before, one.name),
            )
            for one in containers
        ]
        for kind, containers, before in _groups(pod, previous or PodStatus())
    )  # fmt: skip
    if previous is not None and (actions.ended or actions.terminal is not None):
        init_statuses = remembered(init_statuses, previous.init_container_statuses, observed)
        statuses = remembered(statuses, previous.container_statuses, observed)
    vanished = bool(observed.attempts) and not observed.containers
    if actions.ended or (actions.terminal is not None and vanished):
        close(pod, init_statuses, statuses)
    return init_statuses, statuses, ephemeral


def _groups(
    pod: Pod, before: PodStatus
) -> Iterator[tuple[Kind, Sequence[Container], list[ContainerStatus]]]:
    """Yield each list of containers, with the statuses that they had before."""
    spec = pod.spec
    yield Kind.INIT, spec.init_containers, before.init_container_statuses
    yield Kind.REGULAR, spec.containers, before.container_statuses
    yield Kind.EPHEMERAL, spec.ephemeral_containers, before.ephemeral_container_statuses


def _name(status: ContainerStatus) -> str:
    return status.name


def _named(statuses: list[ContainerStatus], name: str) -> ContainerStatus | None:
    return next((status for status in statuses if status.name == name), None)


def known_conditions(pod: Pod, previous: PodStatus | None) -> list[PodCondition]:
    """Return the conditions before: the kubelet's as it wrote them, others' as they are now.

    Args:
        pod: of the API server: its status there has the latest word of others.
        previous: the status before.
    """
    before = previous.conditions if previous is not None else []
    if not from_api(pod):
        return before
    return [*own(before), *foreign(pod.status.conditions)]


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
