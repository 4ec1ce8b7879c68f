"""How much of each resource a pod asks for (pure).

Sources: Kubernetes documentation, "Resource Management for Pods and Containers", "Sidecar
Containers", "Pod Overhead"; KEP-1287 (resize in place), KEP-2837 (resources of the pod).

Numbers are whole: CPU in thousandths, everything else in its own unit, both rounded up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil
from typing import Any, Final

import msgspec

from controlplane.kinds.quantity import parse

CPU: Final = "cpu"
MEMORY: Final = "memory"
STORAGE: Final = "ephemeral-storage"
UNASKED_CPU: Final = 100
"""Thousandths of a CPU that a container counts for in scores if it asks for none."""
UNASKED_MEMORY: Final = 200 * 1024 * 1024
"""Bytes that a container counts for in scores if it asks for none."""
_UNASKED: Final = {CPU: UNASKED_CPU, MEMORY: UNASKED_MEMORY}

Amounts = dict[str, int]


@dataclass(frozen=True, slots=True)
class Requests:
    """What a pod asks for.

    Attributes:
        cpu: thousandths.
        memory, storage: bytes; ``storage`` is the ephemeral one.
        others: of extended resources, huge pages and the like, by name.
        scored_cpu, scored_memory: as scores count them: a container that asks for nothing counts
            for a little.
    """

    cpu: int = 0
    memory: int = 0
    storage: int = 0
    others: Mapping[str, int] = field(default_factory=dict)
    scored_cpu: int = 0
    scored_memory: int = 0

    @property
    def none(self) -> bool:
        """Whether it asks for nothing at all."""
        return not (self.cpu or self.memory or self.storage or self.others)


@lru_cache(maxsize=8192)
def amount(name: str, text: str) -> int:
    """Return a quantity as a whole number of the unit of a resource.

    Raises:
        QuantityError: it is no quantity.
    """
    number = parse(text)
    return ceil(number * 1000) if name == CPU else ceil(number)


def amounts(quantities: Mapping[str, Any] | None) -> Amounts:
    """Return quantities by resource as whole numbers."""
    if not quantities:
        return {}
    return {name: amount(name, str(text)) for name, text in quantities.items()}


def is_counted(name: str) -> bool:
    """Whether a resource other than CPU, memory and ephemeral storage is counted on nodes."""
    return "/" in name or name.startswith(("hugepages-", "attachable-volumes-"))


def is_extended(name: str) -> bool:
    """Whether a resource is an extended one: not of Kubernetes itself."""
    domain, _, rest = name.partition("/")
    return bool(rest) and not domain.endswith("kubernetes.io") and not name.startswith("requests.")


_encoder: Final = msgspec.json.Encoder()


def requests_of(pod: Mapping[str, Any]) -> Requests:
    """Return what a pod that has no node yet asks for."""
    spec = pod["spec"]
    return _cached(_encoder.encode([
        [(one.get("resources") or {}).get("requests") for one in spec.get("containers") or ()],
        [((one.get("resources") or {}).get("requests"), one.get("restartPolicy") == "Always")
         for one in spec.get("initContainers") or ()],
        (spec.get("resources") or {}).get("requests"),
        spec.get("overhead"),
    ]))  # fmt: skip


def requests_held(pod: Mapping[str, Any]) -> Requests:
    """Return what a pod occupies on its node.

    While a resize is under way that is the most of what it wants, was granted, and really has.
    """
    statuses = {
        one["name"]: one
        for key in ("containerStatuses", "initContainerStatuses")
        for one in (pod.get("status") or {}).get(key) or ()
        if one.get("resources") is not None
    }
    if not statuses:
        return requests_of(pod)
    infeasible = any(
        one.get("type") == "PodResizePending" and one.get("reason") == "Infeasible"
        for one in pod["status"].get("conditions") or ()
    )
    spec = pod["spec"]
    return _cached(_encoder.encode([
        [_held(one, statuses, infeasible) for one in spec.get("containers") or ()],
        [(_held(one, statuses if one.get("restartPolicy") == "Always" else {}, infeasible),
          one.get("restartPolicy") == "Always") for one in spec.get("initContainers") or ()],
        (spec.get("resources") or {}).get("requests"),
        spec.get("overhead"),
    ]))  # fmt: skip


def _held(
    container: Mapping[str, Any], statuses: Mapping[str, Any], infeasible: bool
) -> Mapping[str, str] | None:
    wanted: Mapping[str, str] | None = (container.get("resources") or {}).get("requests")
    status = statuses.get(container["name"])
    if status is None:
        return wanted
    sources = [status["resources"].get("requests"), status.get("allocatedResources")]
    if not infeasible:
        sources.append(wanted)
    most: dict[str, str] = {}
    for source in sources:
        for name, text in (source or {}).items():
            if name not in most or amount(name, text) > amount(name, most[name]):
                most[name] = text
    return most


@lru_cache(maxsize=2048)
def _cached(encoded: bytes) -> Requests:
    containers, initial, whole, overhead = msgspec.json.decode(encoded)
    own = [amounts(one) for one in containers]
    before = [(amounts(one), bool(sidecar)) for one, sidecar in initial]
    total = _together(own, before)
    scored = _together(
        [_unasked(one) for one in own], [(_unasked(one), sidecar) for one, sidecar in before]
    )
    for name, value in amounts(whole).items():
        if name in (CPU, MEMORY) or name.startswith("hugepages-"):
            total[name] = scored[name] = value
    for name, value in amounts(overhead).items():
        total[name] = total.get(name, 0) + value
        scored[name] = scored.get(name, 0) + value
    return Requests(
        total.get(CPU, 0), total.get(MEMORY, 0), total.get(STORAGE, 0),
        {name: value for name, value in total.items() if value and is_counted(name)},
        scored.get(CPU, 0), scored.get(MEMORY, 0),
    )  # fmt: skip


def _unasked(asked: Amounts) -> Amounts:
    return {**_UNASKED, **asked}


def _together(containers: list[Amounts], initial: list[tuple[Amounts, bool]]) -> Amounts:
    """Return what containers take that run one after the other, then beside each other."""
    total: Amounts = {}
    for one in containers:
        _add(total, one)
    sidecars: Amounts = {}
    most: Amounts = {}
    for one, sidecar in initial:
        if sidecar:
            _add(total, one)
            _add(sidecars, one)
            now = dict(sidecars)
        else:
            now = dict(one)
            _add(now, sidecars)
        for name, value in now.items():
            most[name] = max(most.get(name, 0), value)
    for name, value in most.items():
        total[name] = max(total.get(name, 0), value)
    return total


def _add(total: Amounts, more: Amounts) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value
