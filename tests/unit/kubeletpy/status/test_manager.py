"""What is sent to the API server about pods, and when."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kubeletpy.api.meta import ObjectMeta
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodCondition, PodStatus
from kubeletpy.sources.updates import API_SOURCE, CONFIG_SOURCE
from kubeletpy.status import manager as managers
from kubeletpy.status.manager import StatusManager
from kubeletpy_common.apiclient.errors import ApiError

PATH = "/api/v1/namespaces/default/pods/web"


class Server:
    """One pod of an API server: merges patches, as far as these tests need it."""

    def __init__(self) -> None:
        self.item: dict[str, Any] | None = {
            "metadata": {"uid": "u1", "resourceVersion": "1"},
            "status": {"phase": "Pending"},
        }
        self.calls: list[tuple[str, str]] = []
        self.sent: list[Any] = []
        self.faults: list[ApiError] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.most = self.now = 0

    async def turn(self) -> None: ...

    async def request(
        self, method: str, path: str, body: Any = None, **more: Any
    ) -> dict[str, Any]:
        self.calls.append((method, path))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
            if self.faults:
                raise self.faults.pop(0)
            if self.item is None:
                raise ApiError(404, "NotFound", "no such pod")
            if method == "PATCH":
                assert body["metadata"]["uid"] == self.item["metadata"]["uid"]
                self.sent.append(body["status"])
                self.merge(body["status"])
            elif method == "DELETE":
                self.sent.append(body)
                self.item = None
                return {}
            return copy.deepcopy(self.item)
        finally:
            self.now -= 1

    def merge(self, changes: dict[str, Any]) -> None:
        assert self.item is not None
        status = dict(self.item["status"])
        for name, value in changes.items():
            if not name.startswith("$"):
                status[name] = value
        self.item["status"] = {name: value for name, value in status.items() if value is not None}
        version = int(self.item["metadata"]["resourceVersion"]) + 1
        self.item["metadata"]["resourceVersion"] = str(version)


class Bench:
    def __init__(self) -> None:
        self.server = Server()
        self.statuses = StatusManager(self.server)
        meta = ObjectMeta(name="web", namespace="default", uid="u1")
        meta.annotations[CONFIG_SOURCE] = API_SOURCE
        self.pod = Pod(metadata=meta)

    def show(self) -> None:
        self.statuses.show("u1", copy.deepcopy(self.server.item))

    def publish(self, phase: str, **fields: Any) -> None:
        self.statuses.publish(self.pod, PodStatus(phase=phase, **fields))

    def phases(self) -> list[str]:
        return [each.get("phase") for each in self.server.sent]


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(managers, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(managers, "STARTING", 0.05)
    made = Bench()
    made.show()
    yield made
    await made.statuses.close()


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not check():  # noqa: ASYNC110 - plain data tells nobody that it has changed
            await asyncio.sleep(0.002)


async def test_a_status_that_is_refused_for_good_does_not_keep_the_pod(bench: Bench) -> None:
    assert bench.server.item is not None
    bench.server.item["metadata"]["deletionTimestamp"] = "2026-11-21T00:00:00Z"
    bench.show()
    refusal = ApiError(422, "Invalid", "status.containerStatuses[0]: Invalid value")
    bench.server.faults = [refusal]
    bench.publish("Failed")
    async with asyncio.timeout(30):
        await bench.statuses.finish(bench.pod)
    assert bench.server.item is None
    assert [method for method, _ in bench.server.calls][-1] == "DELETE"


async def test_a_status_is_sent_once(bench: Bench) -> None:
    bench.publish("Running", pod_ip="10.0.0.1")
    await until(lambda: bench.server.sent)
    assert bench.server.sent == [{"phase": "Running", "podIP": "10.0.0.1"}]
    bench.show()
    bench.publish("Running", pod_ip="10.0.0.1")
    await asyncio.sleep(0.02)
    assert len(bench.server.calls) == 1


async def test_it_waits_for_the_pod_to_be_seen(bench: Bench) -> None:
    late = StatusManager(bench.server)
    late.publish(bench.pod, PodStatus(phase="Running"))
    await asyncio.sleep(0.01)
    assert bench.server.calls == []
    late.show("u1", bench.server.item)
    await until(lambda: bench.server.sent)
    await late.close()


async def test_only_the_newest_goes_after_one_in_flight(bench: Bench) -> None:
    bench.server.gate.clear()
    bench.publish("Running")
    await until(lambda: bench.server.calls)
    for number in range(10):
        bench.publish("Running", message=str(number))
    bench.publish("Failed", reason="Evicted")
    bench.server.gate.set()
    await until(lambda: len(bench.server.sent) == 2)
    assert bench.phases() == ["Running", "Failed"]
    assert bench.server.most == 1


async def test_states_of_a_start_go_along_with_what_follows_soon(bench: Bench) -> None:
    bench.publish("Pending", host_ip="10.0.0.9")
    await asyncio.sleep(0.005)
    bench.publish("Pending", host_ip="10.0.0.9", pod_ip="10.0.0.1")
    await asyncio.sleep(0.005)
    bench.publish("Running", host_ip="10.0.0.9", pod_ip="10.0.0.1")
    await until(lambda: bench.server.sent)
    assert bench.phases() == ["Running"]


async def test_a_start_that_takes_long_is_told(bench: Bench) -> None:
    bench.publish("Pending", host_ip="10.0.0.9")
    await until(lambda: bench.server.sent)
    assert bench.server.sent == [{"hostIP": "10.0.0.9"}]


@pytest.mark.parametrize(
    "fault",
    [ApiError(0, "Unreachable", "away"), ApiError(500, "", "broken"), ApiError(429, "", "busy")],
)
async def test_it_is_tried_until_taken(bench: Bench, fault: ApiError) -> None:
    bench.server.faults = [fault] * 3
    bench.publish("Running")
    await until(lambda: bench.server.sent)
    assert len(bench.server.calls) == 4


async def test_a_phase_never_goes_backwards(bench: Bench) -> None:
    bench.publish("Failed")
    await until(lambda: bench.server.sent)
    bench.publish("Running", message="late")
    await asyncio.sleep(0.02)
    assert bench.phases() == ["Failed"]


async def test_what_others_write_over_it_is_put_right(bench: Bench) -> None:
    bench.publish("Running")
    await until(lambda: bench.server.sent)
    bench.server.merge({"phase": "Pending"})
    bench.show()
    await until(lambda: len(bench.server.sent) == 2)
    assert bench.phases() == ["Running", "Running"]


async def test_an_old_event_is_no_reason_to_send_again(bench: Bench) -> None:
    old = copy.deepcopy(bench.server.item)
    bench.publish("Running")
    await until(lambda: bench.server.sent)
    bench.statuses.show("u1", old)
    await asyncio.sleep(0.02)
    assert len(bench.server.calls) == 1


async def test_what_the_server_does_not_take_over_is_not_sent_for_ever(bench: Bench) -> None:
    merge = bench.server.merge

    def deaf(changes: dict[str, Any]) -> None:
        merge({name: value for name, value in changes.items() if name != "observedGeneration"})

    bench.server.merge = deaf  # type: ignore[method-assign]
    bench.publish("Running", observed_generation=3)
    await until(lambda: bench.server.sent)
    bench.show()
    await asyncio.sleep(0.02)
    assert len(bench.server.calls) == 1
    bench.publish("Failed", observed_generation=3)
    await until(lambda: len(bench.server.sent) == 2)


async def test_conditions_of_others_stay(bench: Bench) -> None:
    gate = PodCondition(type="example.org/gate", status="True")
    bench.publish("Running", conditions=[gate, PodCondition(type="Ready", status="True")])
    await until(lambda: bench.server.sent)
    (sent,) = bench.server.sent
    assert [one["type"] for one in sent["conditions"]] == ["Ready"]


async def test_a_deleted_pod_goes_once_its_last_status_is_taken(bench: Bench) -> None:
    assert bench.server.item is not None
    bench.server.item["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    bench.show()
    bench.server.gate.clear()
    bench.publish("Succeeded")
    finish = asyncio.create_task(bench.statuses.finish(bench.pod))
    await until(lambda: bench.server.calls)
    bench.server.faults = [ApiError(0, "Unreachable", "away")]
    bench.server.gate.set()
    async with asyncio.timeout(30):
        await finish
    patch, options = bench.server.sent
    assert patch["phase"] == "Succeeded"
    assert options["gracePeriodSeconds"] == 0
    assert options["preconditions"] == {"uid": "u1"}
    bench.statuses.show("u1", None)
    bench.statuses.gone(bench.pod)
    assert bench.statuses._entries == {}


async def test_a_pod_that_is_gone_already_is_not_waited_for(bench: Bench) -> None:
    bench.server.item = None
    bench.publish("Succeeded")
    await until(lambda: bench.server.calls)
    async with asyncio.timeout(30):
        await bench.statuses.finish(bench.pod)
    assert bench.server.sent == []


async def test_a_namesake_is_left_alone(bench: Bench) -> None:
    assert bench.server.item is not None
    bench.server.item["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    bench.show()
    bench.server.item["metadata"]["uid"] = "u2"
    bench.server.faults = [ApiError(409, "Conflict", "the UID in the precondition")]
    bench.publish("Succeeded")
    async with asyncio.timeout(30):
        await bench.statuses.finish(bench.pod)
    assert bench.server.sent == []
