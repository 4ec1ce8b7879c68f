"""Pods that wait: whose turn it is, what wakes them, and how long they pause."""

from __future__ import annotations

from typing import Any

from controlplane.engine.resources import Object
from controlplane.scheduler import events
from controlplane.scheduler.hinting import NODE_RESOURCES_FIT, TAINT_TOLERATION
from controlplane.scheduler.pods import PodInfo
from controlplane.scheduler.queue import SchedulingQueue
from tests.support.hollow import node
from tests.support.placing.objects import TAINT, pod

HINTS = {"NodeResourcesFit": NODE_RESOURCES_FIT, "TaintToleration": TAINT_TOLERATION}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def info(name: str, priority: int = 0, **more: Any) -> PodInfo:
    made = pod(name, **more)
    made["metadata"]["uid"] = name
    made["spec"]["priority"] = priority
    return PodInfo(made)


def queue(clock: Clock, **more: Any) -> SchedulingQueue:
    return SchedulingQueue(clock, HINTS, **more)


def names(one: SchedulingQueue) -> list[str]:
    found = []
    while (next_one := one.pop()) is not None:
        found.append(next_one.pod.uid)
    return found


def refuse(one: SchedulingQueue, *plugins: str) -> None:
    tried = one.pop()
    assert tried is not None
    one.refuse(tried, frozenset(plugins))


def grown(cpu: str) -> tuple[Object, Object]:
    small = node("a", capacity={"cpu": "1", "memory": "1Gi", "pods": "10"})
    return small, node("a", capacity={"cpu": cpu, "memory": "1Gi", "pods": "10"})


def test_the_most_important_pod_comes_first_then_the_oldest() -> None:
    clock = Clock()
    one = queue(clock)
    for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5)):
        one.add(info(name, priority))
        clock.now += 1
    assert names(one) == ["b", "d", "a", "c"]


def test_a_pod_that_fits_nowhere_waits_for_what_may_help_it() -> None:
    clock = Clock()
    one = queue(clock)
    one.add(info("large", cpu="4"))
    refuse(one, "NodeResourcesFit")
    clock.now += 20
    before, after = grown("2")
    one.move(events.NODE, events.ALLOCATABLE, before, after)
    one.move(events.NODE, events.TAINT, before, after)
    one.move(events.POD, events.ADD, None, info("other", on="a"))
    one.move(events.POD, events.DELETE, info("other"), None)
    assert names(one) == []
    before, after = grown("8")
    one.move(events.NODE, events.ALLOCATABLE, before, after)
    assert names(one) == ["large"]


def test_the_word_of_one_plugin_suffices() -> None:
    one = queue(Clock())
    one.add(info("p", cpu="4"))
    refuse(one, "NodeResourcesFit", "TaintToleration")
    before, after = node("a", taints=[TAINT]), node("a")
    one.move(events.NODE, events.TAINT, after, before)
    assert names(one) == []
    one.move(events.NODE, events.TAINT, before, after)
    assert names(one) == ["p"]


def test_after_minutes_all_are_tried_again() -> None:
    clock = Clock()
    one = queue(clock)
    one.add(info("p", cpu="4"))
    refuse(one, "NodeResourcesFit")
    assert one.next_due() == 1300.0
    clock.now = 1299.9
    assert names(one) == []
    clock.now = 1300.0
    assert names(one) == ["p"]


def test_pauses_double_up_to_a_bound_and_others_go_first() -> None:
    clock = Clock()
    one = queue(clock)
    one.add(info("p"))
    pauses = []
    for _ in range(6):
        tried = one.pop()
        assert tried is not None
        one.fail(tried)
        due = one.next_due()
        assert due is not None
        pauses.append(due - clock.now)
        assert one.pop() is None
        clock.now = due
    assert pauses == [1, 2, 4, 8, 10, 10]


def test_a_pod_need_not_pause_when_nobody_else_is_there() -> None:
    clock = Clock()
    one = queue(clock)
    one.add(info("p", cpu="4"))
    refuse(one, "NodeResourcesFit")
    one.move(events.NODE, events.ADD, None, node("a"))
    one.add(info("other"))
    assert one.sizes() == {"active": 1, "backoff": 1, "unschedulable": 0, "gated": 0}
    assert names(one) == ["other", "p"]


def test_gates_keep_a_pod_out_until_the_last_is_gone() -> None:
    one = queue(Clock())
    one.add(info("p", schedulingGates=[{"name": "x"}, {"name": "y"}]))
    one.move(events.NODE, events.ADD, None, node("a"))
    one.update(info("p", schedulingGates=[{"name": "y"}]), [events.OTHER])
    assert names(one) == []
    assert one.sizes()["gated"] == 1
    one.update(info("p"), [events.UNGATED])
    assert names(one) == ["p"]


def test_its_own_new_toleration_wakes_a_pod_and_its_own_status_does_not() -> None:
    one = queue(Clock())
    one.add(info("p"))
    refuse(one, "TaintToleration")
    one.update(info("p"), [events.OTHER])
    assert names(one) == []
    one.update(info("p", tolerations=[{"operator": "Exists"}]), [events.TOLERATION])
    assert names(one) == ["p"]


def test_a_pod_whose_room_is_being_made_is_not_tried() -> None:
    busy = {"p"}
    one = queue(Clock(), blocked=lambda uid: uid in busy)
    one.add(info("p"))
    refuse(one, "NodeResourcesFit")
    gone = info("victim", on="a")
    one.move(events.POD, events.DELETE, gone, None)
    assert names(one) == []
    busy.clear()
    one.move(events.POD, events.DELETE, gone, None)
    assert names(one) == ["p"]


def test_a_pod_that_is_gone_is_not_tried_and_nothing_of_it_stays() -> None:
    clock = Clock()
    one = queue(clock)
    for place in ("active", "waiting", "paused"):
        one.add(info("p", cpu="4"))
        if place != "active":
            refuse(one, "NodeResourcesFit")
        if place == "paused":
            one.move(events.NODE, events.ADD, None, node("a"))
        one.remove("p")
        assert names(one) == []
        assert len(one) == 0
    assert one.next_due() is None


def test_only_so_many_a_second_need_not_pause() -> None:
    clock = Clock()
    one = queue(clock)
    for index in range(60):
        one.add(info(f"p{index}", cpu="4"))
    for _ in range(60):
        refuse(one, "NodeResourcesFit")
    one.move(events.NODE, events.ADD, None, node("a"))
    assert len(names(one)) == 50
    assert one.sizes()["backoff"] == 10
    clock.now += 0.1
    assert len(names(one)) == 5
    clock.now += 1
    assert len(names(one)) == 5
