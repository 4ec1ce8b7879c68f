"""Which pods count for a metric, and what they asked for (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Final

from controlplane.engine.controller import moment_of
from controlplane.engine.resources import Object, is_deleting
from controlplane.kinds.quantity import canonical, parse

CPU: Final = "cpu"
MEMORY: Final = "memory"
_POD_LEVEL: Final = (CPU, MEMORY)
_HUGE: Final = "hugepages-"


class CalculationError(Exception):
    """No number of replicas can be said; the text says why."""


@dataclass(frozen=True, slots=True)
class PodMetric:
    """What was measured of a pod.

    Attributes:
        value: in thousandths.
        timestamp: of the end of the time that it was measured in.
        window: seconds of that time.
    """

    value: int
    timestamp: datetime | None = None
    window: float = 0.0


PodMetrics = Mapping[str, PodMetric]
"""By name of the pod."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long new pods are let alone.

    Attributes:
        initialization: seconds after a start in which the CPU of a pod counts only once it is
            ready.
        readiness: seconds after a start in which becoming unready is part of the start.
    """

    initialization: float = 300.0
    readiness: float = 30.0


@dataclass(slots=True)
class Groups:
    """Pods by whether they count.

    Attributes:
        ready: how many do.
        unready: names of those that are about to start.
        missing: of those that were not measured.
        ignored: of those that are at their end.
    """

    ready: int = 0
    unready: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    ignored: set[str] = field(default_factory=set)

    def counted(self, metrics: PodMetrics) -> dict[str, PodMetric]:
        """Return what was measured of all but those that are starting or at their end."""
        left_out = self.unready | self.ignored
        return {name: one for name, one in metrics.items() if name not in left_out}


def group(
    pods: Iterable[Object], metrics: PodMetrics, resource: str, patience: Patience, now: datetime
) -> Groups:
    """Return pods by whether they count.

    Args:
        pods: of the target.
        metrics: what was measured of them.
        resource: that was; "": no resource.
        patience: with new ones.
        now: the time.
    """
    groups = Groups()
    for pod in pods:
        name, phase = pod["metadata"]["name"], (pod.get("status") or {}).get("phase")
        if is_deleting(pod) or phase == "Failed":
            groups.ignored.add(name)
        elif phase == "Pending":
            groups.unready.add(name)
        elif name not in metrics:
            groups.missing.add(name)
        elif resource == CPU and _is_unready(pod["status"], metrics[name], patience, now):
            groups.unready.add(name)
        else:
            groups.ready += 1
    return groups


def _is_unready(status: Object, metric: PodMetric, patience: Patience, now: datetime) -> bool:
    condition = condition_of(status, "Ready")
    if condition is None or not status.get("startTime"):
        return True
    started = moment_of(status["startTime"])
    changed = condition.get("lastTransitionTime")
    moved = moment_of(changed) if changed else datetime.min.replace(tzinfo=now.tzinfo)
    unready = condition["status"] == "False"
    if started + timedelta(seconds=patience.initialization) > now:
        # One whole window must have been measured since it became ready.
        whole = moved + timedelta(seconds=metric.window)
        return unready or metric.timestamp is None or metric.timestamp < whole
    # It was never ready since it started.
    return unready and started + timedelta(seconds=patience.readiness) > moved


def condition_of(status: Object, kind: str) -> Object | None:
    """Return the condition of a kind, None if there is none."""
    for one in status.get("conditions") or ():
        if one["type"] == kind:
            found: Object = one
            return found
    return None


def ready_count(pods: list[Object]) -> int:
    """Return how many pods run and are ready.

    Raises:
        CalculationError: there is no pod at all.
    """
    if not pods:
        raise CalculationError(
            "unable to calculate ready pods: no pods returned by selector while calculating "
            "replica count"
        )
    statuses = [pod.get("status") or {} for pod in pods]
    return sum(
        status.get("phase") == "Running"
        and (condition_of(status, "Ready") or {}).get("status") == "True"
        for status in statuses
    )


def requests_of(pods: Iterable[Object], container: str, resource: str) -> dict[str, int]:
    """Return what pods asked for of a resource, in thousandths, by name.

    Args:
        pods: of the target.
        container: only this one counts; "": all.
        resource: such as ``cpu``.

    Raises:
        CalculationError: one asked for nothing.
    """
    return {pod["metadata"]["name"]: _request_of(pod, container, resource) for pod in pods}


def _request_of(pod: Object, container: str, resource: str) -> int:
    spec, name = pod["spec"], pod["metadata"]["name"]
    whole = (spec.get("resources") or {}).get("requests") or {}
    if not container and any(one in _POD_LEVEL or one.startswith(_HUGE) for one in whole):
        return _whole_request(spec, whole, name, resource)
    containers = [*spec.get("containers", ())]
    containers += [
        one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"
    ]
    total = 0
    for one in containers:
        if container in ("", one["name"]):
            asked = _requests(one).get(resource)
            if asked is None:
                raise CalculationError(
                    f"missing request for {resource} in container {one['name']} of Pod {name}"
                )
            total += milli(asked)
        if container == one["name"]:
            return total
    if container:
        raise CalculationError(f"container {container} not found in Pod {name}")
    return total


def _whole_request(spec: Object, whole: Mapping[str, str], name: str, resource: str) -> int:
    """Return what a pod as a whole asked for (KEP-2837)."""
    overhead = (spec.get("overhead") or {}).get(resource)
    asked = [whole[resource]] if resource in whole else [
        one for each in spec.get("containers", ())
        if (one := _requests(each).get(resource)) is not None
    ]  # fmt: skip
    if overhead is not None:
        asked.append(overhead)
    if not asked:
        raise CalculationError(f"missing pod-level request for {resource} in Pod {name}")
    return sum(milli(one) for one in asked)


def _requests(container: Object) -> Mapping[str, Any]:
    return (container.get("resources") or {}).get("requests") or {}


def milli(text: str) -> int:
    """Return a quantity in thousandths, rounded up.

    Raises:
        QuantityError: it is none.
    """
    return ceil(parse(str(text)) * 1000)


def quantity(number: int, resource: str = "") -> str:
    """Return thousandths as a quantity; memory in powers of two."""
    whole, rest = divmod(number, 1000)
    if resource != MEMORY or rest or abs(whole) < 1024:
        return canonical(f"{number}m")
    power = 0
    while whole % 1024 == 0 and power < 6:
        whole, power = whole // 1024, power + 1
    return f"{whole}{('', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei')[power]}"
