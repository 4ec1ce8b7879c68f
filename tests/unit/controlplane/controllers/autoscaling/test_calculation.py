"""From measured values to replicas."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane.controllers.autoscaling.calculation import (
    MOST,
    Result,
    Situation,
    Tolerances,
    by_average,
    by_utilization,
    by_value,
    by_value_per_pod,
    total,
)
from controlplane.controllers.autoscaling.pods import (
    CalculationError,
    Patience,
    PodMetric,
    group,
    milli,
    quantity,
    requests_of,
)

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
PATIENCE = Patience(120, 10)
CPU, MEMORY = "cpu", "memory"


def stamp(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(
    name: str, *, ready: bool | None = True, started: float = -3600, moved: float = -3600,
    phase: str = "Running", cpu: str | None = "1", deleting: bool = False, **spec: Any,
) -> Any:  # fmt: skip
    conditions = []
    if ready is not None:
        conditions.append({"type": "Ready", "status": str(ready),
                           "lastTransitionTime": stamp(moved)})  # fmt: skip
    container: dict[str, Any] = {"name": "main", "resources": {}}
    if cpu is not None:
        container["resources"] = {"requests": {"cpu": cpu, "memory": "1Gi"}}
    meta = {"name": name, **({"deletionTimestamp": stamp(0)} if deleting else {})}
    return {
        "metadata": meta, "spec": {"containers": [container], **spec},
        "status": {"phase": phase, "startTime": stamp(started), "conditions": conditions},
    }  # fmt: skip


def metrics(*values: int | None, window: float = 15, age: float = 5) -> dict[str, PodMetric]:
    at = NOW - timedelta(seconds=age)
    return {f"p{n}": PodMetric(value, at, window) for n, value in enumerate(values)
            if value is not None}  # fmt: skip


def pods(count: int, **more: Any) -> list[Any]:
    return [pod(f"p{n}", **more) for n in range(count)]


def at(replicas: int, listed: list[Any], down: float = 0.1, up: float = 0.1) -> Situation:
    return Situation(replicas, listed, Tolerances(down, up), PATIENCE, NOW)


@pytest.mark.parametrize(
    ("listed", "measured", "target", "wanted"),
    [
        # Up, down, within the tolerance.
        (pods(3), metrics(300, 500, 700), 30, Result(5, 500, 50)),
        (pods(5), metrics(100, 300, 500, 250, 250), 50, Result(3, 280, 28)),
        (pods(3), metrics(1010, 1030, 1020), 100, Result(3, 1020, 102)),
        (pods(3), metrics(1110, 1110, 1110), 100, Result(4, 1110, 111)),
        # Those that start count as idle when it grows, not at all when it shrinks.
        ([pod("p0", ready=False, started=-60, moved=-50), *pods(3)[1:]], metrics(100, 500, 700),
         30, Result(4, 600, 60)),
        ([pod("p0", ready=False, started=-60, moved=-50), *pods(3)[1:]], metrics(100, 100, 100),
         50, Result(1, 100, 10)),
        # Pending: likewise; they never change the direction.
        ([pod("p0", phase="Pending"), pod("p1", phase="Pending"), *pods(3)[2:]],
         metrics(None, None, 420), 40, Result(3, 420, 42)),
        # Those that were not measured use nothing when it grows, everything when it shrinks.
        (pods(4), metrics(None, 300, 500, 700), 40, Result(4, 500, 50)),
        (pods(4), metrics(None, 400, 500, 700), 20, Result(8, 533, 53)),
        (pods(4), metrics(100, 100, None, None), 60, Result(4, 100, 10)),
        (pods(4), metrics(100, 100, 100, None), 60, Result(3, 100, 10)),
        (pods(4), metrics(100, 100, None, None), 200, Result(3, 100, 10)),
        # At their end: nothing of them counts.
        ([pod("p0", deleting=True), pod("p1", phase="Failed"), *pods(4)[2:]],
         metrics(900, 900, 500, 500), 50, Result(4, 500, 50)),
    ],
)  # fmt: skip
def test_by_utilization(listed: Any, measured: Any, target: int, wanted: Result) -> None:
    assert by_utilization(measured, target, CPU, "", at(len(listed), listed)) == wanted


@pytest.mark.parametrize(
    ("listed", "measured", "why"),
    [
        ([], metrics(1), "no pods returned by selector while calculating replica count"),
        (pods(1, phase="Pending"), metrics(1),
         "did not receive metrics for targeted pods (pods might be unready)"),
        (pods(1, cpu=None), metrics(1), "missing request for cpu in container main of Pod p0"),
    ],
)  # fmt: skip
def test_what_cannot_be_said(listed: Any, measured: Any, why: str) -> None:
    with pytest.raises(CalculationError) as error:
        by_utilization(measured, 50, CPU, "", at(1, listed))
    assert str(error.value) == why


@pytest.mark.parametrize(
    ("listed", "measured", "target", "wanted"),
    [
        (pods(3), metrics(20000, 10000, 30000), 15000, Result(4, 20000)),
        (pods(3), metrics(12000, 12000, 12000), 20000, Result(2, 12000)),
        (pods(3), metrics(20500, 20500, 20500), 20000, Result(3, 20500)),
        (pods(3), metrics(50000, 10000, None), 25000, Result(3, 30000)),
        (pods(4), metrics(50000, 90000, None, None), 25000, Result(6, 70000)),
        (pods(3), metrics(10000, 10000, None), 20000, Result(2, 10000)),
        # A custom metric counts as long as the pod runs, ready or not.
        (pods(2, ready=False), metrics(40000, 40000), 20000, Result(4, 40000)),
    ],
)  # fmt: skip
def test_by_average(listed: Any, measured: Any, target: int, wanted: Result) -> None:
    assert by_average(measured, target, "", at(len(listed), listed)) == wanted


@pytest.mark.parametrize(
    ("usage", "target", "replicas", "listed", "wanted"),
    [
        (20000, 15000, 3, pods(3), 4),
        (20000, 15000, 3, [*pods(2), pod("x", ready=False)], 3),
        (21000, 20000, 3, pods(3), 3),
        (0, 20000, 3, pods(3), 0),
        # From zero: tolerances and pods do not matter.
        (1000, 20000, 0, [], 1),
        (45000, 20000, 0, [], 3),
        (0, 20000, 0, [], 0),
        (2**62, 1, 3, pods(3), MOST),
    ],
)
def test_by_value(usage: int, target: int, replicas: int, listed: Any, wanted: int) -> None:
    assert by_value(usage, target, at(replicas, listed)) == Result(wanted, usage)


@pytest.mark.parametrize(
    ("usage", "target", "replicas", "wanted"),
    [
        (8600, 2150, 3, Result(4, 2867)),
        (8600, 2867, 3, Result(3, 2867)),
        (100, 2000, 5, Result(1, 20)),
        (0, 2000, 5, Result(0, 0)),
        (2**63 - 1, 1, 3, Result(MOST, (2**63 - 1 + 2) // 3)),
    ],
)
def test_by_value_per_pod(usage: int, target: int, replicas: int, wanted: Result) -> None:
    found = by_value_per_pod(usage, target, replicas, Tolerances())
    assert found.replicas == wanted.replicas
    assert found.usage == pytest.approx(wanted.usage, rel=1e-9)


def test_tolerances_of_each_direction() -> None:
    assert by_average(metrics(1040), 1000, "", at(1, pods(1), up=0.05)).replicas == 1
    assert by_average(metrics(1060), 1000, "", at(1, pods(1), up=0.05)).replicas == 2
    assert by_average(metrics(600, 600), 1000, "", at(2, pods(2), down=0.5)).replicas == 2
    assert by_average(metrics(400, 400), 1000, "", at(2, pods(2), down=0.5)).replicas == 1
    assert total([2**62, 2**62, 2**62]) == 2**63 - 1


@pytest.mark.parametrize(
    ("one", "metric", "resource", "wanted"),
    [
        (pod("p0"), metrics(1), CPU, "ready"),
        (pod("p0", deleting=True), metrics(1), CPU, "ignored"),
        (pod("p0", phase="Failed"), metrics(1), CPU, "ignored"),
        (pod("p0", phase="Pending"), metrics(1), CPU, "unready"),
        (pod("p0"), {}, CPU, "missing"),
        (pod("p0", ready=None), metrics(1), CPU, "unready"),
        (pod("p0", ready=None), metrics(1), MEMORY, "ready"),
        # In its first time: ready, and measured for a whole window since.
        (pod("p0", started=-60, moved=-40), metrics(1), CPU, "ready"),
        (pod("p0", started=-60, moved=-15), metrics(1), CPU, "unready"),
        (pod("p0", started=-60, moved=-50, ready=False), metrics(1), CPU, "unready"),
        # After it: unless it was never ready.
        (pod("p0", started=-200, moved=-195, ready=False), metrics(1), CPU, "unready"),
        (pod("p0", started=-200, moved=-100, ready=False), metrics(1), CPU, "ready"),
    ],
)
def test_which_pods_count(one: Any, metric: Any, resource: str, wanted: str) -> None:
    groups = group([one], metric, resource, PATIENCE, NOW)
    found = "ready" if groups.ready else next(
        name for name in ("unready", "missing", "ignored") if getattr(groups, name))  # fmt: skip
    assert found == wanted


SIDECAR = {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "250m"}}}
INIT = {"name": "init", "resources": {"requests": {"cpu": "8"}}}


@pytest.mark.parametrize(
    ("one", "container", "wanted"),
    [
        (pod("p0"), "", 1000),
        (pod("p0", initContainers=[SIDECAR, INIT]), "", 1250),
        (pod("p0", initContainers=[SIDECAR]), "side", 250),
        (pod("p0"), "other", "container other not found in Pod p0"),
        (pod("p0", resources={"requests": {"cpu": "3"}}), "", 3000),
        (pod("p0", resources={"requests": {"cpu": "3"}}, overhead={"cpu": "1"}), "", 4000),
        (pod("p0", resources={"requests": {"cpu": "3"}}), "main", 1000),
        (pod("p0", resources={"requests": {"memory": "3"}}), "", 1000),
        (pod("p0", cpu=None, resources={"requests": {"memory": "3"}}), "",
         "missing pod-level request for cpu in Pod p0"),
    ],
)  # fmt: skip
def test_what_pods_ask_for(one: Any, container: str, wanted: Any) -> None:
    if isinstance(wanted, int):
        assert requests_of([one], container, CPU) == {"p0": wanted}
        return
    with pytest.raises(CalculationError) as error:
        requests_of([one], container, CPU)
    assert str(error.value) == wanted


@pytest.mark.parametrize(
    ("number", "resource", "text"),
    [
        (0, "", "0"), (1500, "", "1500m"), (2000, "", "2"), (2_000_000, "", "2k"),
        (500, CPU, "500m"), (1024 * 1024 * 1000, MEMORY, "1Mi"), (1500 * 1000, MEMORY, "1500"),
        (1000 * 1000, MEMORY, "1k"), (1536, MEMORY, "1536m"),
    ],
)  # fmt: skip
def test_quantities(number: int, resource: str, text: str) -> None:
    assert quantity(number, resource) == text
    assert milli(text) == number
