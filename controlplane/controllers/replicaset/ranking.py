"""Which pods go first when there are too many (pure).

Source: kube-controller-manager, ``ActivePodsWithRanks``; KEP-2185 (times count by the logarithm of
their age, so that not always the youngest goes), KEP-2255 (deletion cost).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cmp_to_key
from math import log2
from typing import Final

from controlplane.controllers.pods import is_active, is_ready, phase_of, ready_since
from controlplane.engine.controller import moment_of
from controlplane.engine.resources import Object

COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_PHASES: Final = {"Pending": 0, "Unknown": 1, "Running": 2}
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,9}", re.ASCII)
_HIGHEST: Final = 2**31 - 1
_NANOSECONDS: Final = 1e9


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a pod is ranked by."""

    pod: Object
    first: tuple[bool, int, bool, int, int]
    ready: bool
    since: datetime | None
    restarts: tuple[int, int]
    created: datetime | None
    uid: str


def first_to_go(
    pods: list[Object], related: Iterable[Object], count: int, now: datetime
) -> list[Object]:
    """Return the pods to delete.

    Args:
        pods: of one owner, all active.
        related: of all owners of the same owner: where many of them share a node, one goes first.
        count: how many are to go.
        now: ages are counted until then.
    """
    if count >= len(pods):
        return pods
    nodes = Counter(pod["spec"].get("nodeName", "") for pod in related if is_active(pod))
    facts = [_facts(pod, nodes) for pod in pods]
    facts.sort(key=cmp_to_key(lambda one, other: _compare(one, other, now)))
    return [one.pod for one in facts[:count]]


def cost_of(pod: Object) -> int:
    """Return the cost of deleting a pod that its annotation says; 0 for none or an invalid one."""
    text = (pod["metadata"].get("annotations") or {}).get(COST, "0")
    number = int(text) if _INTEGER.fullmatch(text) else 0
    return number if -_HIGHEST - 1 <= number <= _HIGHEST else 0


def _facts(pod: Object, nodes: Counter[str]) -> _Facts:
    node = pod["spec"].get("nodeName", "")
    ready = is_ready(pod)
    created = pod["metadata"].get("creationTimestamp")
    return _Facts(
        pod,
        (bool(node), _PHASES.get(phase_of(pod), 0), ready, cost_of(pod), -nodes[node]),
        ready,
        ready_since(pod),
        _restarts(pod),
        moment_of(created) if created else None,
        pod["metadata"].get("uid", ""),
    )


def _restarts(pod: Object) -> tuple[int, int]:
    """Return the most restarts of a container, and of a sidecar; negative: many go first."""
    status = pod.get("status") or {}
    sidecars = {
        one["name"] for one in pod["spec"].get("initContainers") or ()
        if one.get("restartPolicy") == "Always"
    }  # fmt: skip
    regular = (one.get("restartCount", 0) for one in status.get("containerStatuses") or ())
    beside = (
        one.get("restartCount", 0) for one in status.get("initContainerStatuses") or ()
        if one["name"] in sidecars
    )  # fmt: skip
    return -max(regular, default=0), -max(beside, default=0)


def _compare(one: _Facts, other: _Facts, now: datetime) -> int:
    """Return a negative number if ``one`` goes before ``other``."""
    if one.first != other.first:
        return -1 if one.first < other.first else 1
    if one.ready and one.since != other.since:
        return _by_age(one.since, other.since, one, other, now)
    if one.restarts != other.restarts:
        return -1 if one.restarts < other.restarts else 1
    if one.created != other.created:
        return _by_age(one.created, other.created, one, other, now)
    return -1 if one.uid < other.uid else 1


def _by_age(
    this: datetime | None, that: datetime | None, one: _Facts, other: _Facts, now: datetime
) -> int:
    """Compare times: the younger goes first, by uid where their ages are alike."""
    if this is None or that is None:
        return -1 if this is None else 1
    difference = _magnitude(this, now) - _magnitude(that, now)
    if difference:
        return difference
    return -1 if one.uid < other.uid else 1


def _magnitude(moment: datetime, now: datetime) -> int:
    nanoseconds = (now - moment).total_seconds() * _NANOSECONDS
    return int(log2(nanoseconds)) if nanoseconds > 0 else -1
