"""apps/v1 DaemonSet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from controlplane.api.errors import Cause
from controlplane.api.metadata import required, unsupported, wrong
from controlplane.api.resource import Column, Context, Object
from controlplane.kinds import cells
from controlplane.kinds.checks import (
    amount,
    check_immutable,
    check_int_or_percent,
    check_not_negative,
    check_selector,
    check_share,
    is_empty_selector,
    matches,
)
from controlplane.kinds.strategies.apps.counts import check_counts
from controlplane.kinds.strategies.base import WithStatus
from controlplane.kinds.strategies.templates import (
    check_lasting_template,
    default_template,
    warn_of_template,
)

# Until apps/v1 the count of templates was a field; it is still there as an annotation.
_TEMPLATES = "deprecated.daemonset.template.generation"


class DaemonSet(WithStatus):
    """DaemonSets."""

    initial: ClassVar[Mapping[str, Any]] = {
        "currentNumberScheduled": 0,
        "numberMisscheduled": 0,
        "desiredNumberScheduled": 0,
        "numberReady": 0,
    }
    columns = (
        Column("Desired", "integer", description="How many nodes should have a pod."),
        Column("Current", "integer", description="How many nodes have one, and should."),
        Column("Ready", "integer", description="How many nodes have one that is ready."),
        Column("Up-to-date", "integer", description="How many nodes have the newest template."),
        Column(
            "Available", "integer", description="How many nodes have one ready for long enough."
        ),
        Column("Node Selector", description="Which nodes should have a pod."),
        *cells.CONTAINERS,
        cells.SELECTOR,
    )

    def default(self, value: Object) -> None:
        """Put in the strategy of rollouts and the template's defaults."""
        super().default(value)
        spec = value["spec"]
        strategy = spec.setdefault("updateStrategy", {})
        strategy["type"] = strategy.get("type") or "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", 1)
            rolling.setdefault("maxSurge", 0)
        spec.setdefault("revisionHistoryLimit", 10)
        default_template(spec)

    def prepare_create(self, value: Object, context: Context) -> None:
        """Begin to count templates."""
        super().prepare_create(value, context)
        _set_templates(value, max(_templates(value), 1))

    def prepare_update(self, value: Object, old: Object, context: Context) -> None:
        """Count templates."""
        changed = value["spec"]["template"] != old["spec"]["template"]
        _set_templates(value, _templates(old) + changed)

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with the spec."""
        spec = value["spec"]
        selector = spec.get("selector")
        causes = check_selector(selector, "spec.selector")
        labels = spec["template"]["metadata"].get("labels", {})
        if matches(selector, labels) is False:
            text = "`selector` does not match template `labels`"
            causes.append(wrong("spec.template.metadata.labels", labels, text))
        if selector is not None and is_empty_selector(selector):
            text = "empty selector is invalid for daemonset"
            causes.append(wrong("spec.selector", selector, text))
        causes += check_lasting_template(spec["template"], "spec.template", "DaemonSet")
        causes += check_not_negative(spec, "spec", "minReadySeconds")
        causes += _check_strategy(spec["updateStrategy"], "spec.updateStrategy")
        causes += check_not_negative(spec, "spec", "revisionHistoryLimit")
        if old is not None:
            causes += check_immutable(selector, old["spec"].get("selector"), "spec.selector")
        return causes

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Return what is wrong with the counts."""
        numbers = (*self.initial, "observedGeneration", "updatedNumberScheduled",
                   "numberAvailable", "numberUnavailable", "collisionCount")  # fmt: skip
        return check_counts(value, old, numbers=numbers)

    def warnings(self, value: Object) -> list[str]:
        """Return what a user should hear about the template."""
        return warn_of_template(value["spec"]["template"], "spec.template")

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        spec, status = value["spec"], value.get("status", {})
        pod = spec["template"].get("spec", {})
        counts = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady",
                  "updatedNumberScheduled", "numberAvailable")  # fmt: skip
        return [
            *(status.get(key, 0) for key in counts),
            cells.labels(pod.get("nodeSelector")),
            *cells.containers(pod),
            cells.selector(spec.get("selector")) or cells.NONE,
        ]


def _templates(value: Object) -> int:
    text = value["metadata"].get("annotations", {}).get(_TEMPLATES, "")
    return int(text) if text.isdecimal() and len(text) < 19 else 0


def _set_templates(value: Object, number: int) -> None:
    value["metadata"].setdefault("annotations", {})[_TEMPLATES] = str(number)


def _check_strategy(strategy: Object, path: str) -> list[Cause]:
    if strategy["type"] == "OnDelete":
        return []
    if strategy["type"] != "RollingUpdate":
        return [unsupported(path, strategy["type"], ["OnDelete", "RollingUpdate"])]
    path = f"{path}.rollingUpdate"
    unavailable = strategy["rollingUpdate"]["maxUnavailable"]
    surge = strategy["rollingUpdate"]["maxSurge"]
    causes = check_int_or_percent(unavailable, f"{path}.maxUnavailable")
    causes += check_int_or_percent(surge, f"{path}.maxSurge")
    causes += check_share(unavailable, f"{path}.maxUnavailable")
    causes += check_share(surge, f"{path}.maxSurge")
    if amount(unavailable) and amount(surge):
        text = "may not be set when maxUnavailable is non-zero"
        causes.append(wrong(f"{path}.maxSurge", surge, text))
    elif not amount(unavailable) and not amount(surge):
        causes.append(required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return causes
