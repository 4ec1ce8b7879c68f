"""LimitRange and ResourceQuota.

Source: Kubernetes documentation, "Limit Ranges", "Resource Quotas"; API reference.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.formats import label_key_problems
from controlplane.api.metadata import duplicate, forbidden, immutable, required, wrong
from controlplane.api.resource import Column, Context, Object, Strategy
from controlplane.kinds.quantity import parse
from controlplane.kinds.strategies.podspec.resources import (
    check_amount,
    check_container_resource_name,
    check_resource_name,
)
from controlplane.kinds.totals import is_overcommittable

_LIMITED: Final = ("Pod", "Container", "PersistentVolumeClaim")
_COMPUTE: Final = frozenset({
    "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory",
})  # fmt: skip
_QUOTED: Final = _COMPUTE | {
    "ephemeral-storage", "requests.storage", "requests.ephemeral-storage",
    "limits.ephemeral-storage", "pods", "resourcequotas", "services", "replicationcontrollers",
    "secrets", "persistentvolumeclaims", "configmaps", "services.nodeports",
    "services.loadbalancers",
}  # fmt: skip
_PODS: Final = _COMPUTE | {"pods"}
_SCOPES: Final = {
    "Terminating": _PODS,
    "NotTerminating": _PODS,
    "NotBestEffort": _PODS,
    "PriorityClass": _PODS,
    "CrossNamespacePodAffinity": _PODS,
    "BestEffort": frozenset({"pods"}),
    "VolumeAttributesClass": frozenset({"persistentvolumeclaims", "requests.storage"}),
}
_EXISTING: Final = ("BestEffort", "NotBestEffort", "Terminating", "NotTerminating",
                    "CrossNamespacePodAffinity")  # fmt: skip
_CONFLICTS: Final = ({"BestEffort", "NotBestEffort"}, {"Terminating", "NotTerminating"})


class LimitRangeStrategy(Strategy):
    """See the module."""

    create_on_update = True
    generation = False
    has_status = False
    columns = (
        Column("Name", format="name", description="Of the object."),
        Column("Created At", "date", description="When it was made."),
    )

    def default(self, value: Object) -> None:
        """What is not told of containers follows from what is."""
        for limit in value.get("spec", {}).get("limits", []):
            if limit.get("type") != "Container":
                continue
            usual = {**limit.get("max", {}), **limit.get("default", {})}
            asked = {**limit.get("min", {}), **usual, **limit.get("defaultRequest", {})}
            for key, amounts in (("default", usual), ("defaultRequest", asked)):
                if amounts:
                    limit[key] = amounts

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong."""
        causes: list[Cause] = []
        seen: set[str] = set()
        for index, limit in enumerate(value.get("spec", {}).get("limits", [])):
            path, kind = f"spec.limits[{index}]", limit.get("type", "")
            causes += _check_limit_type(kind, f"{path}.type")
            if kind in seen:
                causes.append(duplicate(f"{path}.type", kind))
            seen.add(kind)
            causes += _check_limit(limit, kind, path)
        return causes

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        meta = value["metadata"]
        return [meta["name"], meta.get("creationTimestamp", "")]


class ResourceQuotaStrategy(Strategy):
    """See the module."""

    generation = False
    columns = (
        Column("Request", description="Used and allowed of requests and counts."),
        Column("Limit", description="Used and allowed of limits."),
    )

    def default(self, value: Object) -> None:
        """Put in what is always there."""
        value.setdefault("spec", {})
        value.setdefault("status", {})

    def prepare_create(self, value: Object, context: Context) -> None:
        """Drop the status."""
        value["status"] = {}

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong."""
        spec = value["spec"]
        causes = _check_amounts(spec.get("hard", {}), "spec.hard")
        causes += _check_scopes(spec) + _check_selector(spec)
        if old is not None and set(spec.get("scopes", [])) != set(old["spec"].get("scopes", [])):
            causes.append(immutable("spec.scopes", spec.get("scopes", [])))
        return causes

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Return what is wrong with what is counted."""
        return [
            cause
            for key in ("hard", "used")
            for cause in _check_amounts(value["status"].get(key, {}), f"status.{key}")
        ]

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        status = value.get("status", {})
        cells: dict[bool, list[str]] = {False: [], True: []}
        for name, most in sorted(status.get("hard", {}).items()):
            text = f"{name}: {status.get('used', {}).get(name, '0')}/{most}"
            cells[name.startswith("limits.")].append(text)
        return [", ".join(cells[False]), ", ".join(cells[True])]


def _check_limit_type(kind: str, path: str) -> list[Cause]:
    causes = [wrong(path, kind, why) for why in label_key_problems(kind)]
    if not causes and "/" not in kind and kind not in _LIMITED:
        text = "must be a standard limit type or fully qualified"
        causes.append(wrong(path, kind, text))
    return causes


