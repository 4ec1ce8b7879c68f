"""Making room for an important pod: which pods go, on which node.

Source: Kubernetes documentation, "Pod Priority and Preemption".
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from controlplane.engine.resources import Object

from .nodes import NodeInfo, condition_of
from .placing import Placer, Profile
from .plugins.base import Check
from .pods import PodInfo
from .statuses import Diagnosis, Status
from .terms import selector_of

BY_SCHEDULER: Final = "PreemptionByScheduler"
_PLUGIN: Final = "DefaultPreemption"
_NOT_HELPFUL: Final = Status(_PLUGIN, ("Preemption is not helpful for scheduling",))
_NO_VICTIMS: Final = Status(_PLUGIN, ("No preemption victims found for incoming pod",))
_LOWEST: Final = 2**31
"""Is added to priorities, so that a few pods of a negative one are better than many."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node on which room can be made.

    Attributes:
        node: name of it.
        victims: pods that go, the most important first.
        violations: how many of them a PodDisruptionBudget would keep.
    """

    node: str
    victims: tuple[PodInfo, ...]
    violations: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What comes of it.

    Attributes:
        candidate: the best one; None: no room is made.
        message: why no room is made; "": it is.
        clear: whether a node that was promised to the pod is so no more.
    """

    candidate: Candidate | None
    message: str = ""
    clear: bool = False


def preempt(
    placer: Placer, profile: Profile, pod: PodInfo, nodes: Sequence[NodeInfo],
    checks: Sequence[Check], diagnosis: Diagnosis, budgets: Sequence[Object], lowest: int,
) -> Outcome:  # fmt: skip
    """Decide where to make room for a pod that fits on no node.

    Args:
        placer: knows to which pods nodes were promised.
        profile: of the pod.
        pod: that fits nowhere.
        nodes: all of them.
        checks: that were prepared for the pod; they are as before in the end.
        diagnosis: why it does not fit.
        budgets: PodDisruptionBudgets.
        lowest: priority of all pods that have nodes.
    """
    why = _why_not_eligible(pod, nodes, diagnosis)
    if why:
        return Outcome(None, f"preemption: {why}")
    result = Diagnosis(len(nodes), absent=_NOT_HELPFUL)
    possible = [
        node for node in nodes
        if (status := diagnosis.status_of(node.name)) is not None and status.resolvable
    ]  # fmt: skip
    candidates: list[Candidate] = []
    if pod.priority <= lowest:
        result.statuses.update((node.name, _NO_VICTIMS) for node in possible)
    else:
        candidates = _try_out(placer, profile, pod, possible, checks, budgets, result)
    if not candidates:
        return Outcome(None, f"preemption: {result.message}", clear=True)
    return Outcome(best(candidates))


def _why_not_eligible(pod: PodInfo, nodes: Sequence[NodeInfo], diagnosis: Diagnosis) -> str:
    if pod.spec.get("preemptionPolicy") == "Never":
        return "not eligible due to preemptionPolicy=Never."
    if not pod.nominated:
        return ""
    status = diagnosis.status_of(pod.nominated)
    if status is not None and not status.resolvable:
        return ""
    for node in nodes:
        if node.name == pod.nominated and any(
            one.priority < pod.priority and is_preempted(one) for one in node.pods.values()
        ):
            return "not eligible due to a terminating pod on the nominated node."
    return ""


def is_preempted(pod: PodInfo) -> bool:
    """Whether a pod is going because the scheduler made room."""
    condition = condition_of(pod.pod, "DisruptionTarget")
    return (
        pod.deleting
        and condition.get("status") == "True"
        and condition.get("reason") == BY_SCHEDULER
    )


