"""Which pods of a DaemonSet are made and deleted (pure).

Source: Kubernetes documentation, "DaemonSet" and "Perform a Rolling Update on a DaemonSet";
KEP-1591 (maxSurge).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from controlplane.controllers.amounts import scaled
from controlplane.controllers.history import REVISION_LABEL
from controlplane.controllers.pods import has_ended, is_available, is_ready, phase_of
from controlplane.engine.resources import Object, is_deleting

from .fitting import fits, node_of

GENERATION_LABEL: Final = "pod-template-generation"
_GENERATION: Final = "deprecated.daemonset.template.generation"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known.

    Attributes:
        owner: the set.
        nodes: all there are, by name.
        pods: that it controls, by the node that each is on or kept to.
        digest: hash of the wanted revision.
        now: what time it is.
    """

    owner: Object
    nodes: dict[str, Object]
    pods: dict[str, list[Object]]
    digest: str
    now: datetime

    @property
    def min_ready(self) -> int:
        """Seconds that a pod must be ready for, to be available."""
        return int(self.owner["spec"].get("minReadySeconds") or 0)

    def available(self, pod: Object) -> bool:
        """Whether a pod is available."""
        return is_available(pod, self.min_ready, self.now)

    def is_new(self, pod: Object) -> bool:
        """Whether a pod is of the wanted revision."""
        labels = pod["metadata"].get("labels") or {}
        generation = generation_of(self.owner)
        return bool(self.digest and labels.get(REVISION_LABEL) == self.digest) or (
            generation is not None and labels.get(GENERATION_LABEL) == str(generation)
        )


@dataclass(slots=True)
class Plan:
    """What is to be done.

    Attributes:
        create: names of nodes that get a pod.
        delete: pods.
        failed, succeeded: those of them that ended, with their nodes; an event tells of each.
    """

    create: list[str] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    failed: list[tuple[str, Object]] = field(default_factory=list)
    succeeded: list[tuple[str, Object]] = field(default_factory=list)


def generation_of(owner: Object) -> int | None:
    """Return the number of a set's template, which older controllers labelled pods with."""
    text = (owner["metadata"].get("annotations") or {}).get(_GENERATION, "")
    try:
        return int(text)
    except ValueError:
        return None


def by_node(pods: Iterable[Object]) -> dict[str, list[Object]]:
    """Return pods by their nodes; those that ended and are being deleted are nobody's any more."""
    found: dict[str, list[Object]] = {}
    for pod in pods:
        name = node_of(pod)
        if name and not (has_ended(pod) and is_deleting(pod)):
            found.setdefault(name, []).append(pod)
    return found


def oldest_first(pods: Iterable[Object]) -> list[Object]:
    """Return pods that have a node first, then by age."""
    return sorted(pods, key=lambda pod: (
        not pod["spec"].get("nodeName"), pod["metadata"].get("creationTimestamp", ""),
        pod["metadata"]["name"],
    ))  # fmt: skip


def surges(owner: Object) -> bool:
    """Whether a node may have two pods while it is updated."""
    return _surge(owner, 1) > 0


def manage(facts: Facts) -> Plan:
    """Return what makes each node have its pod, and no other."""
    made = Plan()
    for name, node in facts.nodes.items():
        wanted, may_stay = fits(facts.owner, node)
        there = facts.pods.get(name, [])
        if wanted and not there:
            made.create.append(name)
        elif may_stay:
            _tidy(facts, name, there, made, wanted=wanted)
        else:
            made.delete += [pod for pod in there if not is_deleting(pod)]
    # Nobody else deletes pods that wait for a node that is gone.
    for name, there in facts.pods.items():
        if name not in facts.nodes:
            made.delete += [
                pod for pod in there if not pod["spec"].get("nodeName") and not is_deleting(pod)
            ]
    return made


def _tidy(facts: Facts, name: str, there: list[Object], made: Plan, *, wanted: bool) -> None:
    """Look after the pods of a node that may have one."""
    running = []
    for pod in there:
        if is_deleting(pod):
            continue
        phase = phase_of(pod)
        if phase == "Failed":
            made.failed.append((name, pod))
        elif phase == "Succeeded":
            made.succeeded.append((name, pod))
        else:
            running.append(pod)
    running = oldest_first(running)
    if not surges(facts.owner):
        made.delete += running[1:]
    elif len(running) > 1:
        made.delete += _beyond_two(facts, running)
    elif not running and wanted:
        made.create.append(name)


