"""autoscaling/v2 HorizontalPodAutoscaler (Kubernetes, pkg/apis/autoscaling)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import required, unsupported, wrong
from controlplane.api.resource import Column, Object
from controlplane.kinds import cells
from controlplane.kinds.checks import check_not_negative
from controlplane.kinds.quantity import parse
from controlplane.kinds.strategies.autoscaling.metrics import check_metrics, show_metrics
from controlplane.kinds.strategies.autoscaling.references import check_reference
from controlplane.kinds.strategies.base import WithStatus

_PERCENT: Final = {"type": "Percent", "value": 100, "periodSeconds": 15}
_UP: Final[Object] = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, _PERCENT],
}
_DOWN: Final[Object] = {"selectPolicy": "Max", "policies": [_PERCENT]}
_SELECT: Final = ("Disabled", "Max", "Min")
_MAX_WINDOW: Final = 3600
_MAX_PERIOD: Final = 1800


class HorizontalPodAutoscaler(WithStatus):
    """Autoscalers, as kept: version 2."""

    generation = False
    initial: ClassVar[Mapping[str, Any]] = {"desiredReplicas": 0}
    columns = (
        Column("Reference", description="What is scaled."),
        Column("Targets", description="What is measured, and what is aimed at."),
        Column("MinPods", description="Fewest pods."),
        Column("MaxPods", description="Most pods."),
        Column("Replicas", description="How many pods there are."),
    )

    def default(self, value: Object) -> None:
        """Put in the fewest pods, the share of CPU, and how fast it scales."""
        super().default(value)
        spec = value["spec"]
        spec.setdefault("minReplicas", 1)
        spec.setdefault("scaleTargetRef", {})
        spec.setdefault("maxReplicas", 0)
        if not spec.get("metrics"):
            target = {"type": "Utilization", "averageUtilization": 80}
            spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
        behavior = spec.get("behavior")
        if behavior is not None:
            behavior["scaleUp"] = {**copy.deepcopy(_UP), **behavior.get("scaleUp", {})}
            behavior["scaleDown"] = {**copy.deepcopy(_DOWN), **behavior.get("scaleDown", {})}

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with the spec."""
        spec = value["spec"]
        fewest, most = spec["minReplicas"], spec["maxReplicas"]
        zero = old is not None and old["spec"].get("minReplicas") == 0
        causes: list[Cause] = []
        if fewest < (0 if zero else 1):
            text = f"must be greater than or equal to {0 if zero else 1}"
            causes.append(wrong("spec.minReplicas", fewest, text))
        if most == 0:
            causes.append(required("spec.maxReplicas", "must be set and greater than 0"))
        elif most < 0:
            text = "must be greater than or equal to 1"
            causes.append(wrong("spec.maxReplicas", most, text))
        if most < fewest:
            text = "must be greater than or equal to `minReplicas`"
            causes.append(wrong("spec.maxReplicas", most, text))
        causes += _check_target(spec["scaleTargetRef"], old)
        causes += check_metrics(spec["metrics"], "spec.metrics", fewest)
        for key in ("scaleUp", "scaleDown"):
            rules = spec.get("behavior", {}).get(key)
            if rules is not None:
                causes += _check_rules(rules, f"spec.behavior.{key}")
        return causes

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Return what is wrong with the counts."""
        status = value.get("status", {})
        return check_not_negative(status, "status", "currentReplicas", "desiredReplicas")

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        spec, status = value["spec"], value.get("status", {})
        target = spec["scaleTargetRef"]
        return [
            f"{target.get('kind', '')}/{target.get('name', '')}",
            show_metrics(spec.get("metrics", []), status.get("currentMetrics") or []),
            str(spec["minReplicas"]) if "minReplicas" in spec else cells.UNSET,
            spec["maxReplicas"],
            status.get("currentReplicas", 0),
        ]


def _check_target(target: Object, old: Object | None) -> list[Cause]:
    before = old["spec"]["scaleTargetRef"] if old is not None else {}
    grouped = target.get("kind") != "ReplicationController"
    causes = check_reference(target, "spec.scaleTargetRef", grouped=grouped)
    if old is not None and all(target.get(k) == before.get(k) for k in ("apiVersion", "kind")):
        causes = [cause for cause in causes if not cause.field.endswith("apiVersion")]
    return causes


def _check_rules(rules: Object, path: str) -> list[Cause]:
    window = rules.get("stabilizationWindowSeconds", 0)
    causes: list[Cause] = []
    if not 0 <= window <= _MAX_WINDOW:
        text = f"must be between 0 and {_MAX_WINDOW}"
        causes.append(wrong(f"{path}.stabilizationWindowSeconds", window, text))
    if rules["selectPolicy"] not in _SELECT:
        causes.append(unsupported(f"{path}.selectPolicy", rules["selectPolicy"], list(_SELECT)))
    if not rules["policies"]:
        causes.append(required(f"{path}.policies", "must specify at least one Policy"))
    for index, policy in enumerate(rules["policies"]):
        here = f"{path}.policies[{index}]"
        if policy.get("type") not in ("Percent", "Pods"):
            kind = policy.get("type", "")
            causes.append(unsupported(f"{here}.type", kind, ["Percent", "Pods"]))
        number, period = policy.get("value", 0), policy.get("periodSeconds", 0)
        if number <= 0:
            causes.append(wrong(f"{here}.value", number, "must be greater than zero"))
        if not 0 < period <= _MAX_PERIOD:
            text = f"must be between 1 and {_MAX_PERIOD}"
            causes.append(wrong(f"{here}.periodSeconds", period, text))
    tolerance = rules.get("tolerance")
    if tolerance is not None and parse(tolerance) < 0:
        text = "must be greater than or equal to 0"
        causes.append(wrong(f"{path}.tolerance", tolerance, text))
    return causes
