"""Filters, events, error codes, mount facts and the table of RPCs."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import grpc
import pytest

from kubeletpy_common.cgroups import CgroupError
from kubeletpy_proto import cri_pb2 as cri
from runtime.cri import serve
from runtime.cri.errors import (
    AbandonedError,
    SlowClientError,
    StoppingError,
    details_of,
    is_expected,
    status_of,
)
from runtime.cri.events import EventBroker
from runtime.cri.filters import (
    matches_container,
    matches_container_stats,
    matches_labels,
    matches_pod,
    matches_pod_stats,
)
from runtime.cri.host_paths import mount_point_of, parse_mountinfo
from runtime.images.errors import DigestMismatch, ImageNotFound, RegistryUnreachable
from runtime.state.records import ContainerRecord, ContainerState, SandboxRecord, SandboxState
from runtime.state.store import Container, NotFoundError, Pod

POD = Pod(
    SandboxRecord(id="aabb", name="n", state=SandboxState.READY, created_at=1, boot_id="b",
                  cgroup="/c"),
    cri.PodSandboxConfig(labels={"app": "web", "tier": "x"}),
)  # fmt: skip
CONTAINER = Container(
    ContainerRecord(id="ccdd", sandbox_id="aabb", name="m", state=ContainerState.STARTING,
                    created_at=1, cgroup="/c/d", image_id="i"),
    cri.ContainerConfig(labels={"app": "web"}),
    POD,
)  # fmt: skip
READY = cri.PodSandboxStateValue(state=cri.SANDBOX_READY)
NOT_READY = cri.PodSandboxStateValue(state=cri.SANDBOX_NOTREADY)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [({}, True), ({"a": "1"}, True), ({"a": "2"}, False), ({"b": ""}, False), ({"c": ""}, True)],
)
def test_label_selectors(selector: dict[str, str], expected: bool) -> None:
    assert matches_labels(selector, {"a": "1", "c": ""}) is expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"id": "aabb"}, True),
        ({"id": "aa"}, True),
        ({"id": "bb"}, False),
        ({"state": READY}, True),
        ({"state": NOT_READY}, False),
        ({"label_selector": {"app": "web"}}, True),
        ({"label_selector": {"app": "db"}}, False),
        ({"id": "aabb", "label_selector": {"app": "db"}}, False),
    ],
)
def test_pod_filters(fields: dict[str, Any], expected: bool) -> None:
    assert matches_pod(cri.PodSandboxFilter(**fields), POD) is expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"id": "cc"}, True),
        ({"id": "aa"}, False),
        ({"pod_sandbox_id": "aabb"}, True),
        ({"pod_sandbox_id": "bb"}, False),
        # What is being started is not running yet.
        ({"state": cri.ContainerStateValue(state=cri.CONTAINER_CREATED)}, True),
        ({"state": cri.ContainerStateValue(state=cri.CONTAINER_RUNNING)}, False),
        ({"label_selector": {"app": "web"}}, True),
        ({"label_selector": {"tier": "x"}}, False),
    ],
)
def test_container_filters(fields: dict[str, Any], expected: bool) -> None:
    assert matches_container(cri.ContainerFilter(**fields), CONTAINER) is expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"id": "cc"}, True),
        ({"id": "aa"}, False),
        ({"pod_sandbox_id": "aabb"}, True),
        ({"pod_sandbox_id": "bb"}, False),
        ({"label_selector": {"app": "web"}}, True),
        ({"label_selector": {"app": "db"}}, False),
    ],
)
def test_filters_of_statistics(fields: dict[str, Any], expected: bool) -> None:
    assert matches_container_stats(cri.ContainerStatsFilter(**fields), CONTAINER) is expected
    of_pod = {**fields, "id": fields.get("pod_sandbox_id", "aabb" if expected else "bb")}
    of_pod.pop("pod_sandbox_id", None)
    assert matches_pod_stats(cri.PodSandboxStatsFilter(**of_pod), POD) is expected


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFoundError("x"), grpc.StatusCode.NOT_FOUND),
        (ImageNotFound("x"), grpc.StatusCode.NOT_FOUND),
        (DigestMismatch("x"), grpc.StatusCode.DATA_LOSS),
        (RegistryUnreachable("x"), grpc.StatusCode.UNAVAILABLE),
        (CgroupError(errno.EINVAL, "/x", "bad"), grpc.StatusCode.INVALID_ARGUMENT),
        (CgroupError(errno.EBUSY, "/x", "busy"), grpc.StatusCode.INTERNAL),
        (OSError(errno.ENOSPC, "full"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (TimeoutError(), grpc.StatusCode.DEADLINE_EXCEEDED),
        (KeyError("bug"), grpc.StatusCode.INTERNAL),
    ],
)
def test_status_codes(error: Exception, code: grpc.StatusCode) -> None:
    assert status_of(error) is code
    assert details_of(error)


def test_details_name_the_reason_of_image_errors_and_are_bounded() -> None:
    assert details_of(DigestMismatch("blob x")) == "digest-mismatch: blob x"
    assert len(details_of(NotFoundError("x" * 9999))) == 4000


async def test_events_reach_every_client_in_order() -> None:
    broker = EventBroker(10)
    with broker.subscribe() as one, broker.subscribe() as two:
        for number in range(3):
            broker.publish(lambda n=number: cri.ContainerEventResponse(created_at=n))  # type: ignore[misc]
        for subscription in (one, two):
            stream = subscription.events()
            assert [(await anext(stream)).created_at for _ in range(3)] == [0, 1, 2]


async def test_a_slow_client_is_told_and_others_are_not_affected() -> None:
    broker = EventBroker(2)
    with broker.subscribe() as slow, broker.subscribe() as quick:
        stream = quick.events()
        for number in range(4):
            broker.publish(lambda n=number: cri.ContainerEventResponse(created_at=n))  # type: ignore[misc]
            assert (await anext(stream)).created_at == number
        with pytest.raises(SlowClientError, match="list the containers anew"):
            await anext(slow.events())


async def test_the_end_of_the_daemon_ends_the_waiting() -> None:
    broker = EventBroker(2)
    with broker.subscribe() as subscription:
        waiting = asyncio.ensure_future(anext(subscription.events()))
        await asyncio.sleep(0)
        broker.close()
        with pytest.raises(StoppingError):
            await waiting


def test_no_event_is_made_for_nobody() -> None:
    EventBroker(1).publish(lambda: pytest.fail("made"))


MOUNTINFO = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /run rw shared:5 - tmpfs tmpfs rw
31 30 0:26 / /run/with\\040space rw master:5 - tmpfs tmpfs rw
32 22 0:27 / /private rw - tmpfs tmpfs rw
33 22 0:28 / /private rw shared:9 master:1 - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", ("/", True, False)),
        ("/etc/x", ("/", True, False)),
        ("/run", ("/run", True, False)),
        ("/running", ("/", True, False)),
        ("/run/with space/x", ("/run/with space", False, True)),
        ("/private/x", ("/private", True, True)),
    ],
)
def test_mount_points(path: str, expected: tuple[str, bool, bool]) -> None:
    point = mount_point_of(path, parse_mountinfo(MOUNTINFO))
    assert (point.path, point.shared, point.slave) == expected


def test_every_function_is_registered_for_a_method_of_the_protocol_once() -> None:
    tables = [*serve.READS, *serve.COMMANDS, *serve.CHANGES, *serve.STREAMS]
    assert len(tables) == len(set(tables))
    methods = {
        method.name: method.server_streaming
        for service in cri.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert set(tables) <= set(methods)
    assert {name for name in tables if methods[name]} == set(serve.STREAMS)


class Keeper:
    """As much of the runtime as a change needs."""

    def keep(self, task: asyncio.Future[Any]) -> None:
        self.task = task


async def test_a_change_goes_on_when_its_caller_goes_away() -> None:
    keeper, begun, end = Keeper(), asyncio.Event(), asyncio.Event()

    async def change() -> str:
        begun.set()
        await end.wait()
        return "done"

    call = asyncio.create_task(serve._finish(keeper, change()))  # type: ignore[arg-type]
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    end.set()
    assert await keeper.task == "done"


async def test_a_change_that_is_given_up_within_is_no_caller_that_went_away() -> None:
    async def change() -> None:
        given_up = asyncio.get_running_loop().create_future()
        given_up.cancel()
        await given_up

    with pytest.raises(AbandonedError) as caught:
        await serve._finish(Keeper(), change())  # type: ignore[arg-type]
    # Told in full, as every defect is.
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert not is_expected(caught.value)
    assert status_of(caught.value) is grpc.StatusCode.INTERNAL
