"""Checks of the resources that containers and pods ask for (pure).

Source: Kubernetes documentation, "Resource Management for Pods and Containers", "Manage HugePages";
KEP-2837 (pod level resources), KEP-3063 (resource claims).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.formats import label_key_problems, label_problems
from controlplane.api.metadata import duplicate, forbidden, missing, required, unsupported, wrong
from controlplane.api.resource import Object
from controlplane.kinds.quantity import QuantityError, parse
from controlplane.kinds.totals import (
    container_limits,
    container_requests,
    is_huge_page,
    is_native,
    is_overcommittable,
    is_pod_level,
    shown,
)

_COUNTED: Final = frozenset({
    "pods", "resourcequotas", "services", "replicationcontrollers", "secrets", "configmaps",
    "persistentvolumeclaims", "services.nodeports", "services.loadbalancers",
})  # fmt: skip
_STANDARD: Final = _COUNTED | {
    "cpu", "memory", "ephemeral-storage", "requests.cpu", "requests.memory",
    "requests.ephemeral-storage", "limits.cpu", "limits.memory", "limits.ephemeral-storage",
    "storage", "requests.storage",
}  # fmt: skip
_OF_CONTAINERS: Final = frozenset({"cpu", "memory", "ephemeral-storage"})

NameCheck = Callable[[str, str], list[Cause]]


def check_resource_name(name: str, path: str) -> list[Cause]:
    """Return what is wrong with the name of any resource."""
    causes = [wrong(path, name, problem) for problem in label_key_problems(name)]
    if causes or "/" in name:
        return causes
    if name not in _STANDARD and not name.startswith(("hugepages-", "requests.hugepages-")):
        text = "must be a standard resource type or fully qualified"
        causes.append(wrong(path, name, text))
    return causes


def check_container_resource_name(name: str, path: str) -> list[Cause]:
    """Return what is wrong with the name of a resource that a container asks for."""
    causes = check_resource_name(name, path)
    if "/" not in name:
        if name not in _OF_CONTAINERS and not is_huge_page(name):
            causes.append(wrong(path, name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        causes.append(wrong(path, name, "doesn't follow extended resource name standard"))
    return causes


def is_extended(name: str) -> bool:
    """Say whether a resource is somebody's device, with a name that quotas can have too."""
    if is_native(name) or name.startswith("requests."):
        return False
    return not label_key_problems(f"requests.{name}")


def check_amount(name: str, text: str, path: str) -> list[Cause]:
    """Return what is wrong with an amount of a resource."""
    number = parse(text)
    causes: list[Cause] = []
    if number < 0:
        causes.append(wrong(path, text, "must be greater than or equal to 0"))
    if (name in _COUNTED or is_extended(name)) and number != int(number):
        causes.append(wrong(path, text, "must be an integer"))
    return causes


def check_container_resources(value: Object, claims: set[str], path: str) -> list[Cause]:
    """Return what is wrong with the resources of a container.

    Args:
        value: ``resources``.
        claims: names of the pod's resource claims.
        path: of ``value``.
    """
    return _check(value, check_container_resource_name, claims, path)


def check_pod_resources(spec: Object, claims: set[str], path: str) -> list[Cause]:
    """Return what is wrong with the resources of a pod as a whole."""
    value = spec.get("resources")
    if value is None:
        return []
    if spec.get("os", {}).get("name") == "windows":
        return [forbidden(path, "may not be set for a windows pod")]
    causes: list[Cause] = []
    if "claims" in value:
        text = "claims may not be set for Resources at pod-level"
        causes.append(forbidden(f"{path}.claims", text))
    return causes + _check(value, _check_pod_name, claims, path) + _check_sums(spec, value, path)


