"""Whether an ended container runs again: restart policies and the rules of a container; pure.

A container's own ``restartPolicy`` and ``restartPolicyRules`` (KEP-5307) come before the pod's
policy; the action RestartAllContainers of a rule (KEP-5532) sets the whole pod back to its begin,
in the same sandbox and with the same volumes.
"""

from __future__ import annotations

from collections.abc import Iterator

from kubeletpy.api.container import Container, ContainerRestartRule
from kubeletpy.api.pod import Pod, PodSpec

from .state import ContainerRecord, KillReason, Observed

ALWAYS, ON_FAILURE, NEVER = "Always", "OnFailure", "Never"
RESTART, RESTART_ALL = "Restart", "RestartAllContainers"


def is_sidecar(container: Container) -> bool:
    """Whether this init container runs beside the others (KEP-753: restartPolicy Always)."""
    return container.restart_policy == ALWAYS


def policy_of(spec: PodSpec, container: Container) -> str:
    """Return the restart policy of a container: its own, else the pod's."""
    return container.restart_policy or spec.restart_policy or ALWAYS


def matching_rule(container: Container, exit_code: int) -> ContainerRestartRule | None:
    """Return the first rule that speaks of this exit code."""
    for rule in container.restart_policy_rules:
        codes = rule.exit_codes
        if codes is None:
            continue
        listed = exit_code in codes.values
        if (codes.operator == "In" and listed) or (codes.operator == "NotIn" and not listed):
            return rule
    return None


def restarts(spec: PodSpec, container: Container, exit_code: int) -> bool:
    """Whether a container that ended with ``exit_code`` runs again."""
    if container.restart_policy is not None:
        rule = matching_rule(container, exit_code)
        if rule is not None and rule.action in (RESTART, RESTART_ALL):
            return True
    policy = policy_of(spec, container)
    return policy == ALWAYS or (policy == ON_FAILURE and exit_code != 0)


def succeeded(observed: Observed, record: ContainerRecord) -> bool:
    """Whether a container did its work: exit code 0, and not because the kubelet ended it."""
    return record.exited and record.exit_code == 0 and record.id not in observed.killed


def should_restart(
    spec: PodSpec, container: Container, observed: Observed, record: ContainerRecord
) -> bool:
    """Whether an ended (or lost) container runs again."""
    if observed.killed.get(record.id) in (KillReason.CHANGED, KillReason.RESIZE):
        return True
    if not record.exited:
        # What was lost left no exit code that a rule could match.
        return policy_of(spec, container) != NEVER
    if restarts(spec, container, record.exit_code):
        return True
    # Ended by the kubelet, it may have exited with 0; its work is not done all the same.
    unfinished = not succeeded(observed, record)
    return unfinished and policy_of(spec, container) == ON_FAILURE


def every_container(pod: Pod) -> tuple[Container, ...]:
    """Return all containers of a pod: init, regular and ephemeral ones."""
    spec = pod.spec
    return (*spec.init_containers, *spec.containers, *spec.ephemeral_containers)


def _lifelong(spec: PodSpec) -> Iterator[Container]:
    yield from spec.init_containers
    yield from spec.containers


def could_restart_all(pod: Pod) -> bool:
    """Whether a rule of any container restarts all."""
    return any(
        rule.action == RESTART_ALL
        for container in _lifelong(pod.spec)
        for rule in container.restart_policy_rules
    )


def triggers_all(container: Container, record: ContainerRecord) -> bool:
    """Whether this end of a container restarts all containers of its pod."""
    if not record.exited:
        return False
    rule = matching_rule(container, record.exit_code)
    return rule is not None and rule.action == RESTART_ALL


def restarts_all(pod: Pod, observed: Observed) -> bool:
    """Whether all containers have to be removed and started anew.

    The container that asked for it is removed last, so this stays true until all are gone, also
    over a restart of the kubelet.
    """
    for container in _lifelong(pod.spec):
        latest = observed.latest(container.name)
        if latest is not None and triggers_all(container, latest):
            return True
    return False


def order_of_reset(pod: Pod, observed: Observed) -> list[ContainerRecord]:
    """Return all containers of the pod in the order in which they are to be removed.

    Regular ones first, then init containers; those that asked for it at the very end.
    """
    victims: list[ContainerRecord] = []
    sources: list[ContainerRecord] = []
    for group in (pod.spec.containers, pod.spec.init_containers):
        for container in group:
            for record in observed.history(container.name):
                chosen = sources if triggers_all(container, record) else victims
                chosen.append(record)
    return victims + sources
