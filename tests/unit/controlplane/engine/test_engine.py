"""The engine of the controllers against a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest

from controlplane.engine import host
from controlplane.engine.controller import Context, Controller
from controlplane.engine.election import Election, LeadershipLostError, Times
from controlplane.engine.queue import WorkQueue
from controlplane.engine.resources import CONFIG_MAPS, LEASES, Resource, key_of, version_of
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.linux.clocks import ClockChanges
from tests.support.cluster import Cluster, cluster

pytestmark = pytest.mark.slow  # servers, and leases that have to run out
QUICK = Times(lease=1.0, renew=0.6, retry=0.1)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


class Twins(Controller):
    """Makes "NAME-twin" of each ConfigMap that says so; counts how often it made one."""

    name: ClassVar[str] = "twins"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.made: list[str] = []
        self.maps = context.informers.of(CONFIG_MAPS)
        self.maps.listen(self.enqueue)

    async def sync(self, key: str) -> float | None:
        value = self.maps.get(key)
        if value is None or "twin" not in (value.get("data") or {}):
            return None
        twin = {"metadata": {"namespace": "default", "name": f"{value['metadata']['name']}-twin"}}
        if self.maps.get(key_of(twin)) is None:
            self.made.append(key)
            await self.context.writer.create(CONFIG_MAPS, twin)
            assert self.maps.get(key_of(twin)) is not None
        return None


async def test_a_controller_sees_its_own_writes_at_once(server: Cluster) -> None:
    running = await server.start_parts([Twins])
    part = running.parts[0]
    assert isinstance(part, Twins)
    one = await server.create(CONFIG_MAPS, {"metadata": {"name": "a"}, "data": {"twin": "x"}})
    await server.until(CONFIG_MAPS, lambda found: any(
        value["metadata"]["name"] == "a-twin" for value in found))  # fmt: skip
    for number in range(20):
        one["data"]["number"] = str(number)
        one = await running.context.writer.update(CONFIG_MAPS, one)
        part.queue.add("default/a")
    informer = running.context.informers.of(CONFIG_MAPS)
    known = informer.get("default/a")
    assert known is not None
    assert known["data"]["number"] == "19"
    assert part.made == ["default/a"]


async def test_what_was_deleted_does_not_come_back_from_an_older_watch(server: Cluster) -> None:
    running = await server.start_parts([])
    informer = running.context.informers.of(CONFIG_MAPS)
    await informer.synced.wait()
    writer = running.context.writer
    for number in range(50):
        made = await writer.create(
            CONFIG_MAPS, {"metadata": {"namespace": "default", "name": "x"}, "data": {"n": "0"}}
        )
        made = await writer.patch(CONFIG_MAPS, made, {"data": {"n": str(number)}})
        await writer.delete(CONFIG_MAPS, made)
        assert informer.get("default/x") is None
    # All that the watch still has to tell comes before this.
    last = await server.create(CONFIG_MAPS, {"metadata": {"name": "last"}})
    await server.until(CONFIG_MAPS, lambda found: any(
        version_of(value) >= version_of(last) for value in found))  # fmt: skip
    async with asyncio.timeout(10):
        while informer.get("default/last") is None:  # noqa: ASYNC110 - plain data
            await asyncio.sleep(0.01)
    assert informer.get("default/x") is None
    assert not informer._gone


async def test_a_write_without_an_answer_is_looked_into_before_the_next_decision(
    server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await server.start_parts([Twins])
    client = running.context.client
    real = client.create
    lost: list[str] = []

    async def create(path: str, body: object, **more: object) -> dict[str, object]:
        answer = await real(path, body)
        if not lost and "a-twin" in str(body):
            lost.append(path)
            raise ApiError(0, "Timeout", "no answer")
        return answer

    await server.create(CONFIG_MAPS, {"metadata": {"name": "before"}})
    monkeypatch.setattr(client, "create", create)
    part = running.parts[0]
    assert isinstance(part, Twins)
    monkeypatch.setattr(part.maps, "_take", lambda change: None)  # the watch tells nothing
    part.maps.learn(await server.create(
        CONFIG_MAPS, {"metadata": {"name": "a"}, "data": {"twin": "x"}}))  # fmt: skip
    async with asyncio.timeout(10):
        while part.maps.get("default/a-twin") is None:  # noqa: ASYNC110 - plain data
            await asyncio.sleep(0.01)
    assert lost
    assert part.made == ["default/a"]


class Waits(Controller):
    """Uses a resource that is not served."""

    name: ClassVar[str] = "waits"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        context.informers.of(Resource("example.test/v1", "things", "Thing"))

    async def sync(self, key: str) -> float | None:
        raise AssertionError("it must not begin")


async def test_a_resource_that_is_not_served_holds_up_only_who_needs_it(
    server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "FIRST_LISTS", 0.1)
    running = await server.start_parts([Waits, Twins])
    waits = running.parts[0]
    assert isinstance(waits, Waits)
    waits.queue.add("x")
    await server.create(CONFIG_MAPS, {"metadata": {"name": "a"}, "data": {"twin": "x"}})
    await server.until(CONFIG_MAPS, lambda found: any(
        value["metadata"]["name"] == "a-twin" for value in found))  # fmt: skip
    assert waits.queue.depth == 1
    assert any("things" in text for text in running.informers.errors())


async def test_one_of_two_leads_and_the_other_takes_over(server: Cluster) -> None:
    order: list[str] = []
    led = {name: asyncio.Event() for name in "ab"}

    async def work(name: str) -> None:
        order.append(name)
        led[name].set()
        await asyncio.Event().wait()

    def candidate(name: str) -> asyncio.Task[None]:
        election = Election(server.client, "kube-system", "test", name, QUICK)
        return asyncio.create_task(election.run(lambda: work(name)))

    async with asyncio.timeout(15):
        first = candidate("a")
        await led["a"].wait()
        second = candidate("b")
        # Longer than the lease: it is renewed.
        await asyncio.sleep(1.5)
        assert order == ["a"]
        first.cancel()
        await led["b"].wait()
    lease = await server.get(LEASES, "test", "kube-system")
    assert lease["spec"]["holderIdentity"] == "b"
    assert lease["spec"]["leaseTransitions"] == 1
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)


async def test_who_cannot_renew_stops_working(server: Cluster) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    election = Election(server.client, "kube-system", "test", "a", QUICK)
    task = asyncio.create_task(election.run(work))
    async with asyncio.timeout(10):
        await begun.wait()
        lease = await server.get(LEASES, "test", "kube-system")
        lease["spec"]["holderIdentity"] = "thief"
        while True:
            try:
                await server.client.update(LEASES.path("kube-system", "test"), lease)
                break
            except Exception:
                lease = await server.get(LEASES, "test", "kube-system")
                lease["spec"]["holderIdentity"] = "thief"
        with pytest.raises(LeadershipLostError):
            await task
    assert ended.is_set()


async def test_what_waits_for_a_time_is_looked_at_when_the_clock_is_set() -> None:
    looked: asyncio.Queue[str] = asyncio.Queue()

    async def look(key: str) -> float | None:
        looked.put_nowait(key)
        return 3600.0

    queue = WorkQueue("test", look)
    running = asyncio.create_task(queue.run())
    async with asyncio.timeout(10):
        queue.add("a")
        assert await looked.get() == "a"
        queue.add_after("b", 3600.0)
        await asyncio.sleep(0)
        queue.wake()
        assert {await looked.get(), await looked.get()} == {"a", "b"}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_the_clock_is_watched() -> None:
    with contextlib.closing(ClockChanges()) as changes:
        assert not changes.took_place()
        assert not os.get_inheritable(changes.fileno())
        text = Path(f"/proc/self/fdinfo/{changes.fileno()}").read_text()
    # TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, of CLOCK_REALTIME.
    assert "settime flags: 03" in text
    assert "clockid: 0" in text
