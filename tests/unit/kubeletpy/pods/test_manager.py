"""Which instance of a pod runs: adopted, replaced, ended; one at any time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kubeletpy.admission.predicates import Refusal
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodCondition, PodStatus
from kubeletpy.cri.events import ContainerEvents, EventsUnsupported
from kubeletpy.pods import manager as manager_module
from kubeletpy.pods import runtime_watch
from kubeletpy.pods.manager import PodManager
from kubeletpy.pods.observe import Listing, Observer
from kubeletpy.pods.state import Terminal
from kubeletpy.pods.worker import PodWorker
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

    def start(self, *, api: bool = False) -> None:
        self.source, self.api = Source(), Source()
        self.manager = PodManager(
            tools(self.runtime, MemoryEnvironment(), self.directory, self.http)
        )
        self.task = asyncio.create_task(
            self.manager.run(
                {"file": self.source, "api": self.api} if api else {"file": self.source}
            )
        )

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
    async with asyncio.timeout(30):
        while not check():  # noqa: ASYNC110 - plain data tells nobody that it has changed
            await asyncio.sleep(0.005)


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async def unsupported(self: ContainerEvents) -> AsyncIterator[object]:
        raise EventsUnsupported("plain data")
        yield

    monkeypatch.setattr(ContainerEvents, "__aiter__", unsupported)
    monkeypatch.setattr(runtime_watch, "RELIST_WITHOUT_EVENTS", 0.02)
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


async def test_a_list_that_is_older_than_the_end_of_a_pod_names_no_stranger(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = named("web", "u1")
    bench.source.queue.put_nowait(PodUpdates(added=(one,)))
    await until(lambda: bench.running() == {"u1"})
    made, gate, listing = asyncio.Event(), asyncio.Event(), Observer.listing

    async def slow(self: Observer) -> Listing:
        found = await listing(self)
        made.set()
        await gate.wait()
        return found

    monkeypatch.setattr(Observer, "listing", slow)
    await made.wait()
    bench.source.queue.put_nowait(PodUpdates(removed=(one,)))
    await until(lambda: not bench.runtime.sandboxes and not bench.manager.pods())
    listed = bench.manager._runtime.listing
    gate.set()
    await until(lambda: bench.manager._runtime.listing is not listed)
    assert bench.manager.workers.uids() == set()
    assert "nobody wants" not in caplog.text


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


def of_api(made: Pod, **status: object) -> Pod:
    made.metadata.annotations["kubernetes.io/config.source"] = "api"
    return made


def to_go(made: Pod, grace: int = 1) -> Pod:
    made.metadata.deletion_timestamp = datetime(2026, 1, 1, tzinfo=UTC)
    made.metadata.deletion_grace_period_seconds = grace
    return made


def status_of(bench: Bench, name: str) -> PodStatus | None:
    found = [one.status for one in bench.manager.pods() if one.metadata.name == name]
    return found[0] if found else None


async def test_a_refused_pod_is_told_and_seen_off(bench: Bench) -> None:
    seen_off: list[str] = []

    async def refuse(one: Pod, others: Sequence[Pod]) -> Refusal | None:
        return Refusal("OutOfcpu", "none left") if one.metadata.name == "big" else None

    async def farewell(one: Pod) -> None:
        seen_off.append(one.metadata.name)

    bench.manager.admission = refuse
    bench.manager._tools.farewells.append(farewell)
    big = of_api(named("big", "u1"))
    bench.source.queue.put_nowait(PodUpdates(added=(big, of_api(named("small", "u2")))))
    await until(lambda: bench.running() == {"u2"})
    status = status_of(bench, "big")
    assert status is not None
    assert (status.phase, status.reason) == ("Failed", "OutOfcpu")
    assert status.message == "Pod was rejected: none left"
    gone = to_go(of_api(named("big", "u1")))
    bench.source.queue.put_nowait(PodUpdates(changed=(PodChange(big, gone),)))
    await until(lambda: seen_off == ["big"])


async def test_admission_sees_who_holds_resources_and_one_at_a_time(bench: Bench) -> None:
    seen: list[int] = []

    async def note(one: Pod, others: Sequence[Pod]) -> Refusal | None:
        await asyncio.sleep(0)
        seen.append(len(others))
        return None

    bench.manager.admission = note
    pods = [of_api(named(f"p{number}", f"u{number}")) for number in range(4)]
    bench.source.queue.put_nowait(PodUpdates(added=tuple(pods)))
    await until(lambda: len(bench.running()) == 4)
    assert seen == [0, 1, 2, 3]


async def test_admission_does_not_count_what_the_api_server_has_no_more(bench: Bench) -> None:
    seen: dict[str, list[str]] = {}

    async def note(one: Pod, others: Sequence[Pod]) -> Refusal | None:
        seen[one.metadata.uid] = [other.metadata.uid for other in others]
        return None

    bench.manager.admission = note
    forced, asked = of_api(named("forced", "u1")), of_api(named("asked", "u2"))
    bench.source.queue.put_nowait(PodUpdates(added=(forced, asked)))
    await until(lambda: bench.running() == {"u1", "u2"})
    gently = to_go(of_api(named("asked", "u2")))
    bench.source.queue.put_nowait(
        PodUpdates(
            added=(of_api(named("new", "u3")),),
            changed=(PodChange(asked, gently),),
            removed=(forced,),
        )
    )
    await until(lambda: "u3" in seen)
    assert seen["u3"] == ["u2"]


async def test_a_defect_of_admission_refuses(bench: Bench) -> None:
    async def broken(one: Pod, others: Sequence[Pod]) -> Refusal | None:
        raise RuntimeError("defect")

    bench.manager.admission = broken
    bench.source.queue.put_nowait(PodUpdates(added=(of_api(named("web", "u1")),)))
    await until(lambda: (status_of(bench, "web") or PodStatus()).phase == "Failed")
    assert bench.running() == set()


async def break_worker(bench: Bench, uid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a worker meet a defect, once."""
    sound, broken = PodWorker._look_and_act, asyncio.Event()

    async def defect(self: PodWorker) -> float | None:
        monkeypatch.setattr(PodWorker, "_look_and_act", sound)
        broken.set()
        raise RuntimeError("defect")

    monkeypatch.setattr(PodWorker, "_look_and_act", defect)
    bench.manager.workers.wake(uid)
    await broken.wait()


