"""policy/v1 PodDisruptionBudget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import wrong
from controlplane.api.resource import Column, Object, Strategy
from controlplane.kinds.checks import (
    check_conditions,
    check_int_or_percent,
    check_not_negative,
    check_one_of,
    check_selector,
    check_share,
)
from controlplane.kinds.strategies.base import WithStatus

_EVICTIONS: Final = ("AlwaysAllow", "IfHealthyBudget")
_COUNTS: Final = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")


class PodDisruptionBudget(WithStatus):
    """Budgets of disruptions."""

    unconditional = False
    initial: ClassVar[Mapping[str, Any]] = dict.fromkeys(_COUNTS, 0)
    columns = (
        Column("Min Available", description="How many pods must stay."),
        Column("Max Unavailable", description="How many pods may be away."),
        Column("Allowed Disruptions", "integer", description="How many pods may go now."),
    )

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with bounds and selector."""
        spec = value["spec"]
        causes: list[Cause] = []
        if "minAvailable" in spec and "maxUnavailable" in spec:
            text = "minAvailable and maxUnavailable cannot be both set"
            causes.append(wrong("spec", spec, text))
        for key in ("minAvailable", "maxUnavailable"):
            if key in spec:
                causes += check_int_or_percent(spec[key], f"spec.{key}")
                causes += check_share(spec[key], f"spec.{key}")
        causes += check_selector(spec.get("selector"), "spec.selector")
        eviction = spec.get("unhealthyPodEvictionPolicy")
        if eviction is not None:
            causes += check_one_of(eviction, "spec.unhealthyPodEvictionPolicy", _EVICTIONS)
        return causes

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Return what is wrong with conditions and counts."""
        status = value.get("status", {})
        causes = check_conditions(status.get("conditions", []), "status.conditions")
        return causes + check_not_negative(status, "status", *_COUNTS)

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        spec, status = value["spec"], value.get("status", {})
        return [
            str(spec.get("minAvailable", "N/A")),
            str(spec.get("maxUnavailable", "N/A")),
            status.get("disruptionsAllowed", 0),
        ]


POLICY: Final[Mapping[str, Strategy]] = {
    "policy/poddisruptionbudgets": PodDisruptionBudget(),
}
