"""apps/v1 Deployment (Kubernetes, pkg/apis/apps: defaults, validation; pkg/registry/apps)."""

from __future__ import annotations

from typing import Any

from controlplane.api.errors import Cause
from controlplane.api.metadata import forbidden, unsupported, wrong
from controlplane.api.resource import Column, Context, Object
from controlplane.kinds import cells
from controlplane.kinds.checks import (
    amount,
    check_immutable,
    check_int_or_percent,
    check_not_negative,
    check_share,
)
from controlplane.kinds.strategies.apps.counts import check_counts
from controlplane.kinds.strategies.base import WithStatus, warn_of_name
from controlplane.kinds.strategies.templates import (
    check_lasting_template,
    check_required_selector,
    check_selected,
    default_template,
    warn_of_template,
)


class Deployment(WithStatus):
    """Deployments; changes of their annotations count as generations, too."""

    columns = (
        Column("Ready", description="How many of the wanted pods are ready."),
        Column("Up-to-date", description="How many pods have the newest template."),
        Column("Available", description="How many pods have been ready for long enough."),
        *cells.CONTAINERS,
        cells.SELECTOR,
    )

    def default(self, value: Object) -> None:
        """Put in replicas, the strategy of rollouts, and the template's defaults."""
        super().default(value)
        spec = value["spec"]
        spec.setdefault("replicas", 1)
        spec.setdefault("revisionHistoryLimit", 10)
        spec.setdefault("progressDeadlineSeconds", 600)
        strategy = spec.setdefault("strategy", {})
        strategy["type"] = strategy.get("type") or "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", "25%")
            rolling.setdefault("maxSurge", "25%")
        default_template(spec)

    def prepare_status(self, value: Object, old: Object, context: Context) -> None:
        """Leave the labels alone."""
        meta, labels = value["metadata"], old["metadata"].get("labels")
        meta.pop("labels", None)
        if labels:
            meta["labels"] = labels

    def is_new_generation(self, value: Object, old: Object) -> bool:
        """Say whether the spec or the annotations have changed."""
        one, other = (item["metadata"].get("annotations", {}) for item in (value, old))
        return bool(one != other) or super().is_new_generation(value, old)

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with the spec."""
        spec = value["spec"]
        causes = check_not_negative(spec, "spec", "replicas")
        causes += check_required_selector(spec, "spec", "deployment")
        causes += check_selected(spec, "spec")
        causes += check_lasting_template(spec["template"], "spec.template", "ReplicaSet")
        causes += _check_strategy(spec["strategy"], "spec.strategy")
        causes += check_not_negative(
            spec, "spec", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"
        )
        deadline = spec["progressDeadlineSeconds"]
        if deadline <= spec.get("minReadySeconds", 0):
            text = "must be greater than minReadySeconds"
            causes.append(wrong("spec.progressDeadlineSeconds", deadline, text))
        if old is not None:
            before = old["spec"].get("selector")
            causes += check_immutable(spec.get("selector"), before, "spec.selector")
        return causes

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Return what is wrong with the counts."""
        return check_counts(
            value, old,
            numbers=("observedGeneration", "replicas", "updatedReplicas", "readyReplicas",
                     "availableReplicas", "unavailableReplicas", "terminatingReplicas",
                     "collisionCount"),
            bounded=("updatedReplicas", "readyReplicas", "availableReplicas"),
        )  # fmt: skip

    def warnings(self, value: Object) -> list[str]:
        """Return what a user should hear about the name and the template."""
        return warn_of_name(value) + warn_of_template(value["spec"]["template"], "spec.template")

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        spec, status = value["spec"], value.get("status", {})
        return [
            f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
            status.get("updatedReplicas", 0),
            status.get("availableReplicas", 0),
            *cells.containers(spec["template"].get("spec")),
            cells.selector(spec.get("selector")),
        ]


def _check_strategy(strategy: Object, path: str) -> list[Cause]:
    kind, rolling = strategy["type"], strategy.get("rollingUpdate", {})
    if kind == "Recreate":
        text = "may not be specified when strategy `type` is 'Recreate'"
        return [forbidden(f"{path}.rollingUpdate", text)] if "rollingUpdate" in strategy else []
    if kind != "RollingUpdate":
        return [unsupported(path, kind, ["Recreate", "RollingUpdate"])]
    here = f"{path}.rollingUpdate"
    unavailable, surge = rolling["maxUnavailable"], rolling["maxSurge"]
    causes = check_int_or_percent(unavailable, f"{here}.maxUnavailable")
    causes += check_int_or_percent(surge, f"{here}.maxSurge")
    if amount(unavailable) == 0 and amount(surge) == 0:
        text = "may not be 0 when `maxSurge` is 0"
        causes.append(wrong(f"{here}.maxUnavailable", unavailable, text))
    return causes + check_share(unavailable, f"{here}.maxUnavailable")
