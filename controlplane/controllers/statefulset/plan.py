"""What is to be done for a StatefulSet, given what is (pure).

Source: Kubernetes documentation, "StatefulSets", "Deployment and Scaling Guarantees" and "Update
Strategies"; KEP-961 (maxUnavailable), KEP-1847 (claims), KEP-2599 (minReadySeconds).

A set is brought into shape in phases, each of which begins only when the one before went well::

    replicas    make what lacks, delete what ended, put right what does not fit   lowest first
    claims      owners of the claims of pods beyond the scale
    condemned   delete the pods beyond the scale                                  highest first
    update      delete pods of other revisions                                    highest first

In order (``OrderedReady``) the first pod that must be waited for ends all; in parallel
(``Parallel``) nothing is waited for but in the phase of updates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from controlplane.controllers.amounts import scaled
from controlplane.controllers.pods import has_ended, is_available, is_ready, phase_of
from controlplane.engine.resources import Object, is_deleting

from .identity import (
    claims_of,
    identity_fits,
    new_pod,
    ordinal_of,
    ordinals_of,
    revision_of,
    storage_fits,
)
from .retention import has_other_controller, is_stale, owners_are_right

Find = Callable[[str], Object | None]
"""Finds a claim of the set's namespace by its name."""


class Act(Enum):
    """What can be done with a pod."""

    CREATE = "create"
    """Make its claims, then the pod."""
    CLAIMS = "claims"
    """Make those of its claims that lack."""
    FIX = "fix"
    """Make identity, volumes and owners of claims fit."""
    RETAIN = "retain"
    """Make the owners of its claims fit."""
    DELETE = "delete"
    """Delete it."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do with a pod.

    Attributes:
        act: what.
        pod: as it is, or as it shall be made.
    """

    act: Act
    pod: Object


@dataclass(frozen=True, slots=True)
class Revisions:
    """The revisions between which a set is.

    Attributes:
        current, update: names of the one that pods had and of the one they shall have.
        current_template, update_template: what they keep.
    """

    current: str
    update: str
    current_template: Object
    update_template: Object


