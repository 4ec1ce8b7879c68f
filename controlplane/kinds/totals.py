"""Resources that containers ask for, each and all together (pure).

Source: KEP-753 (sidecar containers: what initialization needs at most), KEP-2837 (pod level
resources), KEP-1287 (resize).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from controlplane.kinds.quantity import canonical, parse

Object = dict[str, Any]
Amounts = dict[str, tuple[Decimal, str]]
"""Number by resource, and one of the texts that it came from, for its suffix."""

_POD_LEVEL: Final = frozenset({"cpu", "memory"})
_HUGE: Final = "hugepages-"


def is_huge_page(name: str) -> bool:
    """Say whether a resource is huge pages of some size."""
    return name.startswith(_HUGE)


def is_native(name: str) -> bool:
    """Say whether a resource is Kubernetes' own, and not a device of somebody."""
    return "/" not in name or "kubernetes.io/" in name


def is_overcommittable(name: str) -> bool:
    """Say whether limits may promise more than there is."""
    return is_native(name) and not is_huge_page(name)


def is_pod_level(name: str) -> bool:
    """Say whether a resource can be given to a pod as a whole."""
    return name in _POD_LEVEL or is_huge_page(name)


def is_sidecar(container: Object) -> bool:
    """Say whether an init container goes on running beside the others."""
    return container.get("restartPolicy") == "Always"


def container_requests(spec: Object) -> Amounts:
    """Return what all containers together need at any moment."""
    return _aggregate(spec, "requests")


def container_limits(spec: Object) -> Amounts:
    """Return what all containers together may use at any moment."""
    return _aggregate(spec, "limits")


def pod_totals(spec: Object) -> tuple[dict[str, str], dict[str, str]]:
    """Return what a pod requests and is limited to, what is said of it as a whole first (pure)."""
    whole = spec.get("resources", {})
    found = []
    for amounts, key in (
        (container_requests(spec), "requests"),
        (container_limits(spec), "limits"),
    ):
        total = {name: shown(amount) for name, amount in amounts.items()}
        total.update((n, text) for n, text in whole.get(key, {}).items() if is_pod_level(n))
        found.append(total)
    return found[0], found[1]


def _aggregate(spec: Object, key: str) -> Amounts:
    total: Amounts = {}
    for container in spec.get("containers", ()):
        _add(total, _amounts(container, key))
    beside: Amounts = {}
    starting: Amounts = {}
    for container in spec.get("initContainers", ()):
        needs = _amounts(container, key)
        if is_sidecar(container):
            _add(total, needs)
            _add(beside, needs)
            needs = dict(beside)
        else:
            _add(needs, beside)
        _raise_to(starting, needs)
    _raise_to(total, starting)
    return total


def _amounts(container: Object, key: str) -> Amounts:
    found = container.get("resources", {}).get(key, {})
    return {name: (parse(text), text) for name, text in found.items()}


def _add(total: Amounts, more: Amounts) -> None:
    for name, (number, text) in more.items():
        before = total.get(name)
        total[name] = (number, text) if before is None else (before[0] + number, before[1])


def _raise_to(total: Amounts, least: Amounts) -> None:
    for name, amount in least.items():
        if name not in total or total[name][0] < amount[0]:
            total[name] = amount


def shown(amount: tuple[Decimal, str]) -> str:
    """Return an amount as a quantity, with a suffix of the family of its sample."""
    number, sample = amount
    if sample.endswith("i") and number == int(number):
        return canonical(f"{int(number) // 1024}Ki") if number % 1024 == 0 else f"{int(number)}"
    return canonical(f"{number:f}")
