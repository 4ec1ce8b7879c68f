"""What a worker does with a runtime that hangs, refuses and forgets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from kubeletpy.api.base import now
from kubeletpy.api.container import ExecAction, Lifecycle, LifecycleHandler
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import ContainerStatus, PodStatus
from kubeletpy.pods import memory, steps
from kubeletpy.pods.backoff import CrashLoop, Retry
from kubeletpy.pods.manager import desired_of
from kubeletpy.pods.tools import Tools
from kubeletpy.pods.worker import PodWorker
from kubeletpy.probes.http import HttpClient

from .build import container, pod
from .memory_runtime import MemoryEnvironment, MemoryRuntime, tools


class Bench:
    """Workers on one memory runtime."""

    def __init__(self, directory: Path, http: HttpClient) -> None:
        self.runtime = MemoryRuntime()
        self.environment = MemoryEnvironment()
        self.tools: Tools = tools(self.runtime, self.environment, directory, http)
        self.changed = asyncio.Condition()
        self.tasks: list[asyncio.Task[None]] = []
        self.workers: list[PodWorker] = []
        self.runtime.event = self._on_event
        self.follow: Callable[[PodStatus], object] = lambda status: None
        self._notes: set[asyncio.Task[None]] = set()

    def _on_event(self) -> None:
        for worker in self.workers:
            worker.refresh()

    def published(self, made: Pod, status: PodStatus) -> None:
        self.follow(status)
        task = asyncio.ensure_future(self._notify())
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    def run(self, made: Pod, uid: str = "u1") -> PodWorker:
        made.metadata.uid = uid
        saved = self.tools.checkpoints.load().get(uid)
        worker = PodWorker(desired_of(made, CrashLoop()), self.tools, saved, self.published)
        self.workers.append(worker)
        self.tasks.append(asyncio.create_task(worker.run()))
        return worker

    async def until(self, worker: PodWorker, check: Callable[[PodStatus], object]) -> PodStatus:
        async with asyncio.timeout(30), self.changed:
            await self.changed.wait_for(lambda: check(worker.status))
        return worker.status

    async def gone(self, number: int = -1) -> None:
        async with asyncio.timeout(8):
            await self.tasks[number]

    def reasons(self) -> list[str]:
        return [event.reason for event in self.tools.recorder.events()]


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(memory, "STEP", Retry(initial=0.05, maximum=60.0))
    http = HttpClient()
    made = Bench(tmp_path / "points", http)
    yield made
    for task in made.tasks:
        task.cancel()
    for task in made.tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await http.close()


def ready(status: PodStatus) -> bool:
    return any(one.type == "Ready" and one.status == "True" for one in status.conditions)


def first(status: PodStatus) -> ContainerStatus:
    return status.container_statuses[0]


def waits_for(reason: str) -> Callable[[PodStatus], object]:
    def check(status: PodStatus) -> bool:
        waiting = [one.state.waiting for one in status.container_statuses]
        return any(one is not None and one.reason == reason for one in waiting)

    return check


def hooked(
    post_start: LifecycleHandler | None = None, pre_stop: LifecycleHandler | None = None
) -> Lifecycle:
    return Lifecycle(post_start=post_start, pre_stop=pre_stop)


def command(*words: str) -> LifecycleHandler:
    return LifecycleHandler(exec=ExecAction(command=list(words)))


async def test_a_pod_runs_and_is_removed_in_order(bench: Bench) -> None:
    one = container("a", lifecycle=hooked(pre_stop=command("bye")))
    worker = bench.run(pod(one, "b", init=("i",)))
    await bench.until(worker, lambda status: status.init_container_statuses)
    await until_running(bench, worker, "i")
    bench.runtime.end("i", 0)
    await bench.until(worker, ready)
    worker.terminate()
    await bench.gone()
    order = [call.split()[0] for call in bench.runtime.calls]
    assert order[:3] == ["RunPodSandbox", "CreateContainer", "StartContainer"]
    assert order[-5:-1].count("StopContainer") == 2
    assert order.index("ExecSync") < len(order) - 1 - order[::-1].index("StopContainer")
    assert order[-2:] == ["StopPodSandbox", "RemovePodSandbox"]
    assert bench.environment.calls[-2:] == ["teardown", "purge"]
    assert (bench.runtime.sandboxes, bench.runtime.containers) == ({}, {})
    assert bench.tools.checkpoints.load() == {}


async def until_running(bench: Bench, worker: PodWorker, name: str) -> None:
    def check(status: PodStatus) -> bool:
        every = (*status.init_container_statuses, *status.container_statuses)
        return any(one.name == name and one.state.running is not None for one in every)

    await bench.until(worker, check)


@pytest.mark.parametrize(
    "call", ["RunPodSandbox", "CreateContainer", "StartContainer", "PullImage"]
)
async def test_a_hanging_call_holds_up_its_own_pod_only(bench: Bench, call: str) -> None:
    hung = container("slow", image_pull_policy="Always")
    bench.runtime.hang.add(f"{call}:{'web' if call == 'RunPodSandbox' else 'slow'}")
    bench.runtime.hang.add(f"{call}:slow:1")
    bench.run(pod(hung), "u1")
    other = pod("b")
    other.metadata.name = "other"
    worker = bench.run(other, "u2")
    await bench.until(worker, ready)


async def test_a_container_that_cannot_be_stopped_holds_up_its_own_pod_only(bench: Bench) -> None:
    stuck = bench.run(pod("a"), "u1")
    other = bench.run(pod("b"), "u2")
    await bench.until(stuck, ready)
    await bench.until(other, ready)
    bench.runtime.hang.add("StopContainer:a")
    stuck.terminate()
    other.terminate()
    await bench.gone(1)
    assert not bench.tasks[0].done()
    # It still tells what is: its container ends by itself in the end.
    bench.runtime.end("a", 0)
    await bench.until(stuck, lambda status: first(status).state.running is None)


@pytest.mark.parametrize(
    ("call", "reason", "event"),
    [
        ("RunPodSandbox", "ContainerCreating", "FailedCreatePodSandBox"),
        ("CreateContainer", "CreateContainerError", "Failed"),
        ("StartContainer", "RunContainerError", "Failed"),
    ],
)
async def test_a_refused_call_is_told_and_tried_again(
    bench: Bench, call: str, reason: str, event: str
) -> None:
    bench.runtime.refuse[call] = "no room"
    worker = bench.run(pod("a"))
    status = await bench.until(worker, waits_for(reason))
    if call != "RunPodSandbox":
        waiting = first(status).state.waiting
        assert waiting is not None
        assert waiting.message == "no room"
    await until_event(bench, event)
    del bench.runtime.refuse[call]
    status = await bench.until(worker, ready)
    assert first(status).restart_count == 0
    assert len(bench.runtime.named("a")) == 1


async def until(check: Callable[[], bool]) -> None:
    """Wait for what tells nobody that it has changed."""
    async with asyncio.timeout(30):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def until_event(bench: Bench, reason: str) -> None:
    await until(lambda: reason in bench.reasons())


async def test_a_volume_that_cannot_be_mounted(bench: Bench) -> None:
    bench.environment.fault = "prepare"
    worker = bench.run(pod("a"))
    await until_event(bench, "FailedMount")
    bench.environment.fault = ""
    await bench.until(worker, ready)


async def test_nothing_is_told_of_what_a_deleted_pod_lacks(bench: Bench) -> None:
    """Its ConfigMaps may be deleted along with it."""
    bench.environment.fault = "prepare"
    made = pod(container("a"))
    made.metadata.deletion_timestamp = now()
    worker = bench.run(made)
    async with asyncio.timeout(30):
        while "prepare" not in bench.environment.calls:  # noqa: ASYNC110 - a list tells nobody
            await asyncio.sleep(0)
    worker.terminate(0)
    await bench.gone()
    assert "FailedMount" not in bench.reasons()


async def test_a_configuration_that_cannot_be_made(bench: Bench) -> None:
    bench.environment.fault = "container a"
    worker = bench.run(pod("a", "b"))
    status = await bench.until(worker, waits_for("CreateContainerConfigError"))
    assert status.phase == "Pending"
    await until_running(bench, worker, "b")


async def test_teardown_that_fails_is_tried_until_it_succeeds(bench: Bench) -> None:
    worker = bench.run(pod("a"))
    await bench.until(worker, ready)
    bench.environment.fault = "teardown"
    worker.terminate()
    await until_event(bench, "FailedMount")
    assert bench.runtime.sandboxes != {}
    bench.environment.fault = ""
    await bench.gone()
    assert bench.runtime.sandboxes == {}


async def test_what_holds_up_the_end_is_told_while_it_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "LATE", 0.02)
    worker = bench.run(pod(container("a")))
    await bench.until(worker, ready)
    bench.environment.unmounts.clear()
    worker.terminate(0)

    def held_up(status: PodStatus) -> str:
        return next((one.message for one in status.conditions if one.reason == "FailedUnmount"), "")

    told = held_up(await bench.until(worker, held_up))
    assert told == "unmounting volume data takes longer than 0.02 s; it is waited for"
    assert bench.reasons().count("FailedUnmount") == 1
    bench.environment.unmounts.set()
    await bench.gone()
    assert bench.environment.calls.count("teardown") == 1


async def test_failed_post_start_hook_ends_the_container(bench: Bench) -> None:
    one = container("a", lifecycle=hooked(post_start=command("false")))
    worker = bench.run(pod(one, restart_policy="Never"))
    status = await bench.until(worker, lambda status: status.phase == "Failed")
    assert first(status).restart_count == 0
    assert "FailedPostStartHook" in bench.reasons()


async def test_hanging_post_start_hook_does_not_hold_up_the_end(bench: Bench) -> None:
    one = container("a", lifecycle=hooked(post_start=command("hang")))
    bench.runtime.hang.add("ExecSync:hang")
    worker = bench.run(pod(one))
    await until_running(bench, worker, "a")
    worker.terminate()
    await bench.gone()


async def test_failed_pre_stop_hook_does_not_keep_the_pod(bench: Bench) -> None:
    one = container("a", lifecycle=hooked(pre_stop=command("false")))
    worker = bench.run(pod(one))
    await bench.until(worker, ready)
    worker.terminate()
    await bench.gone()
    assert "FailedPreStopHook" in bench.reasons()


async def test_grace_zero_skips_the_hook(bench: Bench) -> None:
    one = container("a", lifecycle=hooked(pre_stop=command("bye")))
    worker = bench.run(pod(one))
    await bench.until(worker, ready)
    worker.terminate(0)
    await bench.gone()
    assert "ExecSync bye" not in bench.runtime.calls


async def test_a_pod_at_its_end_gives_back_what_it_held_once(bench: Bench) -> None:
    worker = bench.run(pod("a", restart_policy="Never"))
    await until_running(bench, worker, "a")
    bench.runtime.end("a", 0)
    await bench.until(worker, lambda status: status.phase == "Succeeded")
    await until(lambda: "teardown" in bench.environment.calls)
    worker.wake()
    await asyncio.sleep(0.05)
    assert bench.environment.calls.count("teardown") == 1
    assert len(bench.runtime.named("a")) == 1


async def test_restarted_worker_goes_on(bench: Bench) -> None:
    made = pod("a")
    worker = bench.run(made)
    before = await bench.until(worker, ready)
    calls = len(bench.runtime.calls)
    bench.tasks[0].cancel()
    await asyncio.wait(bench.tasks)
    again = bench.run(made)
    assert again.status == before
    again.refresh()
    await asyncio.sleep(0.1)
    assert again.status == before
    assert len(bench.runtime.calls) == calls


async def test_termination_goes_on_after_a_restart(bench: Bench) -> None:
    worker = bench.run(pod("a"))
    await bench.until(worker, ready)
    bench.runtime.hang.add("StopContainer")
    worker.terminate()
    await until(lambda: "StopContainer a" in bench.runtime.calls)
    bench.tasks[0].cancel()
    await asyncio.wait(bench.tasks)
    bench.runtime.hang.clear()
    again = bench.run(pod("a"))
    assert again.ending
    await bench.gone()
    assert bench.runtime.sandboxes == {}


async def test_late_news_of_a_pod_that_is_gone_leave_no_checkpoint(bench: Bench) -> None:
    worker = bench.run(pod("a"))
    await bench.until(worker, ready)
    worker.terminate()
    await bench.gone()
    late = pod("a")
    late.metadata.uid, late.metadata.annotations = "u1", {"example.org/late": "yes"}
    worker.update(desired_of(late, CrashLoop()))
    assert bench.tools.checkpoints.load() == {}


async def test_crash_loop_leaves_one_dead_container(bench: Bench) -> None:
    worker = bench.run(pod("a"))
    for _ in range(2):
        await until_running(bench, worker, "a")
        bench.runtime.end("a", 1)
        await bench.until(worker, lambda status: first(status).state.running is None)
    status = await bench.until(worker, waits_for("CrashLoopBackOff"))
    assert first(status).restart_count == 1
    assert "BackOff" in bench.reasons()
    await until(lambda: len(bench.runtime.named("a")) == 1)


async def test_events_of_its_own_steps_have_nothing_read_twice(bench: Bench) -> None:
    worker = bench.run(pod("main"))
    await bench.until(worker, ready)
    # At the start, once the sandbox is there, once the container runs.
    assert bench.runtime.looks == 3


def running(status: PodStatus, name: str) -> bool:
    return any(one.name == name and one.state.running for one in status.container_statuses)


async def test_what_happens_during_a_step_that_hangs_is_seen_all_the_same(bench: Bench) -> None:
    bench.runtime.hang.add("create_container:second")
    worker = bench.run(pod("main", "second", restart_policy="Never"))
    await bench.until(worker, lambda status: running(status, "main"))
    bench.runtime.end("main", 3)
    await bench.until(
        worker,
        lambda status: any(one.state.terminated for one in status.container_statuses),
    )