@dataclass(slots=True)
class Plan:
    """What is to be done.

    Attributes:
        phases: one after the other; in each the steps of every pod, which are in order among
            themselves.
        parallel: whether different pods of a phase may be worked on at the same time.
        waiting: for which pod nothing more is done now; "": none.
    """

    phases: list[list[list[Step]]] = field(default_factory=list)
    parallel: bool = False
    waiting: str = ""

    def steps(self) -> list[tuple[str, str]]:
        """Return all steps, by act and name of the pod."""
        return [
            (step.act.value, step.pod["metadata"]["name"])
            for phase in self.phases
            for steps in phase
            for step in steps
        ]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known.

    Attributes:
        owner: the set.
        pods: that it controls.
        revisions: of it.
        find: its claims.
        now: what time it is.
        held: names of pods that ended and are not to be deleted yet.
    """

    owner: Object
    pods: Sequence[Object]
    revisions: Revisions
    find: Find
    now: datetime
    held: frozenset[str] = frozenset()

    @property
    def min_ready(self) -> int:
        """Seconds that a pod must be ready for, to be available."""
        return int(self.owner["spec"].get("minReadySeconds") or 0)

    @property
    def in_order(self) -> bool:
        """Whether pods are made and ended one after the other."""
        return bool(self.owner["spec"].get("podManagementPolicy") != "Parallel")

    def is_good(self, pod: Object) -> bool:
        """Whether a pod is available and stays."""
        return not is_deleting(pod) and is_available(pod, self.min_ready, self.now)


def plan(facts: Facts) -> Plan:
    """Return what is to be done now."""
    made = Plan(parallel=not facts.in_order)
    if is_deleting(facts.owner):
        return made
    replicas, condemned = divided(facts)
    if (
        _replicas(facts, replicas, made)
        and _claims(facts, condemned, made)
        and _condemned(facts, replicas, condemned, made)
    ):
        _updates(facts, replicas, made)
    made.phases = [phase for phase in made.phases if phase]
    return made


def divided(facts: Facts) -> tuple[list[Object], list[Object]]:
    """Return the pod of each wanted ordinal, there or to be made, and those beyond, highest first.

    Pods whose name has no ordinal belong to neither.
    """
    wanted = ordinals_of(facts.owner)
    there = {ordinal_of(pod): pod for pod in facts.pods}
    replicas = [there.get(one) or missing(facts, one) for one in wanted.all]
    beyond = sorted((one for one in there if one >= 0 and one not in wanted), reverse=True)
    return replicas, [there[one] for one in beyond]


def missing(facts: Facts, ordinal: int) -> Object:
    """Return the pod of an ordinal that has none: below the partition of the current revision."""
    rolling = facts.owner["spec"]["updateStrategy"].get("rollingUpdate") or {}
    start, revisions = ordinals_of(facts.owner).start, facts.revisions
    if ordinal < start + rolling.get("partition", 0):
        return new_pod(facts.owner, revisions.current_template, revisions.current, ordinal)
    return new_pod(facts.owner, revisions.update_template, revisions.update, ordinal)


def exists(pod: Object) -> bool:
    """Whether a pod is there, not one to be made."""
    return "uid" in pod["metadata"]


def _replicas(facts: Facts, replicas: list[Object], made: Plan) -> bool:
    phase: list[list[Step]] = []
    made.phases.append(phase)
    for pod in replicas:
        acts, waits = _of_replica(facts, pod)
        if acts:
            phase.append([Step(act, pod) for act in acts])
        if waits and facts.in_order:
            made.waiting = pod["metadata"]["name"]
            return False
    return True


def _of_replica(facts: Facts, pod: Object) -> tuple[list[Act], bool]:
    """Return what is to be done with the pod of a wanted ordinal, and whether it is waited for."""
    if not exists(pod):
        return ([] if _has_stale_claim(facts, pod) else [Act.CREATE]), True
    if has_ended(pod):
        # Whatever it ended with: a new one takes its place once it is gone.
        keep = is_deleting(pod) or pod["metadata"]["name"] in facts.held
        return ([] if keep else [Act.DELETE]), True
    acts = []
    if phase_of(pod) == "Pending" and not _has_its_claims(facts, pod):
        acts.append(Act.CLAIMS)
    waits = is_deleting(pod) or not is_ready(pod) or not facts.is_good(pod)
    if waits and facts.in_order:
        return acts, True
    fits = identity_fits(facts.owner, pod) and storage_fits(facts.owner, pod)
    if not (fits and claims_are_right(facts, pod)):
        acts.append(Act.FIX)
    return acts, False


def _has_its_claims(facts: Facts, pod: Object) -> bool:
    names = (one["metadata"]["name"] for one in _claims_of(facts, pod))
    return all(facts.find(name) is not None for name in names) and claims_are_right(facts, pod)


def claims_are_right(facts: Facts, pod: Object) -> bool:
    """Whether the owners of the claims of a pod are as the policy wants; those that lack are."""
    found = (facts.find(one["metadata"]["name"]) for one in _claims_of(facts, pod))
    return all(owners_are_right(one, facts.owner, pod) for one in found if one is not None)


def conflicting_claims(facts: Facts, pod: Object) -> list[str]:
    """Return the names of claims of a pod that something else controls."""
    found = (facts.find(one["metadata"]["name"]) for one in _claims_of(facts, pod))
    return [
        one["metadata"]["name"] for one in found
        if one is not None and has_other_controller(one, facts.owner, pod)
    ]  # fmt: skip


def _claims_of(facts: Facts, pod: Object) -> list[Object]:
    return claims_of(facts.owner, ordinal_of(pod))


def _has_stale_claim(facts: Facts, pod: Object) -> bool:
    found = (facts.find(one["metadata"]["name"]) for one in _claims_of(facts, pod))
    return any(is_stale(one, facts.owner, pod) for one in found if one is not None)


def _claims(facts: Facts, condemned: list[Object], made: Plan) -> bool:
    made.phases.append([
        [Step(Act.RETAIN, pod)] for pod in condemned if not claims_are_right(facts, pod)
    ])  # fmt: skip
    return True


def _condemned(
    facts: Facts, replicas: list[Object], condemned: list[Object], made: Plan
) -> bool:  # fmt: skip
    """Delete pods beyond the scale; in order the highest, and only while the others are well."""
    phase: list[list[Step]] = []
    made.phases.append(phase)
    bad = (pod for pod in [*replicas, *reversed(condemned)] if not facts.is_good(pod))
    first_bad = next(bad, None)
    for pod in condemned:
        if facts.in_order:
            made.waiting = pod["metadata"]["name"]
            if not is_deleting(pod) and (facts.is_good(pod) or pod is first_bad):
                phase.append([Step(Act.DELETE, pod)])
            return False
        if not is_deleting(pod):
            phase.append([Step(Act.DELETE, pod)])
    return True


def _updates(facts: Facts, replicas: list[Object], made: Plan) -> None:
    strategy = facts.owner["spec"]["updateStrategy"]
    if strategy.get("type") == "OnDelete":
        return
    rolling = strategy.get("rollingUpdate") or {}
    lowest = rolling.get("partition", 0)
    candidates = list(reversed(replicas[lowest:]))
    if rolling.get("maxUnavailable") is None:
        doomed = _next_updated(facts, candidates, made)
    else:
        most = max(scaled(rolling["maxUnavailable"], len(replicas), up=False), 1)
        doomed = _some_updated(facts, replicas, candidates, most)
    going = {name for act, name in made.steps() if act == Act.DELETE.value}
    made.phases.append([
        [Step(Act.DELETE, pod)] for pod in doomed if pod["metadata"]["name"] not in going
    ])  # fmt: skip


def _next_updated(facts: Facts, candidates: list[Object], made: Plan) -> list[Object]:
    """Return the next pod to be replaced: the highest of another revision, if those above are well.

    It may be one that is not well itself: so an update gets past a revision that never worked.
    """
    for pod in candidates:
        if revision_of(pod) != facts.revisions.update and not is_deleting(pod):
            return [pod]
        if not facts.is_good(pod):
            made.waiting = pod["metadata"]["name"]
            break
    return []


def _some_updated(
    facts: Facts, replicas: list[Object], candidates: list[Object], most: int
) -> list[Object]:
    """Return the next pods to be replaced, so that no more than ``most`` are not available.

    One that is not available already costs nothing.
    """
    left = most - sum(not facts.is_good(pod) for pod in replicas)
    doomed = []
    for pod in candidates:
        if not exists(pod) or is_deleting(pod) or revision_of(pod) == facts.revisions.update:
            continue
        if facts.is_good(pod):
            if left <= 0:
                continue
            left -= 1
        doomed.append(pod)
    return doomed