def check_claims(claims: list[Object], known: set[str], path: str) -> list[Cause]:
    """Return what is wrong with the claims that a container uses."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        name, at = claim.get("name", ""), f"{path}[{index}]"
        if not name:
            causes.append(required(at))
            continue
        if name in seen:
            causes.append(duplicate(at, name))
        else:
            key = name
            if claim.get("request"):
                key = f"{name}/{claim['request']}"
                causes += [
                    wrong(f"{at}.request", claim["request"], problem)
                    for problem in label_problems(claim["request"])
                ]
            if key in seen:
                causes.append(duplicate(at, key))
            elif key == name:
                # The whole claim holds its requests already.
                found = [other for other in seen if other.partition("/")[0] == name]
                causes += [duplicate(at, name) for _ in found]
            seen.add(key)
        if name not in known:
            text = "must be one of the names in pod.spec.resourceClaims"
            text += f": {', '.join(sorted(known))}" if known else " which is empty"
            causes.append(missing(at, name, text))
    return causes


def _check(value: Object, check_name: NameCheck, claims: set[str], path: str) -> list[Cause]:
    causes: list[Cause] = []
    limits, requests = value.get("limits", {}), value.get("requests", {})
    for kind, amounts in (("limits", limits), ("requests", requests)):
        for name, text in amounts.items():
            at = f"{path}.{kind}[{name}]"
            causes += check_name(name, at) + check_amount(name, text, at)
            if kind == "requests":
                causes += _check_against_limit(name, text, limits.get(name), path)
            if is_huge_page(name) and not _divides(name, text):
                text = f"{text} is not positive integer multiple of {name}"
                causes.append(wrong(at, amounts[name], text))
    asked = limits.keys() | requests.keys()
    if any(is_huge_page(name) for name in asked) and not asked & {"cpu", "memory"}:
        causes.append(forbidden(path, "HugePages require cpu or memory"))
    return causes + check_claims(value.get("claims", []), claims, f"{path}.claims")


def _check_against_limit(name: str, text: str, limit: str | None, path: str) -> list[Cause]:
    fixed = not is_overcommittable(name)
    if limit is None:
        why = "Limit must be set for non overcommitable resources"
        return [required(f"{path}.limits", why)] if fixed else []
    if fixed and parse(text) != parse(limit):
        return [wrong(f"{path}.requests", text, f"must be equal to {name} limit of {limit}")]
    if parse(text) > parse(limit):
        why = f"must be less than or equal to {name} limit of {limit}"
        return [wrong(f"{path}.requests", text, why)]
    return []


def _divides(name: str, text: str) -> bool:
    try:
        size = parse(name.partition("-")[2])
    except QuantityError:
        return False
    return size > 0 and size == int(size) and parse(text) % size == 0


def _check_pod_name(name: str, path: str) -> list[Cause]:
    causes = check_resource_name(name, path)
    if not causes and not is_pod_level(name):
        causes.append(unsupported(path, name, ["cpu", "hugepages-", "memory"]))
    return causes


def _check_sums(spec: Object, value: Object, path: str) -> list[Cause]:
    """What a pod has must be enough for its containers."""
    causes: list[Cause] = []
    requests, limits = value.get("requests", {}), value.get("limits", {})
    for name, amount in container_requests(spec).items():
        causes += _too_small(name, amount, requests, f"{path}.requests", "requests")
    for name, amount in container_limits(spec).items():
        if is_huge_page(name):
            causes += _too_small(name, amount, limits, f"{path}.limits", "limits")
    for index, container in enumerate(spec.get("containers", ())):
        for name, text in container.get("resources", {}).get("limits", {}).items():
            if name in limits and parse(text) > parse(limits[name]):
                why = f"must be less than or equal to pod limits of {limits[name]}"
                causes.append(wrong(f"{path}.containers[{index}][{name}].limits", text, why))
    return causes


def _too_small(
    name: str, amount: tuple[Decimal, str], given: dict[str, Any], path: str, what: str
) -> list[Cause]:
    if name not in given or amount[0] <= parse(given[name]):
        return []
    why = f"must be greater than or equal to aggregate container {what} of {shown(amount)}"
    return [wrong(f"{path}[{name}]", given[name], why)]
