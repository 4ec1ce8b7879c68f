"""What an object counts for in quotas, and which quotas count it (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from controlplane.engine.resources import Object
from controlplane.kinds.quantity import parse
from controlplane.kinds.totals import Amounts, is_native, pod_totals, shown

PODS: Final = ("", "pods")
SERVICES: Final = ("", "services")
CLAIMS: Final = ("", "persistentvolumeclaims")
# Plain counts that have a name of their own besides count/<resource>.
_ALIASES: Final = frozenset({"configmaps", "resourcequotas", "replicationcontrollers", "secrets"})
_COMPUTE: Final = ("cpu", "memory", "ephemeral-storage")
_POD_NAMES: Final = frozenset(
    ["pods", *_COMPUTE, *(f"{kind}.{n}" for kind in ("requests", "limits") for n in _COMPUTE)]
)
_SERVICE_NAMES: Final = frozenset({"services", "services.nodeports", "services.loadbalancers"})
_CLAIM_NAMES: Final = ("persistentvolumeclaims", "requests.storage")
_BY_CLASS: Final = ".storageclass.storage.k8s.io/"
_STORAGE_CLASS: Final = "volume.beta.kubernetes.io/storage-class"
# Containers have to name these where a quota counts them.
_REQUIRED: Final = frozenset(
    {"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"}
)
_ONE: Final = (Decimal(1), "1")
_NONE: Final = (Decimal(0), "0")


def kinds_of(name: str) -> tuple[str, str] | None:
    """Return group and plural of what a name in a quota counts; None for nothing known."""
    if name.startswith("count/"):
        plural, _, group = name.removeprefix("count/").partition(".")
        return (group, plural)
    if name in _ALIASES:
        return ("", name)
    for kind, names in ((SERVICES, _SERVICE_NAMES), (PODS, _POD_NAMES)):
        if name in names:
            return kind
    if name in _CLAIM_NAMES or any(name.endswith(_BY_CLASS + one) for one in _CLAIM_NAMES):
        return CLAIMS
    requested = name.removeprefix("requests.")
    if requested.startswith("hugepages-") or (requested != name and not is_native(name)):
        return PODS
    return None


def counted_kinds(hard: Iterable[str]) -> dict[tuple[str, str], list[str]]:
    """Return the names in a quota by what they count; what nothing is known of is left out."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in hard:
        kind = kinds_of(name)
        if kind is not None:
            found.setdefault(kind, []).append(name)
    return found


def usage_of(kind: tuple[str, str], value: Object, now: datetime) -> Amounts:
    """Return what an object counts for.

    Args:
        kind: group and plural of its resource.
        value: the object.
        now: a pod that should be gone by then counts no more.
    """
    group, plural = kind
    usage: Amounts = {f"count/{plural}.{group}" if group else f"count/{plural}": _ONE}
    if not group and plural in _ALIASES:
        usage[plural] = _ONE
    if kind == PODS and is_alive(value, now):
        usage.update(_pod_usage(value))
    elif kind == SERVICES:
        usage.update(_service_usage(value.get("spec", {})))
    elif kind == CLAIMS:
        usage.update(_claim_usage(value))
    return usage


def is_alive(pod: Object, now: datetime) -> bool:
    """Say whether a pod holds resources: it has not ended, nor should be gone by now."""
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return False
    meta = pod["metadata"]
    if not meta.get("deletionTimestamp") or meta.get("deletionGracePeriodSeconds") is None:
        return True
    deleted = datetime.fromisoformat(meta["deletionTimestamp"].replace("Z", "+00:00"))
    grace = timedelta(seconds=meta["deletionGracePeriodSeconds"])
    return now.astimezone(UTC) <= deleted + grace


def matches_scopes(kind: tuple[str, str], value: Object, spec: Object) -> bool:
    """Say whether an object is in all scopes of a quota; only pods are in any.

    Args:
        kind: group and plural of its resource.
        value: the object.
        spec: of the quota.
    """
    wanted = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes", [])]
    wanted += (spec.get("scopeSelector") or {}).get("matchExpressions", [])
    return all(kind == PODS and _in_scope(value.get("spec", {}), one) for one in wanted)


def missing(spec: Object, names: Iterable[str]) -> str:
    """Say what a pod's containers do not name though a quota counts it; "" if nothing."""
    if spec.get("resources"):
        return ""
    lacking: dict[str, set[str]] = {}
    for container in [*spec.get("containers", []), *spec.get("initContainers", [])]:
        resources = container.get("resources", {})
        present = _computed(resources.get("requests", {}), resources.get("limits", {}))
        for name in _REQUIRED & set(names):
            if name not in present:
                lacking.setdefault(name, set()).add(container["name"])
    listed = [f"{name} for: {','.join(sorted(lacking[name]))}" for name in sorted(lacking)]
    return f"must specify {'; '.join(listed)}" if listed else ""


def add(total: Amounts, more: Amounts) -> None:
    """Add amounts to a total, which is changed."""
    for name, (number, text) in more.items():
        before, sample = total.get(name, _NONE)
        # A sum has the suffix of the family of what came first and is not nothing.
        total[name] = (before + number, sample if before else text)


