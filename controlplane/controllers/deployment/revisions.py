"""Annotations of a Deployment's ReplicaSets: which revision each is (pure).

Source: Kubernetes documentation, "Deployments": rolling back, clean up policy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from controlplane.engine.resources import Object, is_deleting

REVISION: Final = "deployment.kubernetes.io/revision"
HISTORY: Final = "deployment.kubernetes.io/revision-history"
DESIRED: Final = "deployment.kubernetes.io/desired-replicas"
"""Size of the Deployment when the ReplicaSet was sized; with another one now it was scaled."""
MOST: Final = "deployment.kubernetes.io/max-replicas"
ROLLBACK: Final = "deprecated.deployment.rollback.to"
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_OWN: Final = frozenset((_LAST_APPLIED, REVISION, HISTORY, DESIRED, MOST, ROLLBACK))
"""Annotations that are not copied from Deployment to ReplicaSet or back."""
_LONGEST_HISTORY: Final = 2000
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_UNLIMITED: Final = 2**31 - 1


def annotations_of(value: Object) -> dict[str, str]:
    """Return the annotations of an object."""
    found: dict[str, str] = value["metadata"].get("annotations") or {}
    return found


def number_of(value: Object, name: str) -> int | None:
    """Return the number that an annotation says; None: it is not there, or no such number."""
    text = annotations_of(value).get(name, "")
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 10 else None
    return number if number is not None and number < 2**31 else None


def revision_of(value: Object) -> int | None:
    """Return the revision of a ReplicaSet; 0: it has none, None: it is not valid."""
    text = annotations_of(value).get(REVISION)
    if text is None:
        return 0
    return int(text) if _INTEGER.fullmatch(text) else None


def latest(sets: Iterable[Object]) -> int:
    """Return the highest revision; 0: there is none."""
    return max((revision_of(one) or 0 for one in sets), default=0)


def last_but_one(sets: Iterable[Object]) -> int:
    """Return the revision before the highest; 0: there is none."""
    found = sorted(revision for one in sets if (revision := revision_of(one)) is not None)
    return max(found[-2], 0) if len(found) > 1 else 0


def copied(deployment: Object, before: Mapping[str, str]) -> dict[str, str]:
    """Return a ReplicaSet's annotations with those of its Deployment."""
    mine = annotations_of(deployment).items()
    return {**before, **{name: text for name, text in mine if name not in _OWN}}


def annotations_after_rollback(deployment: Object, old: Object) -> dict[str, str]:
    """Return a Deployment's annotations once it is rolled back to ``old``."""
    own = annotations_of(deployment).items()
    back = annotations_of(old).items()
    return {name: text for name, text in own if name in _OWN and name != ROLLBACK} | {
        name: text for name, text in back if name not in _OWN
    }


def annotations_of_new(
    deployment: Object, before: Mapping[str, str], revision: int
) -> dict[str, str]:
    """Return the annotations of the ReplicaSet of the template that is declared now.

    Args:
        deployment: that owns it.
        before: its annotations now.
        revision: that it has at least: one more than those of all others.
    """
    text = before.get(REVISION, "")
    if text and not _INTEGER.fullmatch(text):
        return dict(before)
    made = copied(deployment, before)
    if int(text or 0) < revision:
        made[REVISION] = str(revision)
        if text:
            # It was declared before, and is again.
            made[HISTORY] = _history(before.get(HISTORY, ""), text)
    return made


def _history(before: str, revision: str) -> str:
    found = [*before.split(","), revision] if before else [revision]
    while len(found) > 1 and len(",".join(found)) > _LONGEST_HISTORY:
        del found[0]
    return ",".join(found)


def sizes(wanted: int, most: int) -> dict[str, str]:
    """Return the annotations that say for which size of the Deployment a ReplicaSet was sized."""
    return {DESIRED: str(wanted), MOST: str(most)}


def to_forget(deployment: Object, old: Iterable[Object]) -> list[Object]:
    """Return old ReplicaSets beyond ``revisionHistoryLimit`` that have no pods, oldest first."""
    limit = deployment["spec"].get("revisionHistoryLimit")
    if limit is None or limit == _UNLIMITED:
        return []
    there = [one for one in old if not is_deleting(one)]
    there.sort(key=lambda one: (
        revision_of(one) or 0, one["metadata"].get("creationTimestamp") or "",
        one["metadata"]["name"],
    ))  # fmt: skip
    return [one for one in there[: max(len(there) - limit, 0)] if _is_idle(one)]


def _is_idle(one: Object) -> bool:
    """Whether it has no pods and shall have none, and its controller knows that."""
    status = one.get("status") or {}
    seen = status.get("observedGeneration", 0) >= one["metadata"].get("generation", 0)
    return seen and not status.get("replicas") and not one["spec"].get("replicas", 1)