async def test_a_worker_that_breaks_has_one_successor(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the pod changes meanwhile: the new version waits for the end of the old one."""
    monkeypatch.setattr(manager_module, "RELIST_RETRY", 0.05)
    first, second = named("web", "u1"), named("web", "u2")
    bench.source.queue.put_nowait(PodUpdates(added=(first,)))
    await until(lambda: bench.running() == {"u1"})
    calls = len(bench.runtime.calls)
    await break_worker(bench, "u1", monkeypatch)
    assert "u1" in bench.manager.workers
    bench.source.queue.put_nowait(PodUpdates(changed=(PodChange(first, second),)))
    await until(lambda: bench.running() == {"u2"} and bench.uids() == {"u2"})
    since = [call.split()[0] for call in bench.runtime.calls[calls:]]
    assert since.index("RemovePodSandbox") < since.index("RunPodSandbox")
    assert since.count("RunPodSandbox") == 1
    assert [one.metadata.uid for one in bench.manager.pods()] == ["u2"]


async def run_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Pod:
    """Run a pod whose worker has a successor soon, should it break; return it."""
    monkeypatch.setattr(manager_module, "RELIST_RETRY", 0.05)
    one = of_api(named("web", "u1"))
    bench.source.queue.put_nowait(PodUpdates(added=(one,)))
    await until(lambda: bench.running() == {"u1"})
    return one


async def test_who_waits_for_an_end_gets_it_from_the_successor(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await run_one(bench, monkeypatch)
    worker = bench.manager.workers.get("u1")
    assert worker is not None

    await break_worker(bench, "u1", monkeypatch)
    await until(lambda: bench.manager.workers.get("u1") is not worker)
    bench.source.queue.put_nowait(PodUpdates(removed=(one,)))
    async with asyncio.timeout(30):
        await worker.over.wait()
    assert bench.running() == set()


async def test_what_a_broken_worker_was_told_is_done_by_its_successor(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a preemption, which waits for the end and lets no other pod in before it."""
    one = await run_one(bench, monkeypatch)

    await break_worker(bench, "u1", monkeypatch)
    disruption = PodCondition(type="DisruptionTarget", status="True", reason="TerminationByKubelet")
    async with asyncio.timeout(30):
        await bench.manager.workers.end(one, Terminal("Failed", "Preempting", "x"), disruption)
    assert bench.running() == set()
    status = status_of(bench, "web")
    assert status is not None
    assert (status.phase, status.reason) == ("Failed", "Preempting")
    assert "DisruptionTarget" in {condition.type for condition in status.conditions}


async def test_a_deleted_pod_ends_and_is_not_started_again(bench: Bench) -> None:
    one = of_api(named("web", "u1"))
    bench.source.queue.put_nowait(PodUpdates(added=(one,)))
    await until(lambda: bench.running() == {"u1"})
    held = to_go(of_api(named("web", "u1")))
    held.metadata.finalizers = ["example.org/hold"]
    bench.source.queue.put_nowait(PodUpdates(changed=(PodChange(one, held),)))
    await until(lambda: not bench.runtime.sandboxes)
    freed = to_go(of_api(named("web", "u1")))
    bench.source.queue.put_nowait(PodUpdates(changed=(PodChange(held, freed),)))
    await asyncio.sleep(0.05)
    assert bench.runtime.sandboxes == {}
    assert sum(call.startswith("RunPodSandbox") for call in bench.runtime.calls) == 1


async def test_pods_go_on_from_checkpoints_while_the_api_server_is_away(bench: Bench) -> None:
    kept, gone = of_api(named("kept", "u1")), of_api(named("gone", "u2"))
    bench.source.queue.put_nowait(PodUpdates(added=(kept, gone)))
    await until(lambda: bench.running() == {"u1", "u2"})
    await bench.stop()
    bench.start(api=True)
    bench.source.queue.put_nowait(PodUpdates())
    calls = len(bench.runtime.calls)
    await until(lambda: len(bench.manager.pods()) == 2)
    bench.runtime.end("a", 1)
    # One of them is restarted, as nothing says that it must not be.
    await until(lambda: bench.running() == {"u1", "u2"})
    assert not any(call.startswith("RunPodSandbox") for call in bench.runtime.calls[calls:])
    bench.api.queue.put_nowait(PodUpdates(added=(kept,)))
    await until(lambda: bench.running() == {"u1"})
    assert not any(call.startswith("RunPodSandbox") for call in bench.runtime.calls[calls:])
