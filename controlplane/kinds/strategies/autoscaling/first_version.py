"""autoscaling/v1 HorizontalPodAutoscaler: the same objects, as clients of old see them.

Version 1 has one field for the share of CPU; whatever else version 2 can say is in annotations, as
JSON, so that a client that reads and writes version 1 loses nothing of it (Kubernetes,
pkg/apis/autoscaling: annotations and conversions).
"""

from __future__ import annotations

import copy
import json
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.resource import Object
from controlplane.kinds.strategies.autoscaling.autoscaler import HorizontalPodAutoscaler

_PREFIX: Final = "autoscaling.alpha.kubernetes.io/"
_METRICS: Final = f"{_PREFIX}metrics"
_CURRENT: Final = f"{_PREFIX}current-metrics"
_CONDITIONS: Final = f"{_PREFIX}conditions"
_BEHAVIOR: Final = f"{_PREFIX}behavior"
_SHARE: Final = "targetCPUUtilizationPercentage"
_FOUND_SHARE: Final = "currentCPUUtilizationPercentage"
_RULES: Final = ("stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance")
_SPEC: Final = ("scaleTargetRef", "minReplicas", "maxReplicas")
_STATUS: Final = ("observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas")
# Names of values in version 1 and 2, by the field of the metric; {} stands for "target" in a
# spec, "current" in a status.
_RESOURCE: Final = {"{}AverageUtilization": "averageUtilization",
                    "{}AverageValue": "averageValue"}  # fmt: skip
_VALUES: Final[dict[str, dict[str, str]]] = {
    "resource": _RESOURCE,
    "containerResource": _RESOURCE,
    "pods": {"{}AverageValue": "averageValue"},
    "object": {"{}Value": "value", "averageValue": "averageValue"},
    "external": {"{}Value": "value", "{}AverageValue": "averageValue"},
}
_TYPES: Final = {"averageUtilization": "Utilization", "averageValue": "AverageValue",
                 "value": "Value"}  # fmt: skip


