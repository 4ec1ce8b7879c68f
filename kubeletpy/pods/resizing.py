"""Which limits of a running pod are to change, and which containers restart for it; pure."""

from __future__ import annotations

from kubeletpy.api.container import Container
from kubeletpy.resize.plan import ContainerResize, Resize, amounts, needs_restart, pod_changes

from .plan import Plan
from .state import RESIZE_STEP, ContainerRecord, KillReason, SandboxRecord


def resize(plan: Plan, sandbox: SandboxRecord) -> None:
    """Bring what runs to what the pod was allocated.

    Containers whose resizePolicy asks for it are ended first; they start again with their new
    limits, after those of the pod's cgroup have changed.
    """
    pod, actual = plan.desired.pod, plan.observed.actual
    changes: list[ContainerResize] = []
    restarting = False
    for container in (*pod.spec.init_containers, *pod.spec.containers):
        record = plan.observed.latest(container.name, sandbox.id)
        if record is None or not record.running:
            continue
        now = actual.amounts.get(record.id, record.amounts)
        wanted = amounts(pod, container.resources)
        if now is None or now == wanted:
            continue
        if needs_restart(container, now, wanted):
            restarting = True
            _restart(plan, container, record)
        else:
            changes.append(ContainerResize(record.id, container.name, now, wanted))
    of_pod = (
        actual.pod is not None
        and actual.wanted is not None
        and pod_changes(actual.pod, actual.wanted)
    )
    plan.resizing = restarting or of_pod or bool(changes)
    if (changes or of_pod) and not restarting and not plan.blocked(RESIZE_STEP):
        plan.resize = Resize(tuple(changes), of_pod)


def _restart(plan: Plan, container: Container, record: ContainerRecord) -> None:
    message = f"Container {container.name} resize requires restart"
    plan.kill(record, KillReason.RESIZE, message)
