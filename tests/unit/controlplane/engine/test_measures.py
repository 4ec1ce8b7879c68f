"""What is counted, as Prometheus reads it."""

from __future__ import annotations

import pytest

from controlplane.engine.measures import Level, Measure, Spread, Tally, exponential, spreads


def text(measure: Measure) -> list[str]:
    return [
        f"{one.name}{sorted(one.labels.items()) or ''} {one.value:g}"
        for one in measure.metric().samples
    ]


def test_bounds_of_buckets_grow() -> None:
    assert exponential(0.5, 2, 4) == (0.5, 1, 2, 4)


def test_a_tally_counts_by_labels() -> None:
    made = Tally("pods", "Pods.", "how")
    assert text(made) == []
    made.add("well")
    made.add("well", count=2)
    made.add("badly", count=0)
    assert text(made) == ["pods_total[('how', 'well')] 3"]


def test_a_tally_without_labels_begins_at_zero() -> None:
    made = Tally("pods", "Pods.")
    assert text(made) == ["pods_total 0"]
    made.add()
    assert text(made) == ["pods_total 1"]


def test_a_spread_counts_in_buckets() -> None:
    made = Spread("took_seconds", "It.", (1.0, 2.0))
    assert text(made)[-2:] == ["took_seconds_count 0", "took_seconds_sum 0"]
    for value in (0.5, 1.0, 1.5, 7.0):
        made.add(value)
    assert text(made) == [
        "took_seconds_bucket[('le', '1.0')] 2", "took_seconds_bucket[('le', '2.0')] 3",
        "took_seconds_bucket[('le', '+Inf')] 4", "took_seconds_count 4", "took_seconds_sum 10",
    ]  # fmt: skip


def test_spreads_of_one_name_are_one_metric() -> None:
    parts = [Spread("took_seconds", "It.", (1.0,), "name") for _ in range(2)]
    parts[0].add(0.5, "a")
    parts[1].add(3.0, "b")
    found = spreads(parts)
    sums = {one.labels["name"]: one.value for one in found.samples if one.name.endswith("_sum")}
    assert sums == {"a": 0.5, "b": 3.0}


@pytest.mark.parametrize("value", [0.0, 4.0])
def test_a_level_is_read_when_asked_for(value: float) -> None:
    made = Level("level", "It.", lambda: {("x",): value}, "of")
    assert text(made) == [f"level[('of', 'x')] {value:g}"]
