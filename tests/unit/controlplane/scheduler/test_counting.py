"""What is counted of attempts."""

from __future__ import annotations

from controlplane.engine.resources import PODS
from controlplane.scheduler.counting import SCHEDULED, Counts
from tests.support.bench_scheduler import Bench
from tests.support.placing.objects import SMALL, nodes, pod


def samples(bench: Bench) -> dict[tuple[str, str], float]:
    return {
        (one.name, ",".join(one.labels.values())): one.value
        for metric in bench.scheduler.metrics() for one in metric.samples
    }  # fmt: skip


def test_attempts_and_waiting_pods_are_counted() -> None:
    bench = Bench()
    bench.nodes(*nodes("a", capacity=SMALL))
    low = pod("low", on="a", cpu="800m")
    bench.put(PODS, low)
    high = pod("high", cpu="800m")
    high["spec"]["priority"] = 10
    bench.put(PODS, high)
    bench.put(PODS, pod("gated", schedulingGates=[{"name": "x"}]))
    bench.place()
    found = samples(bench)
    assert found["scheduler_pending_pods", "unschedulable"] == 1
    assert found["scheduler_pending_pods", "gated"] == 1
    assert found["scheduler_schedule_attempts_total", "unschedulable,default-scheduler"] == 1
    assert found["scheduler_preemption_victims_total", ""] == 1


def test_durations_are_counted_in_buckets() -> None:
    counts = Counts()
    for seconds in (0.001, 0.015, 1e9):
        counts.attempt(SCHEDULED, "x", seconds)
    [histogram] = [
        one for one in counts.metrics(Bench().scheduler.queue) if one.type == "histogram"
    ]
    found = {one.labels.get("le", one.name[-5:]): one.value for one in histogram.samples}
    assert (found["0.01"], found["0.02"], found["+Inf"], found["count"]) == (1, 2, 3, 3)
