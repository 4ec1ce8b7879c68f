"""Which events may make a pod fit that a plugin spoke against (pure).

Each table is of one plugin. A wrong "no" would leave a pod waiting until all are tried again
after minutes, a wrong "yes" costs one attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from controlplane.engine.resources import Object

from . import events
from .events import (
    ADD,
    ALLOCATABLE,
    ATTACHMENT,
    CAPACITY,
    CLAIM,
    CLASS,
    CSI_DRIVER,
    CSI_NODE,
    DELETE,
    LABEL,
    NODE,
    POD,
    SCALE_DOWN,
    TAINT,
    TOLERATION,
    UNGATED,
    UPDATE,
    VOLUME,
    WAITING,
    Hints,
)  # fmt: skip
from .nodes import NO_SCHEDULE, NodeInfo, conflicts, taints_of
from .pods import PodInfo, claims_of
from .terms import Term, untolerated


def _itself(waiting: PodInfo, before: PodInfo, after: PodInfo) -> bool:
    return waiting.uid == after.uid


def _uncordoned(waiting: PodInfo, before: Object | None, after: Object) -> bool:
    was = before is None or (before.get("spec") or {}).get("unschedulable")
    return bool(was) and not (after.get("spec") or {}).get("unschedulable")


def _tolerated(waiting: PodInfo, before: Object | None, after: Object) -> bool:
    def repels(node: Object) -> bool:
        return untolerated(taints_of(node), waiting.tolerations, NO_SCHEDULE) is not None

    return (before is None or repels(before)) and not repels(after)


def _matching(waiting: PodInfo, before: Object | None, after: Object) -> bool:
    match = waiting.match

    def fits(node: Object) -> bool:
        meta = node["metadata"]
        return match is None or match(meta["name"], meta.get("labels") or {})

    return fits(after) and (before is None or not fits(before) or match is None)


def _port_free(waiting: PodInfo, before: PodInfo, after: None) -> bool:
    return bool(before.node) and any(
        conflicts(one, other) for one in waiting.ports for other in before.ports
    )


def _room(waiting: PodInfo, before: PodInfo, after: PodInfo | None) -> bool:
    if after is None:
        return bool(before.node or before.nominated)
    if waiting.uid == after.uid:
        return True
    if not after.node:
        return False
    wants, old, new = waiting.requests, before.requests, after.requests
    return bool(
        (wants.cpu and new.cpu < old.cpu)
        or (wants.memory and new.memory < old.memory)
        or (wants.storage and new.storage < old.storage)
        or any(new.others.get(name, 0) < old.others.get(name, 0) for name in wants.others)
    )


def _grown(waiting: PodInfo, before: Object | None, after: Object) -> bool:
    wants, new = waiting.requests, NodeInfo("")
    new.set(after)
    if (
        new.has_pods < 1
        or wants.cpu > new.has_cpu
        or wants.memory > new.has_memory
        or wants.storage > new.has_storage
        or any(value > new.has_others.get(name, 0) for name, value in wants.others.items())
    ):
        return False
    if before is None:
        return True
    old = NodeInfo("")
    old.set(before)
    return bool(
        new.has_pods > old.has_pods
        or (wants.cpu and new.has_cpu > old.has_cpu)
        or (wants.memory and new.has_memory > old.has_memory)
        or (wants.storage and new.has_storage > old.has_storage)
        or any(new.has_others.get(name, 0) > old.has_others.get(name, 0) for name in wants.others)
    )


def spread_constraints(pod: PodInfo) -> list[dict[str, Any]]:
    """Return the spread constraints that a pod requires."""
    return [
        one for one in pod.spec.get("topologySpreadConstraints") or ()
        if one.get("whenUnsatisfiable") == "DoNotSchedule"
    ]  # fmt: skip


def _spread_pod(waiting: PodInfo, before: PodInfo | None, after: PodInfo | None) -> bool:
    changed = after or before
    assert changed is not None
    if changed.uid == waiting.uid:
        return True
    if not (changed.node or changed.nominated):
        return False
    # What they select is looked at by the attempt.
    return changed.namespace == waiting.namespace and (
        before is None or after is None or before.labels != after.labels
    )


def _spread_node(waiting: PodInfo, before: Object | None, after: Object | None) -> bool:
    keys = [one.get("topologyKey", "") for one in spread_constraints(waiting)]

    def has(node: Object | None) -> bool:
        labels = (node or {"metadata": {}})["metadata"].get("labels") or {}
        return node is not None and all(key in labels for key in keys)

    if before is None or after is None:
        return has(before) or has(after)
    if has(before) != has(after):
        return True
    old, new = before["metadata"].get("labels") or {}, after["metadata"].get("labels") or {}
    return has(after) and (
        any(old.get(key) != new.get(key) for key in keys)
        or (before.get("spec") or {}).get("taints") != (after.get("spec") or {}).get("taints")
    )


def _all_match(terms: Sequence[Term], pod: PodInfo) -> bool:
    # The namespace's labels are not looked at: with a selector of namespaces it may count.
    return bool(terms) and all(
        (term.over is not None or pod.namespace in term.namespaces)
        and term.selector is not None
        and term.selector.matches(pod.labels)
        for term in terms
    )


def _any_matches(terms: Sequence[Term], pod: PodInfo) -> bool:
    return any(_all_match((term,), pod) for term in terms)


def _near_pod(waiting: PodInfo, before: PodInfo | None, after: PodInfo | None) -> bool:
    if before is not None and after is not None and waiting.uid == after.uid:
        return True
    changed = after or before
    assert changed is not None
    if not (changed.node or changed.nominated):
        return False
    near, far = waiting.terms.affinity, waiting.terms.anti
    if before is not None and after is not None:
        came = not _all_match(near, before) and _all_match(near, after)
        return came or (_any_matches(far, before) and not _any_matches(far, after))
    if after is not None:
        return _all_match(near, after)
    assert before is not None
    return _any_matches(far, before) or _any_matches(before.terms.anti, waiting)


def _near_node(waiting: PodInfo, before: Object | None, after: Object) -> bool:
    old = (before or after)["metadata"].get("labels") or {}
    new = after["metadata"].get("labels") or {}
    near = {term.topology for term in waiting.terms.affinity}
    far = {term.topology for term in waiting.terms.anti}
    if before is None:
        return bool(far) or not near or any(key in new for key in near)
    # Pods with anti-affinity of their own may have kept it away.
    return any(old.get(key) != new.get(key) for key in old.keys() | new.keys()) and (
        not near or any(key in new and old.get(key) != new[key] for key in near)
        or any(key in old and old[key] != new.get(key) for key in far)
    )  # fmt: skip


def names_of_claims(pod: PodInfo) -> set[str]:
    """Return the names of the claims that a pod uses."""
    return {name for name, _ in claims_of(pod.pod)}


def _own_claim(waiting: PodInfo, before: Object | None, after: Object) -> bool:
    meta = after["metadata"]
    return meta["namespace"] == waiting.namespace and meta["name"] in names_of_claims(waiting)


def _same_claim(waiting: PodInfo, before: PodInfo, after: None) -> bool:
    if before.namespace != waiting.namespace:
        return False
    old = {
        str(one) for one in before.spec.get("volumes") or () if "persistentVolumeClaim" not in one
    }
    new = {str(one) for one in waiting.spec.get("volumes") or ()}
    return bool(names_of_claims(before) & names_of_claims(waiting)) or bool(old and new)


def _has_claims(waiting: PodInfo, before: PodInfo, after: None) -> bool:
    return bool(before.node) and bool(names_of_claims(before))


def _class_changed(waiting: PodInfo, before: Object | None, after: Object) -> bool:
    return before is None or before.get("allowedTopologies") != after.get("allowedTopologies")


def _more_capacity(waiting: PodInfo, before: Object | None, after: Object) -> bool:
    keys = ("capacity", "maximumVolumeSize", "nodeTopology")
    return before is None or any(before.get(key) != after.get(key) for key in keys)


_ITSELF: Final = (WAITING, TOLERATION, _itself)

NODE_UNSCHEDULABLE: Final[Hints] = ((NODE, ADD | TAINT, _uncordoned), _ITSELF)
NODE_NAME: Final[Hints] = ((NODE, ADD, None),)
TAINT_TOLERATION: Final[Hints] = ((NODE, ADD | TAINT, _tolerated), _ITSELF)
NODE_AFFINITY: Final[Hints] = ((NODE, ADD | LABEL, _matching),)
NODE_PORTS: Final[Hints] = ((POD, DELETE, _port_free), (NODE, ADD, None))
NODE_RESOURCES_FIT: Final[Hints] = (
    (POD, DELETE | SCALE_DOWN, _room), (WAITING, SCALE_DOWN, _room),
    (NODE, ADD | ALLOCATABLE, _grown),
)  # fmt: skip
POD_TOPOLOGY_SPREAD: Final[Hints] = (
    (POD, ADD | LABEL | DELETE, _spread_pod), (WAITING, LABEL | TOLERATION, _itself),
    (NODE, ADD | DELETE | LABEL | TAINT, _spread_node),
)  # fmt: skip
INTER_POD_AFFINITY: Final[Hints] = (
    (POD, ADD | LABEL | DELETE, _near_pod), (WAITING, LABEL, _itself),
    (NODE, ADD | LABEL, _near_node),
)  # fmt: skip
SCHEDULING_GATES: Final[Hints] = ((WAITING, UNGATED, _itself),)
VOLUME_RESTRICTIONS: Final[Hints] = (
    (POD, DELETE, _same_claim), (NODE, ADD, None), (CLAIM, ADD, _own_claim),
)  # fmt: skip
NODE_VOLUME_LIMITS: Final[Hints] = (
    (POD, DELETE, _has_claims), (NODE, ADD, None), (CSI_NODE, ADD | UPDATE, None),
    (CLAIM, ADD, _own_claim), (ATTACHMENT, DELETE, None),
)  # fmt: skip
VOLUME_BINDING: Final[Hints] = (
    (CLASS, ADD | UPDATE, _class_changed), (CLAIM, ADD | UPDATE, _own_claim),
    (VOLUME, ADD | UPDATE, None), (NODE, ADD | LABEL, None), (CSI_NODE, ADD | UPDATE, None),
    (CSI_DRIVER, UPDATE, None), (CAPACITY, ADD | UPDATE, _more_capacity),
)  # fmt: skip
VOLUME_ZONE: Final[Hints] = (
    (CLASS, ADD, None), (NODE, ADD | LABEL, None), (CLAIM, ADD | UPDATE, _own_claim),
    (VOLUME, ADD | UPDATE, None),
)  # fmt: skip


def may_be_worth(tables: Sequence[Hints], resource: str, action: int) -> bool:
    """Say whether an event may matter to any pod that the plugins of tables spoke against."""
    if not tables or resource == events.ANYTHING:
        return True
    return any(
        kind == resource and actions & action for table in tables for kind, actions, _ in table
    )


def is_worth(
    waiting: PodInfo, tables: Sequence[Hints], resource: str, action: int, before: Any, after: Any
) -> bool:
    """Say whether an event makes a pod worth another attempt.

    Args:
        tables: of the plugins that spoke against it; none: any event is worth it.
    """
    if not tables or resource == events.ANYTHING:
        return True
    return any(
        kind == resource and actions & action and (hint is None or hint(waiting, before, after))
        for table in tables
        for kind, actions, hint in table
    )