def _beyond_two(facts: Facts, running: list[Object]) -> list[Object]:
    """Keep an old pod that is ready beside a new one that is not yet, and no others."""
    new: Object | None = None
    old: Object | None = None
    doomed = []
    for pod in running:
        digest = (pod["metadata"].get("labels") or {}).get(REVISION_LABEL)
        if digest == facts.digest and new is None:
            new = pod
        elif digest != facts.digest and old is None:
            old = pod
        else:
            doomed.append(pod)
    if new is not None and old is not None and (not is_ready(old) or facts.available(new)):
        doomed.append(old)
    return doomed


def update(facts: Facts) -> Plan:
    """Return the next step of a rolling update."""
    strategy = facts.owner["spec"].get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return Plan()
    desired = [name for name, node in facts.nodes.items() if fits(facts.owner, node)[0]]
    unavailable = scaled((strategy.get("rollingUpdate") or {}).get("maxUnavailable"),
                         len(desired), up=True)  # fmt: skip
    surge = _surge(facts.owner, len(desired))
    if desired and not unavailable and not surge:
        unavailable = 1
    names = [*facts.pods, *(name for name in desired if name not in facts.pods)]
    if surge:
        return _surging(facts, names, surge, len(desired))
    return Plan(delete=_replacing(facts, names, unavailable))


def _surge(owner: Object, total: int) -> int:
    strategy = owner["spec"].get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return 0
    return scaled((strategy.get("rollingUpdate") or {}).get("maxSurge"), total, up=True)


@dataclass(frozen=True, slots=True)
class _Pair:
    """The pods of a node that stay: one of the wanted revision and one of another."""

    new: Object | None
    old: Object | None


def _pair(facts: Facts, pods: Sequence[Object]) -> _Pair | None:
    """Return the pods of a node; None: there are too many of a kind, which `manage` ends."""
    staying = [pod for pod in pods if not is_deleting(pod)]
    new = [pod for pod in staying if facts.is_new(pod)]
    old = [pod for pod in staying if not facts.is_new(pod)]
    if len(new) > 1 or len(old) > 1:
        return None
    return _Pair(new[0] if new else None, old[0] if old else None)


def _replacing(facts: Facts, names: list[str], most: int) -> list[Object]:
    """Return old pods to be deleted so that no more than ``most`` nodes lack an available pod."""
    lacking = 0
    free: list[Object] = []
    candidates: list[Object] = []
    for name in names:
        pair = _pair(facts, facts.pods.get(name, ()))
        if pair is None or (pair.new is None) == (pair.old is None):
            lacking += 1
        elif pair.new is not None:
            lacking += not facts.available(pair.new)
        elif pair.old is not None and not facts.available(pair.old):
            free.append(pair.old)
            lacking += 1
        elif pair.old is not None:
            candidates.append(pair.old)
    return free + candidates[: max(most - lacking, 0)]


def _surging(facts: Facts, names: list[str], most: int, desired: int) -> Plan:
    """Return new pods beside old ones, ``most`` at a time, and old ones that are not needed."""
    made = Plan()
    surged, available = 0, 0
    free: list[str] = []
    candidates: list[str] = []
    misplaced: list[Object] = []
    for name in names:
        pair = _pair(facts, facts.pods.get(name, ()))
        if pair is None:
            surged += 1
            continue
        standing = pair.old or pair.new
        good = standing is not None and facts.available(standing)
        available += good
        if pair.old is None:
            continue
        if pair.new is not None:
            if facts.available(pair.new):
                made.delete.append(pair.old)
            else:
                surged += 1
            continue
        node = facts.nodes.get(name)
        wanted = node is not None and fits(facts.owner, node)[0]
        if not wanted:
            (misplaced if good else made.delete).append(pair.old)
        else:
            (candidates if good else free).append(name)
    # While a pod elsewhere is not available, one where none should be does its work.
    made.delete += misplaced[: max(available - desired, 0)]
    made.create = free + candidates[: max(most - surged, 0)]
    return made
