"""What an autoscaler measures, and how tables show it."""

from __future__ import annotations

from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import forbidden, required, unsupported, wrong
from controlplane.api.resource import Object
from controlplane.kinds.checks import check_dns_label, check_path_segment
from controlplane.kinds.quantity import parse
from controlplane.kinds.strategies.autoscaling.references import check_reference
from controlplane.kinds.strategies.podspec.resources import check_container_resource_name

_FIELDS: Final = {"Object": "object", "Pods": "pods", "Resource": "resource",
                  "External": "external", "ContainerResource": "containerResource"}  # fmt: skip
_TARGETS: Final = ("Utilization", "Value", "AverageValue")
_SHOWN: Final = 2
_UNKNOWN: Final = "<unknown>"


def check_metrics(metrics: list[Object], path: str, fewest: int) -> list[Cause]:
    """Return what is wrong with metrics.

    Args:
        metrics: of an autoscaler.
        path: of them.
        fewest: pods that it may scale to; none only by metrics that need no pods.
    """
    causes: list[Cause] = []
    for index, metric in enumerate(metrics):
        causes += _check_metric(metric, f"{path}[{index}]")
    if fewest == 0 and not any(one.get("type") in ("Object", "External") for one in metrics):
        text = "must specify at least one Object or External metric to scale to zero replicas"
        causes.append(forbidden(path, text))
    return causes


def _check_metric(metric: Object, path: str) -> list[Cause]:
    kind = metric.get("type", "")
    causes = [] if kind else [required(f"{path}.type", "must specify a metric source type")]
    if kind not in _FIELDS:
        causes.append(unsupported(f"{path}.type", kind, sorted(_FIELDS)))
    order = ("object", "external", "pods", "resource", "containerResource")
    present = [name for name in order if name in metric]
    if present:
        causes += _check_source(present[0], metric[present[0]], f"{path}.{present[0]}")
    wanted = _FIELDS.get(kind)
    if wanted and wanted not in metric:
        text = "must populate information for the given metric source"
        causes.append(required(f"{path}.{wanted}", text))
    if len(present) != 1:
        text = "must populate the given metric source only"
        causes += [forbidden(f"{path}.{name}", text) for name in present if name != wanted]
    return causes


def _check_source(kind: str, source: Object, path: str) -> list[Cause]:
    target, here = source.get("target", {}), f"{path}.target"
    causes: list[Cause] = []
    if kind == "object":
        described = source.get("describedObject", {})
        causes += check_reference(described, f"{path}.describedObject")
    if kind in ("object", "external", "pods"):
        name = source.get("metric", {}).get("name", "")
        causes += check_path_segment(name, f"{path}.metric.name")
    else:
        name = source.get("name", "")
        if not name:
            causes.append(required(f"{path}.name", "must specify a resource name"))
        elif kind == "containerResource":
            causes += check_container_resource_name(name, f"{path}.name")
    if kind == "containerResource":
        container = source.get("container", "")
        if container:
            causes += check_dns_label(container, f"{path}.container")
        else:
            causes.append(required(f"{path}.container", "must specify a container"))
    causes += _check_target(target, here)
    return causes + _check_choice(kind, target, here)


def _check_choice(kind: str, target: Object, path: str) -> list[Cause]:
    """Refuse a target that has none of the values that its source needs, or too many."""
    average, value = "averageValue" in target, "value" in target
    share = "averageUtilization" in target
    if kind in ("resource", "containerResource"):
        if not share and not average:
            text = "must set either a target raw value or a target utilization"
            return [required(f"{path}.averageUtilization", text)]
        text = "may not set both a target raw value and a target utilization"
        return [forbidden(f"{path}.averageValue", text)] if share and average else []
    if not average and (kind == "pods" or not value):
        return [required(f"{path}.averageValue", "must set a target for each pod or in all")]
    if kind == "external" and average and value:
        text = "may not set both a target value for metric and a per-pod target"
        return [forbidden(f"{path}.value", text)]
    return []


def _check_target(target: Object, path: str) -> list[Cause]:
    kind = target.get("type", "")
    causes = [] if kind else [required(f"{path}.type", "must specify a metric target type")]
    if kind not in _TARGETS:
        causes.append(wrong(f"{path}.type", kind, f"must be one of {', '.join(_TARGETS)}"))
    causes += [
        wrong(f"{path}.{key}", target[key], "must be positive")
        for key in ("value", "averageValue")
        if key in target and parse(target[key]) <= 0
    ]
    share = target.get("averageUtilization", 1)
    if share < 1:
        causes.append(wrong(f"{path}.averageUtilization", share, "must be greater than 0"))
    return causes


def show_metrics(metrics: list[Object], found: list[Object]) -> str:
    """Return the cell of a table: what is measured, and what is aimed at."""
    shown = [
        _show(metric, found[index] if index < len(found) else {})
        for index, metric in enumerate(metrics)
    ]
    if not shown:
        return "<none>"
    text = ", ".join(shown[:_SHOWN])
    more = len(shown) - _SHOWN
    return f"{text} + {more} more..." if more > 0 else text


def _show(metric: Object, found: Object) -> str:
    field = _FIELDS.get(metric.get("type", ""))
    if field is None or field not in metric:
        return "<unknown type>"
    source = metric[field]
    target, current = source.get("target", {}), found.get(field, {}).get("current")
    average = "averageValue" in target
    if field in ("resource", "containerResource"):
        name = source.get("name", "")
        if average:
            return f"{name}: {_amount(current, 'averageValue')}/{target['averageValue']}"
        return f"{name}: {_percent(current)}/{_percent(target, '<auto>')}"
    if field == "pods" or average:
        end = "" if field == "pods" else " (avg)"
        return f"{_amount(current, 'averageValue')}/{target.get('averageValue', '<nil>')}{end}"
    return f"{_amount(current, 'value')}/{target.get('value', '<nil>')}"


def _amount(current: Object | None, key: str) -> Any:
    return _UNKNOWN if current is None else current.get(key, _UNKNOWN)


def _percent(value: Object | None, absent: str = _UNKNOWN) -> str:
    share = (value or {}).get("averageUtilization")
    return absent if share is None else f"{share}%"
