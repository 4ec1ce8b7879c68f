"""What the pods of an owner say of it (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from controlplane.controllers.pods import condition_of, is_available, is_ready
from controlplane.engine.controller import timestamp
from controlplane.engine.resources import Object

FAILURE: Final = "ReplicaFailure"


def status_of(
    owner: Object, active: list[Object], terminating: int | None, now: datetime,
    failure: Object | None,
) -> Object:  # fmt: skip
    """Return the status of an owner.

    Args:
        owner: as it is known.
        active: its pods that count.
        terminating: how many of its pods are being deleted; None: its kind does not tell.
        now: until then pods have been ready.
        failure: the condition `FAILURE` that it has now, None if it has none.
    """
    labels = ((owner["spec"].get("template") or {}).get("metadata") or {}).get("labels") or {}
    wanted, min_ready = labels.items(), owner["spec"].get("minReadySeconds", 0)
    ready = [pod for pod in active if is_ready(pod)]
    counts = {
        "fullyLabeledReplicas": sum(
            wanted <= (pod["metadata"].get("labels") or {}).items() for pod in active
        ),
        "readyReplicas": len(ready),
        "availableReplicas": sum(is_available(pod, min_ready, now) for pod in ready),
        "observedGeneration": owner["metadata"].get("generation", 0),
    }
    status: dict[str, Any] = {"replicas": len(active)}
    status |= {name: count for name, count in counts.items() if count}
    if terminating is not None:
        status["terminatingReplicas"] = terminating
    conditions = _with_failure((owner.get("status") or {}).get("conditions") or (), failure)
    if conditions:
        status["conditions"] = conditions
    return status


def failure_of(owner: Object, reason: str, message: str, now: datetime) -> Object:
    """Return the condition `FAILURE`; one that is there stays, whatever it says.

    Args:
        owner: as it is known.
        reason: ``FailedCreate`` or ``FailedDelete``.
        message: of the server.
        now: since then, if it is new.
    """
    return condition_of(owner, FAILURE) or {
        "type": FAILURE,
        "status": "True",
        "lastTransitionTime": timestamp(now),
        "reason": reason,
        "message": message,
    }


def _with_failure(conditions: Iterable[Object], failure: Object | None) -> list[Object]:
    others = [one for one in conditions if one["type"] != FAILURE]
    if failure is None:
        return others
    return list(conditions) if failure in conditions else [*others, failure]