class FirstVersion(HorizontalPodAutoscaler):
    """Autoscalers as version 1 serves them; they are kept as version 2."""

    converts = True

    def default(self, value: Object) -> None:
        """Put in what version 1 has of the defaults; the share of CPU comes with the keeping."""
        spec = value.setdefault("spec", {})
        spec.setdefault("minReplicas", 1)
        spec.setdefault("scaleTargetRef", {})
        spec.setdefault("maxReplicas", 0)
        status = value.setdefault("status", {})
        for key in ("currentReplicas", "desiredReplicas"):
            status.setdefault(key, 0)

    def prepare_create(self, value: Object, context: Any) -> None:
        """Drop the status that a client sends, also from the annotations."""
        value["status"] = {"currentReplicas": 0, "desiredReplicas": 0}
        for key in (_CURRENT, _CONDITIONS):
            value["metadata"].get("annotations", {}).pop(key, None)

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with the object that is kept."""
        before = None if old is None else self.to_stored(old)
        return super().validate(self.to_stored(value), before)

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        return super().row(self.to_stored(value))

    def to_stored(self, value: Object) -> Object:
        """Return version 2."""
        if value.get("apiVersion") == "autoscaling/v2":
            return value
        value = copy.deepcopy(value)
        told = value["metadata"].get("annotations", {})
        spec, status = value.get("spec", {}), value.get("status", {})
        metrics = [_newer(one, "target") for one in _taken(told, _METRICS, list)]
        metrics += [_cpu(spec[_SHARE])] if _SHARE in spec else []
        new = {key: spec[key] for key in _SPEC if key in spec}
        new |= {"metrics": metrics} if metrics else {}
        behavior = _uncapitalized(_taken(told, _BEHAVIOR, dict))
        new |= {"behavior": behavior} if behavior else {}
        found = {key: status[key] for key in _STATUS if status.get(key)}
        current = [_newer(one, "current") for one in _taken(told, _CURRENT, list)]
        if not current and _FOUND_SHARE in status:
            share = {"averageUtilization": status[_FOUND_SHARE]}
            current = [{"type": "Resource", "resource": {"name": "cpu", "current": share}}]
        found |= {"currentMetrics": current} if current else {}
        conditions = _taken(told, _CONDITIONS, list)
        found |= {"conditions": conditions} if conditions else {}
        if not told:
            value["metadata"].pop("annotations", None)
        kept = {**value, "apiVersion": "autoscaling/v2", "spec": new, "status": found}
        super().default(kept)
        return kept

    def to_served(self, value: Object) -> Object:
        """Return version 1."""
        if value.get("apiVersion") != "autoscaling/v2":
            return value
        value = copy.deepcopy(value)
        spec, status = value["spec"], value.get("status", {})
        old = {key: spec[key] for key in _SPEC if key in spec}
        found = {key: status[key] for key in _STATUS if key in status}
        found.setdefault("currentReplicas", 0)
        told: dict[str, Any] = {}
        for one in spec.get("metrics", []):
            share = _share(one, "target")
            if share is None or _SHARE in old:
                told.setdefault(_METRICS, []).append(_older(one, "target"))
            else:
                old[_SHARE] = share
        for one in status.get("currentMetrics", []):
            share = _share(one, "current")
            if share is not None:
                found[_FOUND_SHARE] = share
            told.setdefault(_CURRENT, []).append(_older(one, "current"))
        if status.get("conditions"):
            told[_CONDITIONS] = status["conditions"]
        if spec.get("behavior"):
            told[_BEHAVIOR] = {
                f"S{key[1:]}": _capitalized({**dict.fromkeys(_RULES), **rules})
                for key, rules in spec["behavior"].items()
            }
        if told:
            annotations = value["metadata"].setdefault("annotations", {})
            for key, item in told.items():
                annotations[key] = json.dumps(item, separators=(",", ":"))
        return {**value, "apiVersion": "autoscaling/v1", "spec": old, "status": found}


def _capitalized(value: Any) -> Any:
    """Return JSON as Go writes fields without names for it, in which this annotation is written."""
    if isinstance(value, dict):
        return {key[:1].upper() + key[1:]: _capitalized(item) for key, item in value.items()}
    return [_capitalized(item) for item in value] if isinstance(value, list) else value


def _uncapitalized(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key[:1].lower() + key[1:]: _uncapitalized(item)
            for key, item in value.items()
            if item is not None
        }
    return [_uncapitalized(item) for item in value] if isinstance(value, list) else value


def _cpu(share: int) -> Object:
    target = {"type": "Utilization", "averageUtilization": share}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def _share(metric: Object, key: str) -> int | None:
    source = metric.get("resource", {})
    if metric.get("type") != "Resource" or source.get("name") != "cpu":
        return None
    share: int | None = source.get(key, {}).get("averageUtilization")
    return share


def _taken(annotations: dict[str, str], key: str, kind: type[Any]) -> Any:
    """Take an annotation out and return what it says; nothing if it is no such JSON."""
    try:
        found = json.loads(annotations.pop(key, "null"))
    except ValueError:
        return kind()
    items = found if isinstance(found, list) else []
    good = isinstance(found, kind) and all(isinstance(one, dict) for one in items)
    return found if good else kind()


def _older(metric: Object, key: str) -> Object:
    """Return a metric, or what was found of it, as version 1 writes it."""
    result: Object = {"type": metric.get("type", "")}
    for field, names in _VALUES.items():
        if field not in metric:
            continue
        source, values = dict(metric[field]), metric[field].get(key, {})
        source.pop(key, None)
        named, described = source.pop("metric", {}), source.pop("describedObject", None)
        if described is not None:
            source["target"] = described
        if "name" in named:
            source["metricName"] = named["name"]
        if "selector" in named:
            source["metricSelector" if field == "external" else "selector"] = named["selector"]
        for old, new in names.items():
            if new in values:
                source[old.format(key)] = values[new]
        result[field] = source
    return result


def _newer(metric: Object, key: str) -> Object:
    """Return a metric of version 1, or what was found of it, as version 2 writes it."""
    result: Object = {"type": metric.get("type", "")}
    for field, names in _VALUES.items():
        if not isinstance(metric.get(field), dict):
            continue
        source, values = dict(metric[field]), {}
        for old, new in names.items():
            if old.format(key) in source:
                values[new] = source.pop(old.format(key))
        if key == "target" and values:
            values = {"type": _TYPES[next(iter(values))], **values}
        if field == "object" and "target" in source:
            source["describedObject"] = source.pop("target")
        named = {}
        if "metricName" in source:
            named["name"] = source.pop("metricName")
        for selector in ("metricSelector", "selector"):
            if selector in source:
                named["selector"] = source.pop(selector)
        source |= {"metric": named} if named else {}
        result[field] = {**source, key: values}
    return result
