"""Which instance of a pod runs: adopted, replaced, ended; one at any time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from kubeletpy.api.pod import Pod
from kubeletpy.cri.events import ContainerEvents, EventsUnsupported
from kubeletpy.pods import manager as managers
from kubeletpy.pods.manager import PodManager
from kubeletpy.probes.http import HttpClient
from kubeletpy.sources.updates import PodChange, PodUpdates
from kubeletpy_proto import cri_pb2

from .build import pod
from .memory_runtime import MemoryEnvironment, MemoryRuntime, tools


def named(name: str, uid: str) -> Pod:
    made = pod("a", termination_grace_period_seconds=1)
    made.metadata.name, made.metadata.uid = name, uid
    return made


class Source:
    """A source of pods that a test feeds."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[PodUpdates] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[PodUpdates]:
        while True:
            yield await self.queue.get()


class Bench:
    def __init__(self, directory: Path, http: HttpClient) -> None:
        self.directory, self.http = directory, http
        self.runtime = MemoryRuntime()
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.source = Source()
        self.manager = PodManager(
            tools(self.runtime, MemoryEnvironment(), self.directory, self.http)
        )
        self.task = asyncio.create_task(self.manager.run({"file": self.source}))

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task

    def uids(self) -> set[str]:
        return {one.metadata.uid for one in self.runtime.sandboxes.values()}

    def running(self) -> set[str]:
        return {
            self.runtime.sandboxes[self.runtime.boxes[one.id]].metadata.uid
            for one in self.runtime.containers.values()
            if one.state == cri_pb2.CONTAINER_RUNNING
        }


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110 - plain data tells nobody that it has changed
            await asyncio.sleep(0.005)


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async def unsupported(self: ContainerEvents) -> AsyncIterator[object]:
        raise EventsUnsupported("plain data")
        yield

    monkeypatch.setattr(ContainerEvents, "__aiter__", unsupported)
    monkeypatch.setattr(managers, "RELIST_WITHOUT_EVENTS", 0.02)
    http = HttpClient()
    made = Bench(tmp_path, http)
    made.start()
    yield made
    await made.stop()
    await http.close()


async def test_added_changed_removed(bench: Bench) -> None:
    one, two = named("web", "u1"), named("web", "u2")
    bench.source.queue.put_nowait(PodUpdates(added=(one,)))
    await until(lambda: bench.running() == {"u1"})
    bench.source.queue.put_nowait(PodUpdates(changed=(PodChange(one, two),)))
    await until(lambda: bench.running() == {"u2"})
    await until(lambda: bench.uids() == {"u2"})
    bench.source.queue.put_nowait(PodUpdates(removed=(two,)))
    await until(lambda: not bench.runtime.sandboxes and not bench.manager.pods())


async def test_of_many_changes_the_last_counts_and_no_two_run_together(bench: Bench) -> None:
    versions = [named("web", f"u{number}") for number in range(50)]
    bench.source.queue.put_nowait(PodUpdates(added=(versions[0],)))
    await until(lambda: bench.running() == {"u0"})
    for old, new in itertools.pairwise(versions):
        bench.source.queue.put_nowait(PodUpdates(changed=(PodChange(old, new),)))

    def last_runs() -> bool:
        assert len(bench.running()) <= 1
        assert len(bench.uids()) <= 1
        return bench.running() == {"u49"}

    await until(last_runs)
    assert sum(call.startswith("RunPodSandbox") for call in bench.runtime.calls) <= 3


async def test_restart_adopts_what_is_wanted_and_ends_what_is_not(bench: Bench) -> None:
    kept, gone = named("kept", "u1"), named("gone", "u2")
    bench.source.queue.put_nowait(PodUpdates(added=(kept, gone)))
    await until(lambda: bench.running() == {"u1", "u2"})
    await bench.stop()
    assert bench.running() == {"u1", "u2"}
    calls = len(bench.runtime.calls)
    bench.start()
    await asyncio.sleep(0.1)
    assert len(bench.runtime.calls) == calls, "nothing may end before the source has spoken"
    bench.source.queue.put_nowait(PodUpdates(added=(kept,)))
    await until(lambda: bench.running() == {"u1"})
    assert not any(call.startswith("RunPodSandbox") for call in bench.runtime.calls[calls:])


async def test_changed_while_away_with_the_same_uid(bench: Bench) -> None:
    before, after = named("web", "u1"), named("web", "u1")
    before.metadata.annotations["kubernetes.io/config.hash"] = "1"
    after.metadata.annotations["kubernetes.io/config.hash"] = "2"
    bench.source.queue.put_nowait(PodUpdates(added=(before,)))
    await until(lambda: bench.running() == {"u1"})
    (sandbox,) = bench.runtime.sandboxes.values()
    created = sandbox.created_at
    await bench.stop()
    bench.start()
    bench.source.queue.put_nowait(PodUpdates(added=(after,)))
    await until(
        lambda: (
            bench.running() == {"u1"}
            and all(one.created_at != created for one in bench.runtime.sandboxes.values())
        )
    )


async def test_stranger_is_ended(bench: Bench) -> None:
    bench.source.queue.put_nowait(PodUpdates())
    identity = {
        "io.kubernetes.pod.uid": "x",
        "io.kubernetes.pod.name": "x",
        "io.kubernetes.pod.namespace": "default",
    }
    meta = cri_pb2.PodSandboxMetadata(uid="x", name="x", namespace="default")
    await bench.runtime.run_pod_sandbox(cri_pb2.PodSandboxConfig(metadata=meta, labels=identity))
    await until(lambda: not bench.runtime.sandboxes)


async def test_terminate_all_also_ends_what_was_not_adopted_yet(bench: Bench) -> None:
    bench.source.queue.put_nowait(PodUpdates(added=(named("one", "u1"), named("two", "u2"))))
    await until(lambda: bench.running() == {"u1", "u2"})
    await bench.stop()
    bench.start()
    assert await bench.manager.terminate_all(5)
    assert bench.runtime.sandboxes == {}
    bench.source.queue.put_nowait(PodUpdates(added=(named("one", "u1"),)))
    await asyncio.sleep(0.05)
    assert bench.runtime.sandboxes == {}


async def test_terminate_all_tells_what_it_cannot_end(bench: Bench) -> None:
    bench.source.queue.put_nowait(PodUpdates(added=(named("one", "u1"),)))
    await until(lambda: bench.running() == {"u1"})
    bench.runtime.refuse["StopContainer"] = "no"
    assert not await bench.manager.terminate_all(0.2)


async def test_waiting_instance_is_listed_as_pending(bench: Bench) -> None:
    one, two = named("web", "u1"), named("web", "u2")
    bench.source.queue.put_nowait(PodUpdates(added=(one,)))
    await until(lambda: bench.running() == {"u1"})
    bench.runtime.hang.add("StopContainer")
    bench.source.queue.put_nowait(PodUpdates(changed=(PodChange(one, two),)))
    await until(lambda: len(bench.manager.pods()) == 2)
    assert [one.metadata.uid for one in bench.manager.pods()] == ["u1", "u2"]
