from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Quantity
from kubeletpy.api.status import PodStatus
from kubeletpy.events import Recorder
from kubeletpy.resize.coordinator import Policies, Resizes
from kubeletpy.resources.totals import Resources, pod_requests

from ..api.pods import make_pod, with_container

NODE: Resources = {"cpu": Quantity("2"), "memory": Quantity("4Gi")}


def pod(uid: str, cpu: str, memory: str = "1Gi", generation: int = 1, **spec: Any) -> Pod:
    made = make_pod(
        **with_container(resources={"requests": {"cpu": cpu, "memory": memory}}), **spec
    )
    made.metadata.uid, made.metadata.name, made.metadata.generation = uid, uid, generation
    return made


def guaranteed(uid: str, cpu: str, generation: int = 1) -> Pod:
    made = make_pod(**with_container(resources={"limits": {"cpu": cpu, "memory": "1Gi"}}))
    made.metadata.uid, made.metadata.generation = uid, generation
    return made


class Setting:
    """A node's resizes, with what they told."""

    def __init__(self, policies: Policies | None = None) -> None:
        self.recorder = Recorder("n1")
        self.changed: list[str] = []
        self.resizes = Resizes(lambda: NODE, self.recorder, self.changed.append, policies)

    def cpu(self, uid: str) -> str:
        entry = self.resizes.get(uid)
        assert entry is not None
        return str(pod_requests(entry.pod)["cpu"])

    def conditions(self, uid: str) -> list[tuple[str, str, str, int]]:
        entry = self.resizes.get(uid)
        assert entry is not None
        return [
            (one.type, one.reason, one.message, one.observed_generation) for one in entry.conditions
        ]

    def events(self) -> list[str]:
        return [event.reason for event in self.recorder.events()]


@pytest.fixture
def setting() -> Setting:
    return Setting()


def test_a_resize_that_fits_is_allocated(setting: Setting) -> None:
    setting.resizes.add(pod("a", "1"))
    after = setting.resizes.update(pod("a", "1500m", generation=2))
    assert str(pod_requests(after)["cpu"]) == "1500m"
    assert setting.conditions("a") == [("PodResizeInProgress", "", "", 2)]
    (event,) = setting.recorder.events()
    assert event.reason == "ResizeStarted"
    what, _, summary = event.message.partition(": ")
    assert what == "Pod resize started"
    assert json.loads(summary) == {
        "containers": [
            {"name": "main", "resources": {"requests": {"cpu": "1500m", "memory": "1Gi"}}}
        ],
        "generation": 2,
    }


def test_a_resize_without_room_is_deferred_and_the_rest_of_the_pod_goes_on(
    setting: Setting,
) -> None:
    setting.resizes.add(pod("a", "1"))
    setting.resizes.add(pod("b", "500m"))
    wanted = pod("a", "1600m", generation=2)
    wanted.metadata.labels["new"] = "yes"
    after = setting.resizes.update(wanted)
    assert str(pod_requests(after)["cpu"]) == "1"
    assert (after.metadata.labels, after.metadata.generation) == ({"new": "yes"}, 2)
    reason = "Node didn't have enough resource: cpu, requested: 1600, used: 500, capacity: 2000"
    assert setting.conditions("a") == [("PodResizePending", "Deferred", reason, 2)]
    # The same news is not told again.
    setting.resizes.retry()
    assert setting.events() == ["ResizeDeferred"]
    assert setting.changed == []


def test_memory_is_looked_at_too(setting: Setting) -> None:
    setting.resizes.add(pod("a", "1"))
    setting.resizes.update(pod("a", "1", "5Gi", generation=2))
    assert setting.conditions("a")[0][2] == (
        "Node didn't have enough resource: memory, requested: 5368709120, used: 0, "
        "capacity: 4294967296"
    )


def test_a_wish_that_is_taken_back_is_pending_no_more(setting: Setting) -> None:
    setting.resizes.add(pod("a", "1"))
    setting.resizes.update(pod("a", "3", generation=2))
    setting.resizes.update(pod("a", "1", generation=3))
    assert setting.conditions("a") == []