def _pod_usage(pod: Object) -> Amounts:
    spec = _as_running(pod)
    requests, limits = pod_totals(spec)
    for name, text in spec.get("overhead", {}).items():
        requests[name] = _plus(requests.get(name), text)
        if name in limits:
            limits[name] = _plus(limits[name], text)
    return {"pods": _ONE, **_computed(requests, limits)}


def _plus(one: str | None, other: str) -> str:
    total: Amounts = {}
    for text in (one or "0", other):
        add(total, {"": (parse(text), text)})
    return shown(total[""])


def _as_running(pod: Object) -> Object:
    """Return the spec with the larger of what is wanted and what the node has given (KEP-1287)."""
    spec = pod.get("spec", {})
    statuses = {
        one["name"]: one for one in pod.get("status", {}).get("containerStatuses", []) if one
    }
    if not any("allocatedResources" in one or "resources" in one for one in statuses.values()):
        return dict(spec)
    containers = []
    for container in spec.get("containers", []):
        status = statuses.get(container["name"], {})
        resources = dict(container.get("resources", {}))
        given = status.get("resources", {})
        for key, more in (
            ("requests", (given.get("requests", {}), status.get("allocatedResources", {}))),
            ("limits", (given.get("limits", {}),)),
        ):
            largest = dict(resources.get(key, {}))
            for amounts in more:
                for name, text in amounts.items():
                    if name in largest and parse(text) > parse(largest[name]):
                        largest[name] = text
            if largest:
                resources[key] = largest
        containers.append({**container, "resources": resources})
    return {**spec, "containers": containers}


def _computed(requests: Mapping[str, str], limits: Mapping[str, str]) -> Amounts:
    usage: Amounts = {}
    for name, text in requests.items():
        amount = (parse(text), text)
        if name in _COMPUTE or name.startswith("hugepages-"):
            usage[name] = usage[f"requests.{name}"] = amount
        elif not is_native(name):
            usage[f"requests.{name}"] = amount
    for name in _COMPUTE:
        if name in limits:
            usage[f"limits.{name}"] = (parse(limits[name]), limits[name])
    return usage


def _service_usage(spec: Object) -> Amounts:
    ports, kind = spec.get("ports", []), spec.get("type", "ClusterIP")
    count = len(ports) if kind in ("NodePort", "LoadBalancer") else 0
    if kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is False:
        count = sum(1 for port in ports if port.get("nodePort"))
    return {
        "services": _ONE,
        "services.nodeports": (Decimal(count), str(count)),
        "services.loadbalancers": _ONE if kind == "LoadBalancer" else _NONE,
    }


def _claim_usage(claim: Object) -> Amounts:
    spec = claim.get("spec", {})
    usage: Amounts = {"persistentvolumeclaims": _ONE}
    sizes = [
        source.get("storage")
        for source in (
            spec.get("resources", {}).get("requests", {}),
            claim.get("status", {}).get("allocatedResources", {}),
        )
    ]
    if sizes[0] is not None:
        largest = max((text for text in sizes if text is not None), key=parse)
        usage["requests.storage"] = (parse(largest), largest)
    annotations = claim["metadata"].get("annotations", {})
    name = annotations.get(_STORAGE_CLASS) or spec.get("storageClassName")
    if name:
        usage.update({f"{name}{_BY_CLASS}{key}": amount for key, amount in usage.items()})
    return usage


def _in_scope(spec: Object, scope: Mapping[str, Any]) -> bool:
    name, operator = scope.get("scopeName"), scope.get("operator")
    if name == "PriorityClass":
        present, values = spec.get("priorityClassName", ""), scope.get("values") or []
        if operator == "In":
            return bool(present) and present in values
        if operator == "NotIn":
            return present not in values
        return bool(present) is (operator == "Exists")
    if name in ("Terminating", "NotTerminating"):
        return (spec.get("activeDeadlineSeconds") is not None) is (name == "Terminating")
    if name in ("BestEffort", "NotBestEffort"):
        return _is_best_effort(spec) is (name == "BestEffort")
    return name == "CrossNamespacePodAffinity" and _crosses_namespaces(spec.get("affinity", {}))


def _is_best_effort(spec: Object) -> bool:
    holders = [spec, *spec.get("containers", []), *spec.get("initContainers", [])]
    return not any(
        parse(amounts[name]) > 0
        for holder in holders
        for amounts in (holder.get("resources", {}).get(key, {}) for key in ("requests", "limits"))
        for name in ("cpu", "memory")
        if name in amounts
    )


def _crosses_namespaces(affinity: Object) -> bool:
    terms: list[Any] = []
    for key in ("podAffinity", "podAntiAffinity"):
        found = affinity.get(key, {})
        terms += found.get("requiredDuringSchedulingIgnoredDuringExecution", [])
        preferred = found.get("preferredDuringSchedulingIgnoredDuringExecution", [])
        terms += [one.get("podAffinityTerm", {}) for one in preferred]
    return any(term.get("namespaces") or "namespaceSelector" in term for term in terms)
