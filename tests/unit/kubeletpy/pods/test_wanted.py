"""Which of two pods of one name shall be; and pods of a source that is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubeletpy.api.pod import Pod
from kubeletpy.cri.events import ContainerEvents, EventsUnsupported
from kubeletpy.pods import runtime_watch
from kubeletpy.pods.manager import PodManager
from kubeletpy.pods.wanted import Wanted, slot_of
from kubeletpy.probes.http import HttpClient
from kubeletpy.sources.updates import PodUpdates, SourceError

from .memory_runtime import MemoryEnvironment, MemoryRuntime, tools
from .test_manager import Source, named, until


def of(source: str, uid: str, name: str = "web") -> Pod:
    made = named(name, uid)
    made.metadata.annotations["kubernetes.io/config.source"] = source
    return made


def test_the_first_source_has_the_name_until_it_lets_go() -> None:
    wanted, file, http = Wanted(), of("file", "f"), of("http", "h")
    assert wanted.put(file) is None
    assert wanted.put(http) is file
    newer = of("http", "h2")
    assert wanted.put(newer) is file
    wanted.drop(http)
    assert wanted[slot_of(file)] is file
    wanted.drop(file)
    assert wanted[slot_of(file)] is newer
    wanted.drop(newer)
    assert not wanted


def test_one_that_waits_can_go_and_pods_of_the_api_server_have_their_own_place() -> None:
    wanted, file, http, api = Wanted(), of("file", "f"), of("http", "h"), of("api", "a")
    assert [wanted.put(one) for one in (file, http, api)] == [None, file, None]
    wanted.drop(http)
    wanted.drop(file)
    assert list(wanted.values()) == [api]


class Bench:
    def __init__(self, directory: Path, http: HttpClient) -> None:
        self.runtime, self.directory, self.http = MemoryRuntime(), directory, http

    @contextlib.asynccontextmanager
    async def kubelet(self) -> AsyncIterator[PodManager]:
        self.file, self.url = Source(), Source()
        manager = PodManager(tools(self.runtime, MemoryEnvironment(), self.directory, self.http))
        task = asyncio.create_task(manager.run({"file": self.file, "http": self.url}))
        try:
            yield manager
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async def unsupported(self: ContainerEvents) -> AsyncIterator[object]:
        raise EventsUnsupported("plain data")
        yield

    monkeypatch.setattr(ContainerEvents, "__aiter__", unsupported)
    monkeypatch.setattr(runtime_watch, "RELIST_WITHOUT_EVENTS", 0.02)
    http = HttpClient()
    yield Bench(tmp_path, http)
    await http.close()


async def test_pods_of_a_url_go_on_while_it_is_away_at_a_restart(bench: Bench) -> None:
    def uids() -> set[str]:
        return {one.metadata.uid for one in bench.runtime.sandboxes.values()}

    async with bench.kubelet():
        bench.file.queue.put_nowait(PodUpdates(added=(of("file", "f", "a"),)))
        bench.url.queue.put_nowait(PodUpdates(added=(of("http", "h", "b"),)))
        await until(lambda: uids() == {"f", "h"})
    calls = len(bench.runtime.calls)
    async with bench.kubelet() as manager:
        bench.file.queue.put_nowait(PodUpdates(added=(of("file", "f", "a"),)))
        await until(lambda: len(manager.pods()) == 2)
        assert manager.adopted.is_set()
        error = SourceError("http://u", "away", kept="default/b", event="StaticPodURLFailed")
        bench.url.queue.put_nowait(PodUpdates(errors=(error,), heard=False))
        await until(lambda: manager._tools.recorder.events())
        assert not any(call.startswith("Run") for call in bench.runtime.calls[calls:])
        assert uids() == {"f", "h"}
        bench.url.queue.put_nowait(PodUpdates())
        await until(lambda: uids() == {"f"})


async def test_a_fault_of_a_source_is_told_on_the_pods_it_concerns(bench: Bench) -> None:
    async with bench.kubelet() as manager:
        bench.file.queue.put_nowait(PodUpdates())
        bench.url.queue.put_nowait(PodUpdates(added=(of("http", "h"), of("http", "i", "b"))))
        await until(lambda: len(manager.pods()) == 2)
        error = SourceError("http://u", "it answers 500", (), "default/b, default/c", "Failed")
        bench.url.queue.put_nowait(PodUpdates(errors=(error,)))
        recorder = manager._tools.recorder
        await until(lambda: [one for one in recorder.events() if one.reason == "Failed"])
        told = {one.involved_object.uid for one in recorder.events() if one.reason == "Failed"}
        assert "i" in told
        assert "h" not in told
