"""How many pods each ReplicaSet of a Deployment shall have (pure).

Source: Kubernetes documentation, "Deployments": rolling update, proportional scaling, rollover.
ReplicaSets are as the server has them; those in lists are never None.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from controlplane.controllers.amounts import scaled
from controlplane.controllers.deployment.revisions import DESIRED, MOST, number_of
from controlplane.controllers.podtemplates import same_template
from controlplane.engine.resources import Object

ROLLING: Final = "RollingUpdate"


@dataclass(frozen=True, slots=True)
class Scaling:
    """One step: a ReplicaSet gets another size."""

    target: Object
    size: int


def replicas_of(value: Object) -> int:
    """Return how many pods are declared."""
    count: int = value["spec"].get("replicas", 1)
    return count


def told(sets: Iterable[Object], name: str) -> int:
    """Return the sum of a count in the status of ReplicaSets."""
    return sum((one.get("status") or {}).get(name, 0) for one in sets)


def declared(sets: Iterable[Object]) -> int:
    """Return how many pods ReplicaSets shall have, together."""
    return sum(map(replicas_of, sets))


def by_age(sets: Iterable[Object]) -> list[Object]:
    """Return ReplicaSets from the oldest to the newest; of the same second by name."""
    return sorted(sets, key=_age)


def _age(one: Object) -> tuple[str, str]:
    # Time stamps of the API sort as text.
    return one["metadata"].get("creationTimestamp") or "", one["metadata"]["name"]


def is_rolling(deployment: Object) -> bool:
    """Whether pods are replaced little by little."""
    return bool((deployment["spec"].get("strategy") or {}).get("type", ROLLING) == ROLLING)


def bounds_of(deployment: Object) -> tuple[int, int]:
    """Return how many pods may be there beyond those declared, and how many may be missing."""
    if not is_rolling(deployment):
        return 0, 0
    wanted = replicas_of(deployment)
    given = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    surge = scaled(given.get("maxSurge"), wanted, up=True)
    unavailable = scaled(given.get("maxUnavailable"), wanted, up=False)
    if surge == 0 and unavailable == 0:
        # Both can be rounded to nothing; something has to move.
        unavailable = 1
    return surge, min(unavailable, wanted)


def highest_of(deployment: Object) -> int:
    """Return how many pods may be there at any time, surge included."""
    return replicas_of(deployment) + bounds_of(deployment)[0]


def split(deployment: Object, sets: Iterable[Object]) -> tuple[Object | None, list[Object]]:
    """Return the ReplicaSet of the template that is declared now, and the others, oldest first."""
    ordered, template = by_age(sets), deployment["spec"]["template"]
    # Of two with the same template, as an upgrade of a cluster may leave them, the older counts.
    new = next((one for one in ordered if same_template(one["spec"]["template"], template)), None)
    return new, [one for one in ordered if one is not new]


def size_of_new(deployment: Object, sets: Iterable[Object], new: int) -> int:
    """Return the size that the new ReplicaSet may have now.

    Args:
        deployment: that owns it.
        sets: all of its ReplicaSets, the new one included if it is there.
        new: its size now; 0 if it is not there yet.
    """
    wanted = replicas_of(deployment)
    if not is_rolling(deployment):
        return wanted
    room = highest_of(deployment) - declared(sets)
    return new + min(room, wanted - new) if room > 0 else new


def scale_down_of_old(deployment: Object, old: Iterable[Object], new: Object) -> list[Scaling]:
    """Return the steps by which old ReplicaSets of a rolling update may become smaller now.

    First go pods that are not available, since nobody misses them; then as many as there are
    available beyond the lowest number. New pods that are not available yet count as if they were
    missing, so that a template that does not work leaves the old pods alone.
    """
    active = [one for one in by_age(old) if replicas_of(one)]
    if any(told([one], "availableReplicas") > replicas_of(one) for one in active):
        # Its controller has not yet done what was last decided: nobody knows what is left.
        return []
    lowest = replicas_of(deployment) - bounds_of(deployment)[1]
    missing = replicas_of(new) - told([new], "availableReplicas")
    room = declared([*active, new]) - lowest - missing
    if room <= 0:
        return []
    steps: list[Scaling] = []
    sizes: list[int] = []
    for one in active:
        size = replicas_of(one)
        gone = min(room, size - told([one], "availableReplicas"))
        room -= gone
        sizes.append(size - gone)
        if gone:
            steps.append(Scaling(one, size - gone))
    excess = told([*active, new], "availableReplicas") - lowest
    for one, size in zip(active, sizes, strict=True):
        gone = min(size, excess)
        if gone > 0:
            excess -= gone
            steps.append(Scaling(one, size - gone))
    return steps


def active_or_latest(new: Object | None, old: list[Object]) -> Object | None:
    """Return the only ReplicaSet with pods, or the newest if none has; None: there are several."""
    everything = [*old, *([new] if new is not None else [])]
    active = [one for one in everything if replicas_of(one)]
    if len(active) == 1:
        return active[0]
    if active or not everything:
        return None
    return new if new is not None else by_age(old)[-1]


def is_saturated(deployment: Object, new: Object | None) -> bool:
    """Whether the new ReplicaSet has all pods of the Deployment, available."""
    if new is None:
        return False
    wanted = replicas_of(deployment)
    return (
        replicas_of(new) == wanted
        and number_of(new, DESIRED) == wanted
        and told([new], "availableReplicas") == wanted
    )


def is_scaled(deployment: Object, sets: Iterable[Object]) -> bool:
    """Whether the size of the Deployment was changed since its ReplicaSets were sized."""
    sizes = (number_of(one, DESIRED) for one in sets if replicas_of(one))
    return any(size is not None and size != replicas_of(deployment) for size in sizes)


def proportions(deployment: Object, sets: Iterable[Object]) -> list[Scaling]:
    """Return the sizes of ReplicaSets in the middle of a rollout whose Deployment was scaled.

    What is added or removed is spread over those with pods as they are sized now, so that a rollout
    that goes wrong does not go on faster because of it. Rounding falls to the largest.
    """
    active = [one for one in sets if replicas_of(one)]
    allowed = highest_of(deployment) if replicas_of(deployment) else 0
    change = allowed - declared(active)
    if change > 0:
        active.sort(key=_age, reverse=True)
    else:
        active.sort(key=_age)
    active.sort(key=replicas_of, reverse=True)
    sizes, changed = [], 0
    for one in active:
        share = _share(deployment, one, change - changed) if change != changed else 0
        sizes.append(replicas_of(one) + share)
        changed += share
    if sizes:
        sizes[0] = max(sizes[0] + change - changed, 0)
    return [Scaling(one, size) for one, size in zip(active, sizes, strict=True)]


def _share(deployment: Object, one: Object, rest: int) -> int:
    fraction = _fraction(deployment, one)
    return min(fraction, rest) if rest > 0 else max(fraction, rest)


def _fraction(deployment: Object, one: Object) -> int:
    size = replicas_of(one)
    if not replicas_of(deployment):
        return -size
    # Someone may have taken the annotation away: then what there is now is as good a guess.
    before = number_of(one, MOST) or told([deployment], "replicas")
    if not before:
        return 0
    return int(size * highest_of(deployment) / before + 0.5) - size
