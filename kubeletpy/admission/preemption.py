"""Which pods have to go so that a critical one can run (pure).

As in the Go kubelet: best-effort pods before burstable before guaranteed ones, of each as few as
possible, and of those that free as much the ones that ask for less. Static pods are critical, and
so are pods with a priority of 2,000,000,000 or more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kubeletpy.api.pod import Pod
from kubeletpy.resources.qos import qos_class
from kubeletpy.sources.updates import from_api

from .predicates import requests

CRITICAL_PRIORITY = 2_000_000_000
Missing = Mapping[str, int]


class NotEnough(Exception):
    """All pods that may go together would not free enough."""


def is_critical(pod: Pod) -> bool:
    """Whether a pod may take the place of others."""
    if not from_api(pod):
        return True
    return pod.spec.priority is not None and pod.spec.priority >= CRITICAL_PRIORITY


def preemptable(pod: Pod, other: Pod) -> bool:
    """Whether ``other`` may have to go for ``pod``."""
    if is_critical(pod) and not is_critical(other):
        return True
    one, two = pod.spec.priority, other.spec.priority
    return one is not None and two is not None and one > two


def victims(pod: Pod, others: Iterable[Pod], missing: Missing) -> list[Pod]:
    """Return the pods to end so that what is ``missing`` becomes free.

    Raises:
        NotEnough: there are none that would do.
    """
    classes: dict[str, list[Pod]] = {"BestEffort": [], "Burstable": [], "Guaranteed": []}
    for other in others:
        if preemptable(pod, other):
            classes[qos_class(other)].append(other)
    best_effort, burstable, guaranteed = classes.values()
    if rest := _less(missing, (*best_effort, *burstable, *guaranteed)):
        raise NotEnough(f"no set of running pods found to reclaim resources: {_text(rest)}")
    from_guaranteed = _nearest(guaranteed, _less(missing, (*best_effort, *burstable)))
    from_burstable = _nearest(burstable, _less(missing, (*best_effort, *from_guaranteed)))
    from_best_effort = _nearest(best_effort, _less(missing, (*from_burstable, *from_guaranteed)))
    return [*from_best_effort, *from_burstable, *from_guaranteed]


def _asked(pod: Pod, resource: str) -> int:
    return 1 if resource == "pods" else requests(pod).get(resource, 0)


def _less(missing: Missing, pods: Iterable[Pod]) -> dict[str, int]:
    """Return what is still missing once ``pods`` are gone."""
    pods = list(pods)
    left = {
        name: amount - sum(_asked(pod, name) for pod in pods) for name, amount in missing.items()
    }
    return {name: amount for name, amount in left.items() if amount > 0}


def _nearest(pods: Sequence[Pod], missing: Missing) -> list[Pod]:
    candidates, chosen = list(pods), list[Pod]()
    while missing:
        if not candidates:
            raise NotEnough(f"no set of running pods found to reclaim resources: {_text(missing)}")
        nearest = min(
            candidates,
            key=lambda pod: (
                _distance(pod, missing), _asked(pod, "memory"), _asked(pod, "cpu")
            ),
        )  # fmt: skip
        candidates.remove(nearest)
        chosen.append(nearest)
        missing = _less(missing, [nearest])
    return chosen


def _distance(pod: Pod, missing: Missing) -> float:
    """Return how far a pod is from freeing all: each resource weighs the same."""
    return sum(
        (max(amount - _asked(pod, name), 0) / amount) ** 2 for name, amount in missing.items()
    )


def _text(missing: Missing) -> str:
    return "[" + "".join(f"(res: {name}, q: {one}), " for name, one in missing.items()) + "]"
