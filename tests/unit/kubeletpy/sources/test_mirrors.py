"""Mirror pods: made, kept and removed."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from kubeletpy.api.meta import ObjectMeta
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodStatus
from kubeletpy.sources import mirrors as module
from kubeletpy.sources.mirrors import Mirrors, Step, mirror_of, next_step
from kubeletpy_common.apiclient.errors import ApiError

NAME = "default/web-n1"


def static(version: str = "h1") -> Pod:
    annotations = {"kubernetes.io/config.hash": version, "kubernetes.io/config.source": "file"}
    meta = ObjectMeta(
        name="web-n1", namespace="default", uid=version, annotations=annotations, labels={"a": "b"}
    )
    return Pod(metadata=meta)


def mirror(version: str = "h1", uid: str = "m1", **metadata: Any) -> dict[str, Any]:
    made = mirror_of(static(version), "n1", "node-uid")
    made["metadata"] |= {"uid": uid, **metadata}
    return made


GOING = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("pod", "item", "known", "step"),
    [
        (None, None, True, Step.NONE),
        (static(), None, True, Step.CREATE),
        (static(), None, False, Step.NONE),
        (static(), mirror(), True, Step.NONE),
        (static("h2"), mirror(), True, Step.DELETE),
        (static(), mirror(**GOING), True, Step.DELETE),
        (None, mirror(), True, Step.DELETE),
        (None, mirror(), False, Step.NONE),
    ],
)
def test_next_step(pod: Pod | None, item: Any, known: bool, step: Step) -> None:
    assert next_step(pod, item, known) is step


def test_a_mirror_is_marked_and_owned_by_the_node() -> None:
    metadata = mirror()["metadata"]
    assert metadata["annotations"]["kubernetes.io/config.mirror"] == "h1"
    assert metadata["labels"] == {"a": "b"}
    assert metadata["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "node-uid", "controller": True}
    ]


class Server:
    """Pods of an API server whose watch is told to ``Mirrors`` at once."""

    def __init__(self) -> None:
        self.item: dict[str, Any] | None = None
        self.calls: list[str] = []
        self.faults: list[ApiError] = []
        self.seen: Callable[[str, Mapping[str, Any] | None], None] = lambda uid, item: None

    async def turn(self) -> None: ...

    async def request(
        self, method: str, path: str, body: Any = None, **more: Any
    ) -> dict[str, Any]:
        await asyncio.sleep(0)
        if method == "GET":
            return {"metadata": {"uid": "node-uid"}}
        self.calls.append(method)
        if self.faults:
            raise self.faults.pop(0)
        if method == "POST":
            assert self.item is None
            self.item = copy.deepcopy(body)
            self.item["metadata"]["uid"] = f"m{self.calls.count('POST')}"
            self.seen(self.item["metadata"]["uid"], self.item)
        if method == "DELETE":
            assert self.item is not None
            assert body["preconditions"]["uid"] == self.item["metadata"]["uid"]
            assert body["gracePeriodSeconds"] == 0
            uid, self.item = self.item["metadata"]["uid"], None
            self.seen(uid, None)
        return {}


class Bench:
    def __init__(self) -> None:
        self.server = Server()
        self.shown: list[tuple[str, str]] = []
        self.wanted = False
        self.mirrors = Mirrors(self.server, "n1", self.show, lambda name: self.wanted)
        self.mirrors.settled()
        self.server.seen = self.mirrors.seen

    def show(self, uid: str, item: Mapping[str, Any] | None) -> None:
        self.shown.append((uid, item["metadata"]["uid"] if item else ""))


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.001)
    made = Bench()
    yield made
    await made.mirrors.close()


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not check():  # noqa: ASYNC110 - plain data tells nobody that it has changed
            await asyncio.sleep(0.002)


async def test_made_once_the_server_was_heard_and_removed_with_the_pod(bench: Bench) -> None:
    bench.mirrors.published(static(), PodStatus())
    await asyncio.sleep(0.01)
    assert bench.server.calls == []
    bench.mirrors.synced()
    await until(lambda: bench.shown)
    assert bench.shown == [("h1", "m1")]
    bench.mirrors.published(static(), PodStatus(phase="Running"))
    bench.mirrors.gone(static())
    await until(lambda: bench.server.calls == ["POST", "DELETE"])
    assert bench.shown == [("h1", "m1"), ("h1", "")]
    await until(lambda: bench.mirrors._entries == {})


async def test_another_version_and_a_deletion_by_others_make_it_anew(bench: Bench) -> None:
    bench.mirrors.synced()
    bench.mirrors.published(static(), PodStatus())
    await until(lambda: bench.server.item)
    assert bench.server.item is not None
    bench.server.item["metadata"] |= GOING
    bench.mirrors.seen("m1", bench.server.item)
    await until(lambda: bench.shown[-1] == ("h1", "m2"))
    bench.mirrors.gone(static())
    bench.mirrors.published(static("h2"), PodStatus())
    await until(lambda: bench.shown[-1] == ("h2", "m3"))
    assert bench.server.calls == ["POST", "DELETE", "POST", "DELETE", "POST"]


async def test_it_is_tried_until_it_works(bench: Bench) -> None:
    bench.server.faults = [ApiError(404, "NotFound", "no such namespace"), ApiError(0, "", "away")]
    bench.mirrors.synced()
    bench.mirrors.published(static(), PodStatus())
    await until(lambda: bench.server.item)
    assert bench.server.calls == ["POST"] * 3


async def test_one_of_an_earlier_kubelet_that_stands_for_nothing_goes(bench: Bench) -> None:
    bench.server.item = mirror()
    bench.mirrors.seen("m1", bench.server.item)
    bench.mirrors.synced()
    await until(lambda: bench.server.item is None)


async def test_after_a_restart_a_mirror_waits_for_its_pod_to_be_adopted(bench: Bench) -> None:
    bench.server.item = mirror()
    bench.wanted = True
    bench.mirrors.seen("m1", bench.server.item)
    bench.mirrors.synced()
    await asyncio.sleep(0.01)
    bench.mirrors.published(static(), PodStatus())
    await asyncio.sleep(0.01)
    assert bench.server.calls == []
    assert bench.shown == [("h1", "m1")]