def _try_out(
    placer: Placer, profile: Profile, pod: PodInfo, nodes: Sequence[NodeInfo],
    checks: Sequence[Check], budgets: Sequence[Object], result: Diagnosis,
) -> list[Candidate]:  # fmt: skip
    """Return the nodes on which room can be made, those first that violate no budget."""
    count = len(nodes)
    if not count:
        return []
    percentage, least = profile.candidates
    wanted = min(max(count * percentage // 100, least), count)
    good: list[Candidate] = []
    bad: list[Candidate] = []
    start = random.randrange(count)
    for index in range(count):
        node = nodes[(start + index) % count]
        found = victims_on(placer, pod, node, checks, budgets)
        if isinstance(found, Status):
            result.statuses[node.name] = found
            continue
        (bad if found.violations else good).append(found)
        if good and len(good) + len(bad) >= wanted:
            break
    return [*good, *bad]


def victims_on(
    placer: Placer, pod: PodInfo, node: NodeInfo, checks: Sequence[Check],
    budgets: Sequence[Object],
) -> Candidate | Status:  # fmt: skip
    """Return which pods of a node would have to go; why it is of no use otherwise."""
    possible = [one for one in node.pods.values() if one.priority < pod.priority]
    if not possible:
        return _NO_VICTIMS
    room, gone = node.copy(), dict[str, PodInfo]()

    def take(one: PodInfo) -> None:
        room.remove(one)
        gone[one.uid] = one
        for check in checks:
            check.remove(one, room)

    def put(one: PodInfo) -> None:
        room.add(one)
        del gone[one.uid]
        for check in checks:
            check.add(one, room)

    try:
        for one in possible:
            take(one)
        status = placer.why_not(room, pod, checks)
        if status is not None:
            return status
        possible.sort(key=importance)
        violating, rest = split(possible, budgets)
        victims: list[PodInfo] = []
        violations = 0
        for one in (*violating, *rest):
            put(one)
            if placer.why_not(room, pod, checks) is not None:
                take(one)
                victims.append(one)
                violations += one in violating
        victims.sort(key=importance)
        return Candidate(node.name, tuple(victims), violations)
    finally:
        for one in list(gone.values()):
            put(one)


def importance(pod: PodInfo) -> tuple[int, str]:
    """Return what sorts pods, the most important first: by priority, then by age."""
    return -pod.priority, started(pod)


def started(pod: PodInfo) -> str:
    """Return when a pod started; one that did not counts as starting now."""
    return (pod.pod.get("status") or {}).get("startTime") or "9999"


def split(
    pods: Sequence[PodInfo], budgets: Sequence[Object]
) -> tuple[list[PodInfo], list[PodInfo]]:
    """Return those pods whose going budgets would not allow, and the others (pure)."""
    left = [(one.get("status") or {}).get("disruptionsAllowed") or 0 for one in budgets]
    violating: list[PodInfo] = []
    rest: list[PodInfo] = []
    for pod in pods:
        violates = False
        for index, budget in enumerate(budgets):
            if _covers(budget, pod):
                left[index] -= 1
                violates = violates or left[index] < 0
        (violating if violates else rest).append(pod)
    return violating, rest


def _covers(budget: Mapping[str, Any], pod: PodInfo) -> bool:
    if budget["metadata"].get("namespace") != pod.namespace or not pod.labels:
        return False
    selector = selector_of((budget.get("spec") or {}).get("selector"))
    if selector is None or not selector.requirements or not selector.matches(pod.labels):
        return False
    disrupted = (budget.get("status") or {}).get("disruptedPods") or {}
    return pod.pod["metadata"]["name"] not in disrupted


def best(candidates: Sequence[Candidate]) -> Candidate:
    """Return the node on which making room costs least (pure).

    In this order: few violated budgets, a low highest priority, a low sum of priorities, few
    pods, the most important of which started late.
    """

    def cost(one: Candidate) -> tuple[int, int, int, int]:
        return (
            one.violations,
            one.victims[0].priority,
            sum(pod.priority + _LOWEST for pod in one.victims),
            len(one.victims),
        )

    lowest = min(map(cost, candidates))
    equal = [one for one in candidates if cost(one) == lowest]
    return max(equal, key=_earliest)


def _earliest(one: Candidate) -> str:
    """Return when the first of the most important victims started."""
    highest = one.victims[0].priority
    return min(started(pod) for pod in one.victims if pod.priority == highest)
