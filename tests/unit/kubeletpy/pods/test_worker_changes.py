"""What a worker does when all containers start anew, and when its pod is changed."""

from __future__ import annotations

import asyncio

from kubeletpy.api.container import (
    ContainerRestartRule,
    ContainerRestartRuleOnExitCodes,
    EphemeralContainer,
)
from kubeletpy.api.status import ContainerStatus, PodStatus
from kubeletpy.pods.backoff import CrashLoop
from kubeletpy.pods.manager import desired_of
from kubeletpy_proto import cri_pb2

from .build import container, pod
from .test_worker import Bench, bench, ready, until, until_event, until_running

__all__ = ["bench"]
RULE = ContainerRestartRule(
    action="RestartAllContainers",
    exit_codes=ContainerRestartRuleOnExitCodes(operator="In", values=[42]),
)


def named(status: PodStatus, name: str) -> ContainerStatus:
    every = (*status.init_container_statuses, *status.container_statuses)
    return next(one for one in every if one.name == name)


def condition(status: PodStatus) -> str:
    return next(one.status for one in status.conditions if one.type == "AllContainersRestarting")


async def test_all_containers_start_anew(bench: Bench) -> None:
    source = container("a", restart_policy="Never", restart_policy_rules=[RULE])
    sidecar = container("s", restart_policy="Always")
    worker = bench.run(pod(source, "b", init=("i", sidecar), restart_policy="Never"))
    await until_running(bench, worker, "i")
    bench.runtime.end("i", 0)
    status = await bench.until(worker, ready)
    assert condition(status) == "False"
    sandboxes = set(bench.runtime.sandboxes)
    seen: list[str] = []
    bench.follow = lambda status: seen.append(f"{condition(status)} {status.phase}")
    bench.runtime.end("a", 42)
    await until_running(bench, worker, "i")
    bench.runtime.end("i", 0)
    status = await bench.until(
        worker, lambda status: ready(status) and named(status, "a").restart_count == 1
    )
    assert set(bench.runtime.sandboxes) == sandboxes
    assert "True Running" in seen
    assert not any(each.endswith(("Failed", "Succeeded")) for each in seen)
    assert {name: named(status, name).restart_count for name in "abis"} == dict.fromkeys("abis", 1)
    lasts = {name: named(status, name).last_state.terminated for name in "abis"}
    codes = {name: last.exit_code for name, last in lasts.items() if last is not None}
    assert codes["a"] == 42
    assert codes["i"] == 0
    assert codes.keys() == set("abis")
    assert len(bench.runtime.containers) == 4
    # The number of a run goes on also for the next kubelet.
    bench.tasks[0].cancel()
    await asyncio.wait(bench.tasks)
    again = bench.run(worker.pod)
    bench.runtime.end("a", 42)
    await bench.until(again, lambda status: named(status, "i").restart_count == 2)


async def test_an_ephemeral_container_is_added_to_a_running_pod(bench: Bench) -> None:
    made = pod("a")
    worker = bench.run(made)
    await bench.until(worker, ready)
    changed = pod(
        "a",
        ephemeral_containers=[
            EphemeralContainer(name="d", image="d:1", target_container_name="a"),
            EphemeralContainer(name="e", image="e:1", target_container_name="gone"),
        ],
    )
    changed.metadata.uid = worker.pod.metadata.uid
    worker.update(desired_of(changed, CrashLoop()))
    status = await bench.until(
        worker, lambda status: any(one.state.running for one in status.ephemeral_container_statuses)
    )
    first = status.ephemeral_container_statuses[0]
    assert (first.name, first.ready) == ("d", False)
    target = bench.runtime.named("a")[0].id
    options = bench.runtime.configs["d"].linux.security_context.namespace_options
    assert (options.pid, options.target_id) == (cri_pb2.TARGET, target)
    await bench.until(worker, lambda status: reason(status, 1) == "CreateContainerConfigError")
    await until_event(bench, "Failed")
    # It has run: it is not started again, and the pod is as ready as it was.
    bench.runtime.end("d", 1)
    status = await bench.until(
        worker, lambda status: status.ephemeral_container_statuses[0].state.terminated
    )
    assert ready(status)
    assert len(bench.runtime.named("d")) == 1
    assert bench.tools.checkpoints.load()["u1"].pod.spec.ephemeral_containers


def reason(status: PodStatus, index: int) -> str:
    waiting = status.ephemeral_container_statuses[index].state.waiting
    return waiting.reason if waiting else ""


async def test_a_changed_image_restarts_its_container(bench: Bench) -> None:
    worker = bench.run(pod("a", "b", restart_policy="Never"))
    await bench.until(worker, ready)
    changed = pod("a", "b", restart_policy="Never")
    changed.metadata.uid = worker.pod.metadata.uid
    changed.spec.containers[0].image = "a:2"
    worker.update(desired_of(changed, CrashLoop()))
    status = await bench.until(
        worker, lambda status: ready(status) and named(status, "a").restart_count == 1
    )
    assert named(status, "b").restart_count == 0
    await until(lambda: "Killing" in bench.reasons())