def _check_limit(limit: Object, kind: str, path: str) -> list[Cause]:
    causes: list[Cause] = []
    check_name = (
        check_container_resource_name if kind in ("Pod", "Container") else check_resource_name
    )
    for key in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
        if kind == "Pod" and key.startswith("default"):
            if limit.get(key):
                text = "may not be specified when `type` is 'Pod'"
                causes.append(forbidden(f"{path}.{key}", text))
            continue
        for name in limit.get(key, {}):
            causes += check_name(name, f"{path}.{key}[{name}]")
    if kind == "PersistentVolumeClaim" and not any(
        "storage" in limit.get(key, {}) for key in ("min", "max")
    ):
        text = "either minimum or maximum storage value is required, but neither was provided"
        causes.append(required(f"{path}.limits", text))
    names = {name for amounts in limit.values() if isinstance(amounts, dict) for name in amounts}
    for name in sorted(names):
        told = {
            key: amounts[name]
            for key, amounts in limit.items()
            if isinstance(amounts, dict) and name in amounts
        }
        if kind == "Pod":
            told = {key: text for key, text in told.items() if not key.startswith("default")}
        causes += _check_order(name, told, path)
    return causes


# Which amount may not be larger than which, and how the two are called; the first one is blamed.
_ORDER: Final = (
    ("min", "max", "min", "min", "max"),
    ("min", "defaultRequest", "defaultRequest", "min", "default request"),
    ("defaultRequest", "max", "defaultRequest", "default request", "max"),
    ("defaultRequest", "default", "defaultRequest", "default request", "default limit"),
    ("min", "default", "default", "min", "default"),
    ("default", "max", "default", "default", "max"),
)


def _check_order(name: str, told: dict[str, str], path: str) -> list[Cause]:
    causes: list[Cause] = []
    amounts: dict[str, Decimal] = {key: parse(text) for key, text in told.items()}
    for low, high, at, one, other in _ORDER:
        if low in told and high in told and amounts[low] > amounts[high]:
            text = f"{one} value {told[low]} is greater than {other} value {told[high]}"
            blamed = told["defaultRequest"] if at == "defaultRequest" else told[low]
            if (low, high) == ("default", "max"):
                blamed = told["max"]
            causes.append(wrong(f"{path}.{at}[{name}]", blamed, text))
    ratio, at = amounts.get("maxLimitRequestRatio"), f"{path}.maxLimitRequestRatio[{name}]"
    if ratio is not None:
        shown = told["maxLimitRequestRatio"]
        if ratio < 1:
            causes.append(wrong(at, shown, f"ratio {shown} is less than 1"))
        if amounts.get("min") and "max" in amounts and ratio > amounts["max"] / amounts["min"]:
            most = amounts["max"] / amounts["min"]
            causes.append(wrong(at, shown, f"ratio {shown} is greater than max/min = {most:.6f}"))
    if not is_overcommittable(name) and {"default", "defaultRequest"} <= told.keys():
        usual, asked = told["default"], told["defaultRequest"]
        if amounts["default"] != amounts["defaultRequest"]:
            text = f"default value {usual} must equal to defaultRequest value {asked} in {name}"
            causes.append(wrong(f"{path}.defaultRequest[{name}]", asked, text))
    return causes


def _is_quoted(name: str) -> bool:
    return name in _QUOTED or name.startswith(("hugepages-", "requests.hugepages-"))


def _check_amounts(amounts: dict[str, str], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for name, amount in amounts.items():
        at = f"{path}[{name}]"
        causes += check_resource_name(name, at)
        if "/" not in name and not _is_quoted(name):
            causes.append(wrong(at, name, "must be a standard resource for quota"))
        causes += check_amount(name, amount, at)
    return causes


def _check_scopes(spec: Object) -> list[Cause]:
    path, scopes = "spec.scopes", spec.get("scopes", [])
    causes: list[Cause] = []
    for scope in scopes:
        if scope not in _SCOPES:
            causes.append(wrong(path, scopes, "unsupported scope"))
        causes += [wrong(path, scopes, "unsupported scope applied to resource")] * _unfit(
            scope, spec
        )
    return causes + _check_conflicts(set(scopes), scopes)


def _check_selector(spec: Object) -> list[Cause]:
    selector = spec.get("scopeSelector")
    if selector is None:
        return []
    path = "spec.scopeSelector.matchExpressions"
    causes: list[Cause] = []
    found: set[str] = set()
    for expression in selector.get("matchExpressions", []):
        scope, operator = expression.get("scopeName", ""), expression.get("operator", "")
        values = expression.get("values", [])
        if scope not in _SCOPES:
            causes.append(wrong(f"{path}.scopeName", scope, "unsupported scope"))
        causes += [wrong(path, selector, "unsupported scope applied to resource")] * _unfit(
            scope, spec
        )
        if scope in _EXISTING and operator != "Exists":
            text = (
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, "
                "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, "
                "ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
            )
            causes.append(wrong(f"{path}.operator", operator, text))
        if operator in ("In", "NotIn"):
            if not values:
                text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope "
                causes.append(required(f"{path}.values", f"{text}selector"))
        elif operator not in ("Exists", "DoesNotExist"):
            causes.append(wrong(f"{path}.operator", operator, "not a valid selector operator"))
        elif values:
            text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope "
            causes.append(wrong(f"{path}.values", values, f"{text}selector"))
        found.add(scope)
    return causes + _check_conflicts(found, spec.get("scopes", []))


def _unfit(scope: str, spec: Object) -> int:
    """Return how many resources of the quota the scope says nothing of."""
    fitting = _SCOPES.get(scope)
    if fitting is None:
        return 0
    return sum(1 for name in spec.get("hard", {}) if _is_quoted(name) and name not in fitting)


def _check_conflicts(found: set[str], scopes: list[str]) -> list[Cause]:
    return [
        wrong("spec.scopes", scopes, "conflicting scopes") for pair in _CONFLICTS if pair <= found
    ]