@pytest.mark.parametrize("gone", ["finish", "remove"])
def test_what_was_deferred_is_tried_when_something_ends(gone: str) -> None:
    async def run() -> Setting:
        setting = Setting()
        for each in (pod("a", "500m"), pod("b", "500m"), pod("c", "1")):
            setting.resizes.add(each)
        setting.resizes.update(pod("a", "1500m", generation=2))
        getattr(setting.resizes, gone)("c")
        await asyncio.sleep(0)
        return setting

    setting = asyncio.run(run())
    assert setting.changed == ["a"]
    assert setting.cpu("a") == "1500m"
    assert setting.events() == ["ResizeDeferred", "ResizeStarted"]


def test_the_more_urgent_come_first() -> None:
    async def run() -> Setting:
        setting = Setting()
        for uid in ("low", "guaranteed", "high", "big"):
            setting.resizes.add(guaranteed(uid, "100m") if uid == "guaranteed" else (
                pod(uid, "1600m" if uid == "big" else "100m", "1Mi")
            ))  # fmt: skip
        setting.resizes.update(pod("low", "700m", "1Mi", 2))
        setting.resizes.update(guaranteed("guaranteed", "700m", 2))
        setting.resizes.update(pod("high", "700m", "1Mi", 2, priority=100))
        setting.resizes.remove("big")
        await asyncio.sleep(0)
        return setting

    setting = asyncio.run(run())
    # Room for two of three: by priority, then by class.
    assert setting.cpu("high") == setting.cpu("guaranteed") == "700m"
    assert setting.cpu("low") == "100m"
    assert setting.conditions("low")[0][:2] == ("PodResizePending", "Deferred")


def test_less_is_given_back_before_more_is_asked_for() -> None:
    async def run() -> Setting:
        setting = Setting()
        setting.resizes.add(pod("a", "1"))
        setting.resizes.add(pod("b", "1"))
        setting.resizes.update(pod("a", "1500m", generation=2))
        setting.resizes.update(pod("b", "500m", generation=2))
        return setting

    setting = asyncio.run(run())
    assert (setting.cpu("a"), setting.cpu("b")) == ("1500m", "500m")


def test_static_managers_make_it_infeasible() -> None:
    setting = Setting(Policies(static_cpus=True))
    setting.resizes.add(guaranteed("a", "1"))
    setting.resizes.update(guaranteed("a", "2", generation=2))
    assert setting.conditions("a") == [
        ("PodResizePending", "Infeasible",
         'Resize is infeasible for Guaranteed Pods alongside CPU Manager policy "static"', 2)
    ]  # fmt: skip
    assert setting.events() == ["ResizeInfeasible"]


def test_a_restarted_kubelet_knows_what_was_allocated() -> None:
    async def run() -> Setting:
        setting = Setting()
        setting.resizes.add(pod("a", "1"))
        setting.resizes.update(pod("a", "3", generation=2))
        entry = setting.resizes.get("a")
        assert entry is not None
        status = PodStatus(conditions=entry.conditions)
        later = Setting()
        later.resizes.add(pod("a", "3", generation=2), saved=entry.pod, status=status)
        await asyncio.sleep(0)
        return later

    later = asyncio.run(run())
    assert later.cpu("a") == "1"
    assert later.conditions("a")[0][:2] == ("PodResizePending", "Deferred")
    # It was told before the restart.
    assert later.events() == []


def test_an_error_shows_until_the_resize_is_done(setting: Setting) -> None:
    entry = setting.resizes.add(pod("a", "1"))
    assert entry.begin()
    assert entry.begin("Error", "too small")
    assert not entry.begin("Error", "too small")
    assert not entry.begin()
    assert setting.conditions("a") == [("PodResizeInProgress", "Error", "too small", 1)]
    entry.wanted = msgspec.structs.replace(entry.wanted)
    assert entry.complete() == 1
    assert entry.complete() is None
