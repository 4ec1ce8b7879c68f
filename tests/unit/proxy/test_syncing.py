"""When rules are written, what of them, and what follows a failure."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from proxy import syncing
from proxy.backend import RuleOptions, Synced, Wanted
from proxy.conntrack import flows
from proxy.conntrack.flows import Removed, Stale
from proxy.model.portal import Family, PortalName
from proxy.model.portals import Model
from proxy.syncing import Outcome, Pace, Syncer
from tests.unit.proxy.fakes import Remembering, endpoint, endpoint_slice, service

AT_ONCE = Pace(shortest=0.0, period=30.0)
WEB = PortalName("default", "web", "", "TCP")


class Seen:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.queued_count = 0
        self.outcomes: list[Outcome] = []
        self.looks = 0
        self.removed: list[Removed] = []
        self._changed = asyncio.Condition()

    def queued(self, _: Family) -> None:
        self.queued_count += 1

    def ended(self, _: Family, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._notify()

    def current(self, _: Family) -> None:
        self.looks += 1
        self._notify()

    def forgot(self, _: Family, removed: Removed) -> None:
        self.removed.append(removed)
        self._notify()

    def _notify(self) -> None:
        async def notify() -> None:
            async with self._changed:
                self._changed.notify_all()

        self._task = asyncio.ensure_future(notify())

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(condition)


class Running:
    def __init__(self, model: Model, backend: Remembering, seen: Seen, syncer: Syncer) -> None:
        self.model, self.backend, self.seen, self.syncer = model, backend, seen, syncer

    async def ended(self, count: int) -> None:
        await self.seen.until(lambda: len(self.seen.outcomes) >= count)


@contextlib.asynccontextmanager
async def running(
    pace: Pace = AT_ONCE, backend: Remembering | None = None
) -> AsyncIterator[Running]:
    model, backend, seen = Model("here"), backend or Remembering(), Seen()
    model.put_service(service())
    model.put_slice(endpoint_slice(endpoint("10.1.0.1")))
    syncer = Syncer(model, backend, RuleOptions(Family.V4), pace, seen)
    task = asyncio.create_task(syncer.run())
    try:
        yield Running(model, backend, seen, syncer)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await syncer.close(5)
    assert backend.closed


async def test_the_first_is_full_and_those_that_follow_are_of_what_changed() -> None:
    async with running() as one:
        await one.ended(1)
        assert one.backend.wanted[0].full
        one.model.put_slice(endpoint_slice(endpoint("10.1.0.2")))
        one.syncer.poke()
        await one.ended(2)
        assert [wanted.full for wanted in one.backend.wanted] == [True, False]
        assert one.backend.wanted[1].changed == {WEB}
        assert one.backend.rules == dict(one.model.portals(Family.V4))


async def test_nothing_is_written_where_nothing_changed() -> None:
    async with running() as one:
        await one.ended(1)
        one.model.put_slice(endpoint_slice(endpoint("10.1.0.1", zone="elsewhere")))
        one.syncer.poke()
        one.model.put_service(service("other", clusterIP="10.0.0.2"))
        one.syncer.poke()
        await one.ended(2)
        assert [set(wanted.changed) for wanted in one.backend.wanted[1:]] == [
            {PortalName("default", "other", "", "TCP")}
        ]


async def test_a_burst_is_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first change is carried out at once, the rest of the burst in one sync."""
    async with running(Pace(shortest=0.3)) as one:
        await one.ended(1)
        begun = asyncio.get_running_loop().time()
        for number in range(50):
            one.model.put_service(service(f"s{number}", clusterIP=f"10.0.1.{number}"))
            one.syncer.poke()
            await asyncio.sleep(0)
        await one.seen.until(lambda: len(one.backend.rules) == 51)
        assert len(one.backend.wanted) <= 3
        assert asyncio.get_running_loop().time() - begun < 2


@pytest.mark.parametrize(
    ("begins", "expected"),
    [
        ([10.0], [10.0]),
        ([10.0, 10.1], [10.0, 11.0]),
        ([10.0, 10.1, 11.0, 12.0], [10.0, 11.0, 12.0, 13.0]),
        ([10.0, 10.1, 20.0], [10.0, 11.0, 20.0]),
    ],
)
def test_two_syncs_may_follow_each_other_and_then_one_a_second(
    begins: list[float], expected: list[float]
) -> None:
    allowed, found = 0.0, []
    for begun in begins:
        allowed = syncing.earliest_next(allowed, begun, 1.0)
        found.append(allowed)
    assert found == pytest.approx(expected)


async def test_after_a_failure_everything_is_written_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(syncing, "FIRST_RETRY", 0.01)
    async with running() as one:
        await one.ended(1)
        one.backend.failing = 2
        before = dict(one.backend.rules)
        one.model.put_slice(endpoint_slice(endpoint("10.1.0.2")))
        with caplog.at_level(logging.INFO):
            one.syncer.poke()
            await one.ended(2)
            assert one.backend.rules == before
            assert one.seen.outcomes[1].synced is None
            await one.ended(4)
        assert [wanted.full for wanted in one.backend.wanted] == [True, False, True, True]
        assert all(WEB in wanted.changed for wanted in one.backend.wanted[1:])
        assert one.backend.rules == dict(one.model.portals(Family.V4))
        told = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert [record.__dict__["fields"]["reason"] for record in told] == [
            "line 7: no such chain"
        ] * 2
        pauses = [record.__dict__["fields"]["retry_seconds"] for record in told]
        assert pauses == [0.01, 0.02]


