"""Quality-of-service class of a pod (pure).

Source: Kubernetes documentation, "Pod Quality of Service Classes"; KEP-2837 (pod level resources).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from controlplane.api.resource import Object
from controlplane.kinds.quantity import parse

_COUNTED: Final = frozenset({"cpu", "memory"})


def quality_class(spec: Object) -> str:
    """Return ``Guaranteed``, ``Burstable`` or ``BestEffort``."""
    whole = spec.get("resources")
    if whole is not None:
        holders = [spec]
    else:
        holders = [*spec.get("containers", ()), *spec.get("initContainers", ())]
    requests: dict[str, Decimal] = {}
    limits: dict[str, Decimal] = {}
    guaranteed = True
    for holder in holders:
        resources = holder.get("resources", {})
        _add(requests, resources.get("requests", {}))
        if whole is None or resources.get("limits"):
            guaranteed &= _add(limits, resources.get("limits", {})) == _COUNTED
    if not requests and not limits:
        return "BestEffort"
    return "Guaranteed" if guaranteed and requests == limits else "Burstable"


def _add(total: dict[str, Decimal], amounts: Object) -> set[str]:
    """Add amounts that are not nothing, and return which ones there are."""
    found = {name for name in _COUNTED & amounts.keys() if parse(amounts[name]) > 0}
    for name in found:
        total[name] = total.get(name, Decimal()) + parse(amounts[name])
    return found
