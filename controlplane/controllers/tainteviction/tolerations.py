"""For how long a pod may stay on a node (pure).

Source: Kubernetes documentation, "Taints and Tolerations", "Taint based Evictions".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

FOREVER: Final = float("inf")


def tolerates(toleration: dict[str, Any], taint: dict[str, Any]) -> bool:
    """Whether a toleration is for a taint."""
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("key") not in (None, "", taint["key"]):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    same = (toleration.get("value") or "") == (taint.get("value") or "")
    return operator == "Equal" and same


def patience(
    taints: Iterable[dict[str, Any]], tolerations: list[dict[str, Any]]
) -> float:  # fmt: skip
    """Return the seconds that a pod tolerates taints for; 0: it does not; `FOREVER`."""
    shortest = FOREVER
    for taint in taints:
        fitting = next((one for one in tolerations if tolerates(one, taint)), None)
        if fitting is None:
            return 0.0
        seconds = fitting.get("tolerationSeconds")
        if seconds is not None:
            shortest = min(shortest, max(float(seconds), 0.0))
    return shortest
