"""Which dead containers go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kubeletpy.pods.collect import garbage
from kubeletpy.pods.plan import DeadContainers, Plan
from kubeletpy.pods.state import ContainerPhase

from .build import NOW, box, desired, observed, record


@pytest.mark.parametrize(
    ("dead", "newest", "gone", "wake"),
    [
        (DeadContainers(), "running", ["a-2", "a-1", "a-0"], None),
        (DeadContainers(), "exited", ["a-3", "a-2", "a-1", "a-0"], None),
        (DeadContainers(each=2), "running", ["a-1", "a-0"], None),
        (DeadContainers(each=2), "exited", ["a-2", "a-1", "a-0"], None),
        (DeadContainers(each=0), "running", ["a-3", "a-2", "a-1", "a-0"], None),
        # The newest tells what to do next.
        (DeadContainers(each=0), "exited", ["a-3", "a-2", "a-1", "a-0"], None),
        (DeadContainers(each=-1), "running", [], None),
        # Made 10, 9, 8 and 7 s ago.
        (DeadContainers(minimum_age=8.5), "running", ["a-1", "a-0"], NOW + 0.5),
        (DeadContainers(minimum_age=60), "running", [], NOW + 50),
    ],
)
def test_dead_containers(
    dead: DeadContainers, newest: str, gone: list[str], wake: float | None
) -> None:
    records = [record("a", newest, 4), *(record("a", "exited", number) for number in (3, 2, 1, 0))]
    plan = Plan(replace(desired("a"), dead=dead), observed(box(), *records), NOW)
    containers, sandboxes = garbage(plan)
    assert list(containers) == gone
    assert sandboxes == ()
    assert plan.finish().wake_at == wake


def test_a_container_that_was_made_in_the_future_is_not_waited_for() -> None:
    late = replace(record("a", "exited", 0), created_at=NOW + 100)
    records = [record("a", "running", 2), record("a", "exited", 1), late]
    plan = Plan(
        replace(desired("a"), dead=DeadContainers(minimum_age=5)),
        observed(box(), *records),
        NOW,
    )
    assert garbage(plan)[0] == ("a-0",)
    assert records[0].phase is ContainerPhase.RUNNING
