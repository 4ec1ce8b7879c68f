from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Quantity
from kubeletpy.api.scheduling import Toleration
from kubeletpy.events import Recorder
from kubeletpy.eviction.manager import Actions, EvictionManager
from kubeletpy.eviction.signals import Amount, Observation, Signal, Threshold
from kubeletpy.eviction.usage import Disk, Disks, PodUsage

from ..api.pods import make_pod, with_container

MI = 2**20
MEMORY = Threshold(Signal.MEMORY, Amount(Quantity("100Mi")))
SOFT = Threshold(Signal.MEMORY, Amount(Quantity("100Mi")), grace=1)
NODE_FS = Threshold(Signal.NODE_FS, Amount(share=0.1))


def pod(uid: str, grace: int = 30, priority: int = 0, **spec: object) -> Pod:
    made = make_pod(terminationGracePeriodSeconds=grace, priority=priority, **spec)
    made.metadata.uid = made.metadata.name = uid
    return made


class Node:
    """A node to be evicted from: what it has, what its pods use, and what was done to it."""

    disks = Disks()

    def __init__(self, *thresholds: Threshold, longest_grace: int = 0) -> None:
        self.now = 1000.0
        self.free = {Signal.MEMORY: 1000 * MI, Signal.NODE_FS: 900 * MI}
        self.used: dict[str, PodUsage] = {}
        self.pods: list[Pod] = []
        self.evicted: list[tuple[str, int, bool]] = []
        self.published: list[frozenset[str]] = []
        self.reclaimable = 0
        self.happened = asyncio.Event()
        self.recorder = Recorder("n1")
        actions = Actions(
            active=lambda: list(self.pods),
            evict=self._evict,
            reclaim=self._reclaim,
            publish=self.published.append,
        )
        self.manager = EvictionManager(
            thresholds, self, actions, self.recorder,
            transition=60, longest_grace=longest_grace, clock=lambda: self.now,
        )  # fmt: skip

    def _evict(self, one: Pod, message: str, grace: int, disruption: bool) -> None:
        self.evicted.append((one.metadata.uid, grace, disruption))
        self.happened.set()

    async def _reclaim(self, signal: Signal) -> bool:
        self.free[signal] += self.reclaimable
        return self.reclaimable > 0

    async def observe(self) -> Mapping[Signal, Observation]:
        return {signal: Observation(free, 1000 * MI) for signal, free in self.free.items()}

    async def usages(self, pods: Sequence[Pod], *, storage: bool) -> dict[str, PodUsage]:
        return dict(self.used)

    def look(self) -> list[str]:
        return [one.metadata.uid for one in asyncio.run(self.manager.look())]

    def reasons(self) -> list[str]:
        return [event.reason for event in self.recorder.events()]


def test_without_pressure_nothing_happens() -> None:
    node = Node(MEMORY, NODE_FS)
    node.pods = [pod("a")]
    assert node.look() == []
    assert node.published == []
    assert node.reasons() == []


def test_one_pod_at_a_time_at_once() -> None:
    node = Node(MEMORY)
    node.pods = [pod("a"), pod("b")]
    node.used = {"a": PodUsage(10 * MI), "b": PodUsage(20 * MI)}
    node.free[Signal.MEMORY] = 50 * MI
    assert node.look() == ["b"]
    assert node.evicted == [("b", 1, True)]
    assert node.published == [{"MemoryPressure"}]
    assert node.reasons() == ["EvictionThresholdMet", "Evicted"]
    assert node.recorder.events()[1].message.startswith(
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
    )


@pytest.mark.parametrize(("own", "longest", "grace"), [(30, 10, 10), (5, 10, 5), (30, 0, 0)])
def test_a_soft_threshold_leaves_pods_some_time(own: int, longest: int, grace: int) -> None:
    node = Node(SOFT, longest_grace=longest)
    node.pods, node.free[Signal.MEMORY] = [pod("a", own)], 50 * MI
    assert node.look() == []
    node.now += 1
    assert node.look() == ["a"]
    assert node.evicted == [("a", grace, True)]


def test_critical_pods_stay() -> None:
    node = Node(MEMORY)
    node.free[Signal.MEMORY] = 0
    static = pod("static")
    static.metadata.annotations["kubernetes.io/config.source"] = "file"
    node.pods = [static, pod("system", priority=2_000_000_000)]
    assert node.look() == []
    assert node.evicted == []


@pytest.mark.parametrize(("reclaimable", "evicted"), [(500 * MI, []), (10 * MI, ["a"])])
def test_images_go_before_pods(reclaimable: int, evicted: list[str]) -> None:
    node = Node(NODE_FS)
    node.pods, node.free[Signal.NODE_FS] = [pod("a")], 50 * MI
    node.reclaimable = reclaimable
    assert node.look() == evicted


def test_limits_of_storage_are_kept_without_any_pressure() -> None:
    node = Node(MEMORY)
    volumes = [{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}]
    node.pods = [pod("greedy", volumes=volumes), pod("modest", volumes=volumes), pod("free")]
    node.used = {"greedy": PodUsage(volumes={"data": Disk(2 * MI)}),
                 "modest": PodUsage(volumes={"data": Disk(MI)})}  # fmt: skip
    assert node.look() == ["greedy"]
    assert node.evicted == [("greedy", 1, False)]
    assert node.published == []


def test_pressure_ends_after_the_transition_period() -> None:
    node = Node(MEMORY)
    node.free[Signal.MEMORY] = 50 * MI
    node.look()
    node.free[Signal.MEMORY] = 500 * MI
    node.now += 59
    node.look()
    assert node.manager.conditions == {"MemoryPressure"}
    node.now += 1
    node.look()
    assert node.published == [{"MemoryPressure"}, frozenset()]


def test_who_is_admitted_under_pressure() -> None:
    node = Node()
    manager = node.manager
    burstable = make_pod(**with_container(resources={"requests": {"cpu": "1"}}))
    tolerant = pod("t")
    tolerant.spec.tolerations = [
        Toleration(key="node.kubernetes.io/memory-pressure", operator="Exists")
    ]
    critical = pod("c", priority=2_000_000_000)
    assert manager.refusal(pod("a")) == ""
    manager.conditions = frozenset({"MemoryPressure"})
    assert manager.refusal(pod("a")) == "The node had condition: [MemoryPressure]. "
    assert [manager.refusal(one) for one in (burstable, tolerant, critical)] == ["", "", ""]
    manager.conditions = frozenset({"DiskPressure", "MemoryPressure"})
    refused = "The node had condition: [DiskPressure MemoryPressure]. "
    assert [manager.refusal(one) for one in (burstable, tolerant, critical)] == [
        refused, refused, "",
    ]  # fmt: skip


def test_a_notice_wakes_and_the_next_look_waits_for_the_evicted() -> None:
    async def run() -> Node:
        node = Node(MEMORY)
        node.pods = [pod("a"), pod("b")]
        running = asyncio.create_task(node.manager.run())
        await asyncio.sleep(0)
        node.free[Signal.MEMORY] = 0
        node.manager.ring()
        async with asyncio.timeout(30):
            await node.happened.wait()
            gone = node.pods.pop(0)
            await asyncio.sleep(0)
            assert len(node.evicted) == 1
            node.happened.clear()
            node.manager.on_released(gone.metadata.uid)
            await node.happened.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return node

    assert [uid for uid, _, _ in asyncio.run(run()).evicted] == ["a", "b"]