async def test_trigger_times_survive_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "FIRST_RETRY", 0.01)
    async with running() as one:
        await one.ended(1)
        one.backend.failing = 1
        annotations = {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"}
        one.model.put_slice(
            endpoint_slice(endpoint("10.1.0.2"), metadata={"annotations": annotations})
        )
        one.syncer.poke()
        await one.ended(3)
        assert [outcome.triggers for outcome in one.seen.outcomes[1:]] == [(), (1767225600.0,)]


async def test_trigger_times_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "FIRST_RETRY", 0.01)
    monkeypatch.setattr(syncing, "MOST_TRIGGERS", 2)
    async with running() as one:
        await one.ended(1)
        one.backend.failing = 1
        for number in range(4):
            when = f"2026-01-01T00:00:0{number}Z"
            about = {"annotations": {"endpoints.kubernetes.io/last-change-trigger-time": when}}
            one.model.put_slice(endpoint_slice(endpoint(f"10.1.0.{number + 2}"), metadata=about))
        one.syncer.poke()
        await one.ended(3)
        assert one.seen.outcomes[2].triggers == (1767225602.0, 1767225603.0)


async def test_stale_flows_are_removed_after_rules_were_written(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[tuple[Stale, int]] = []
    backend = Remembering()

    def remove(found: Stale) -> Removed:
        asked.append((found, len(backend.wanted)))
        if len(asked) == 2:
            raise PermissionError(1, "Operation not permitted")
        return Removed(3, 7, 0.1)

    monkeypatch.setattr(flows, "remove", remove)
    udp: Any = {"ports": [{"port": 53, "protocol": "UDP"}]}
    async with running(backend=backend) as one:
        await one.ended(1)
        # Flows of TCP end by themselves.
        assert not asked
        one.model.put_service(service("dns", clusterIP="10.0.0.2", **udp))
        one.syncer.poke()
        await one.seen.until(lambda: bool(one.seen.removed))
        assert one.seen.removed == [Removed(3, 7, 0.1)]
        assert asked[0][1] == 2
        ports = [{"name": "", "port": 53, "protocol": "UDP"}]
        one.model.put_slice(endpoint_slice(endpoint("10.1.0.9"), service_name="dns", name="d",
                                           ports=ports))  # fmt: skip
        one.syncer.poke()
        await one.ended(3)
        one.model.put_service(service("other", clusterIP="10.0.0.3"))
        one.syncer.poke()
        await one.ended(4)
        assert len(asked) == 2
        assert one.seen.outcomes[2].synced is not None
    assert any("stale flows could not be removed" in each.message for each in caplog.records)


async def test_doubt_has_everything_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "DOUBT_PAUSE", 0.05)
    async with running() as one:
        await one.ended(1)
        begun = asyncio.get_running_loop().time()
        assert one.backend.watched is not None
        # The kernel's messages come in another thread.
        await asyncio.to_thread(one.backend.watched, "somebody flushed a chain")
        await one.ended(2)
        assert one.backend.wanted[1].full
        # Who changes them again and again has this much of us and no more.
        for count in (3, 4):
            one.backend.watched("and again")
            await one.ended(count)
        assert asyncio.get_running_loop().time() - begun > 0.1


async def test_changes_without_end_do_not_keep_it_from_looking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(syncing, "LOOK_PERIOD", 0.02)
    backend = Remembering()
    monkeypatch.setattr(backend, "watch", lambda _: None)
    async with running(backend=backend) as one:
        await one.ended(1)
        backend.there = False
        for number in range(200):
            one.model.put_service(service(f"s{number}", clusterIP=f"10.0.1.{number}"))
            one.syncer.poke()
            await one.ended(number + 2)
            if one.backend.wanted[-1].full:
                break
        assert one.backend.wanted[-1].full


async def test_rules_that_vanished_come_back_where_nobody_tells() -> None:
    async with running(Pace(shortest=0.0, period=0.02)) as one:
        await one.ended(1)
        await one.seen.until(lambda: one.seen.looks > 0)
        one.backend.there = False
        await one.ended(2)
        assert one.backend.wanted[1].full


async def test_all_is_written_anew_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "FULL_PERIOD", 0.0)
    async with running(Pace(shortest=0.0, period=0.02)) as one:
        await one.ended(2)
        assert one.backend.wanted[1].full


async def test_other_options_have_another_backend_write_everything() -> None:
    async with running() as one:
        await one.ended(1)
        other = Remembering()
        options = RuleOptions(Family.V4, masquerade_all=True)
        one.syncer.change(other, options)
        assert one.syncer.options == options
        await one.ended(2)
        assert one.backend.closed
        assert [wanted.full for wanted in other.wanted] == [True]


async def test_what_is_being_synced_does_not_change_meanwhile() -> None:
    """The thread reads the portals while the loop goes on."""

    class Slow(Remembering):
        def __init__(self) -> None:
            super().__init__()
            self.entered, self.go_on = threading.Event(), threading.Event()
            self.sizes: list[int] = []

        def sync(self, wanted: Wanted) -> Synced:
            before = len(wanted.portals)
            self.entered.set()
            assert self.go_on.wait(10)
            self.sizes.append(len(wanted.portals) - before)
            return super().sync(wanted)

    backend = Slow()
    async with running(backend=backend) as one:
        await asyncio.to_thread(backend.entered.wait, 10)
        one.model.put_service(service("other", clusterIP="10.0.0.2"))
        one.model.take(Family.V4)
        backend.go_on.set()
        await one.ended(1)
        assert backend.sizes == [0]
