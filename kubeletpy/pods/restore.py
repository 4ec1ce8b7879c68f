"""What the last status tells a restarted kubelet about a pod it adopts; pure."""

from __future__ import annotations

from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodStatus

from .state import Outcome, ProbeResults, Terminal

TERMINAL = ("Succeeded", "Failed")
"""Phases that a pod never leaves."""


def terminal_of(status: PodStatus) -> Terminal | None:
    """Return the end that a pod had come to, if it had."""
    if status.phase not in TERMINAL:
        return None
    return Terminal(status.phase, status.reason, status.message)


def seeds(pod: Pod, status: PodStatus) -> dict[str, ProbeResults]:
    """Return what the probes of still running containers had said, by container id.

    Without it each restart of the kubelet would turn every pod with a readiness probe unready
    until the first answer, and guard every started container by its startup probe again.
    """
    containers = {one.name: one for one in (*pod.spec.init_containers, *pod.spec.containers)}
    found: dict[str, ProbeResults] = {}
    for each in (*status.init_container_statuses, *status.container_statuses):
        container = containers.get(each.name)
        if container is None or each.state.running is None or not each.started:
            continue
        startup = Outcome.SUCCESS if container.startup_probe else Outcome.UNKNOWN
        ready = bool(container.readiness_probe) and each.ready
        readiness = Outcome.SUCCESS if ready else Outcome.UNKNOWN
        found[each.container_id.partition("://")[2]] = ProbeResults(
            startup=startup, readiness=readiness
        )
    return found


def attempts_of(status: PodStatus) -> dict[str, int]:
    """Return the highest number that a container of each name ever had.

    One that waits and of which nothing is left already shows the number of its next run.
    """
    found: dict[str, int] = {}
    for each in (
        *status.init_container_statuses,
        *status.container_statuses,
        *status.ephemeral_container_statuses,
    ):
        if each.container_id:
            found[each.name] = each.restart_count
        elif each.restart_count:
            found[each.name] = each.restart_count - 1
    return found
