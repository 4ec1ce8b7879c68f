"""A node that goes down: the lock is held until pods have ended and their statuses are told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from jeepney import DBusAddress, new_signal

from kubeletpy.api.meta import ObjectMeta
from kubeletpy.api.pod import Pod, PodSpec
from kubeletpy.api.status import PodStatus
from kubeletpy.settings import Settings
from kubeletpy.settings.configuration import convert
from kubeletpy.shutdown import manager as module
from kubeletpy.shutdown.groups import CRITICAL
from kubeletpy.shutdown.logind import LogindError, news_of
from kubeletpy.shutdown.manager import ENDED, NodeShutdown, install

PERIODS = {"shutdownGracePeriod": "3s", "shutdownGracePeriodCriticalPods": "2s"}


class FakeBus:
    """A bus whose news the test makes; what happens to the lock is in ``story``."""

    def __init__(self, story: list[str]) -> None:
        self.story = story
        self.news: asyncio.Queue[bool | None] = asyncio.Queue()
        self.released = asyncio.Event()
        self.inhibited = asyncio.Semaphore(0)

    async def open(self) -> None:
        self.story.append("open")

    def close(self) -> None:
        self.story.append("close")

    async def allow_delay(self, seconds: int) -> None:
        self.story.append(f"delay {seconds}")

    async def inhibit(self) -> None:
        self.story.append("inhibit")
        self.inhibited.release()

    def release(self) -> None:
        self.story.append("release")
        self.released.set()

    async def shutdowns(self) -> AsyncIterator[bool]:
        while (news := await self.news.get()) is not None:
            yield news
        raise LogindError("the bus is gone")


class FakeKubelet:
    """The parts of a kubelet that a shutdown needs; pods end as soon as they are told to."""

    def __init__(self, *pods: Pod, stuck: bool = False) -> None:
        self.story: list[str] = []
        self.all = {pod.metadata.uid: pod for pod in pods}
        self.stuck = stuck
        self.disruptions: list[Any] = []
        self.core: Any = SimpleNamespace(
            settings=Settings(configuration=convert(PERIODS)), presence=None,
            manager=SimpleNamespace(pods=self.pods, workers=self),
            recorder=self, ready_checks={}, admitters=[], on_status=[], on_gone=[], background=[],
            statuses_told=self.told,
        )  # fmt: skip
        self.bus = FakeBus(self.story)

    def pods(self) -> list[Pod]:
        return list(self.all.values())

    def node(self, _: str, reason: str, message: str) -> None:
        self.story.append(f"{reason}: {message}")

    async def told(self) -> None:
        self.story.append("told")

    def conclude(self, uid: str, terminal: Any, *, grace: int, disruption: Any) -> None:
        self.story.append(f"end {uid} within {grace}")
        self.disruptions.append(disruption)
        assert (terminal.reason, terminal.message) == ENDED
        if not self.stuck:
            status = PodStatus(phase="Failed")
            self.all[uid] = msgspec.structs.replace(self.all[uid], status=status)
            asyncio.get_running_loop().call_soon(self.core.on_status[0], self.all[uid], status)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[NodeShutdown]:
        shutdown = install(self.core, self.bus)
        assert shutdown is not None
        (_, run), *_ = self.core.background
        task = asyncio.create_task(run())
        try:
            async with asyncio.timeout(20):
                yield shutdown
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def pod(uid: str, priority: int, own: int = 30, phase: str = "Running") -> Pod:
    return Pod(
        metadata=ObjectMeta(name=uid, uid=uid),
        spec=PodSpec(priority=priority, termination_grace_period_seconds=own),
        status=PodStatus(phase=phase),
    )


async def test_pods_end_in_order_and_the_lock_is_given_back_last() -> None:
    kubelet = FakeKubelet(pod("web", 0), pod("dns", CRITICAL), pod("done", 0, phase="Succeeded"))
    async with kubelet.running() as shutdown:
        assert shutdown.fault() == ""
        assert await shutdown.admit(pod("new", 0)) is None
        kubelet.bus.news.put_nowait(True)
        await kubelet.bus.released.wait()
        assert kubelet.story == [
            "open", "delay 3", "inhibit",
            "NodeShutdown: Shutdown manager detected shutdown event",
            "end web within 1", "end dns within 2", "told", "release",
        ]  # fmt: skip
        assert shutdown.fault() == "node is shutting down"
        refused = await shutdown.admit(pod("new", 0))
        assert refused is not None
        assert refused.reason == "NodeShutdown"
    assert {one.reason for one in kubelet.disruptions} == {"TerminationByKubelet"}


@pytest.mark.slow
async def test_a_pod_that_does_not_end_has_its_time_and_no_more() -> None:
    kubelet = FakeKubelet(pod("web", 0, own=1), stuck=True)
    async with kubelet.running():
        kubelet.bus.news.put_nowait(True)
        await kubelet.bus.released.wait()
    assert kubelet.story[-3:-1] == ["told", "release"]


async def test_a_cancelled_shutdown_takes_the_lock_again() -> None:
    kubelet = FakeKubelet()
    async with kubelet.running() as shutdown:
        kubelet.bus.news.put_nowait(True)
        await kubelet.bus.released.wait()
        kubelet.bus.news.put_nowait(False)
        for _ in range(2):
            await kubelet.bus.inhibited.acquire()
        assert shutdown.fault() == ""


async def test_a_lost_bus_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECONNECT", 0.0)
    kubelet = FakeKubelet()
    async with kubelet.running():
        kubelet.bus.news.put_nowait(None)
        for _ in range(2):
            await kubelet.bus.inhibited.acquire()
    assert kubelet.story[:6] == ["open", "delay 3", "inhibit", "close", "open", "delay 3"]


def test_it_is_there_only_if_it_is_asked_for() -> None:
    core: Any = SimpleNamespace(settings=Settings())
    assert install(core) is None


@pytest.mark.parametrize(
    ("member", "body", "found"),
    [
        ("PrepareForShutdown", (True,), True),
        ("PrepareForShutdown", (False,), False),
        ("PrepareForSleep", (True,), None),
    ],
)
def test_news_of_the_bus(member: str, body: tuple[bool], found: bool | None) -> None:
    address = DBusAddress("/org/freedesktop/login1", interface="org.freedesktop.login1.Manager")
    assert news_of(new_signal(address, member, "b", body)) is found
