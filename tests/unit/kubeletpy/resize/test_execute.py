from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import grpc
import pytest

from kubeletpy.api.pod import Pod
from kubeletpy.cri.client import CriClient, CriError
from kubeletpy.cri.node import NodeFacts
from kubeletpy.resize.execute import Executor, ResizeError, find
from kubeletpy.resize.plan import Amounts, ContainerResize, Resize, amounts
from kubeletpy.resources.cgroups import CgroupError, PodCgroups
from kubeletpy.resources.limits import Limits, pod_cgroup_limits
from kubeletpy.resources.policy import ResourcePolicy
from kubeletpy_common.cgroups import CgroupStats, LinuxResources, MemoryStats
from kubeletpy_proto import cri_pb2

from ..api.pods import make_pod

MI = 2**20


class Journal:
    """Takes the place of runtime and cgroups: what was asked, in its order."""

    policy = ResourcePolicy()

    def __init__(self, used: int = MI) -> None:
        self.steps: list[str] = []
        self.used = used
        self.refuse = ""

    def _note(self, step: str) -> bool:
        self.steps.append(step)
        return bool(self.refuse) and step.startswith(self.refuse)

    async def update_container_resources(
        self, container_id: str, linux: cri_pb2.LinuxContainerResources
    ) -> None:
        text = f"{container_id} {linux.cpu_shares} {linux.cpu_quota} {linux.memory_limit_in_bytes}"
        if self._note(text):
            raise CriError("UpdateContainerResources", grpc.StatusCode.UNKNOWN, "no way")

    async def update_pod_sandbox_resources(
        self, sandbox_id: str, linux: cri_pb2.LinuxContainerResources
    ) -> None:
        raise CriError("UpdatePodSandboxResources", grpc.StatusCode.UNIMPLEMENTED, "what?")

    async def container_stats(self, container_id: str) -> cri_pb2.ContainerStats:
        usage = cri_pb2.UInt64Value(value=self.used)
        return cri_pb2.ContainerStats(memory=cri_pb2.MemoryUsage(usage_bytes=usage))

    def wanted(self, pod: Pod) -> Limits:
        return pod_cgroup_limits(pod, self.policy)

    def usage(self, pod: Pod) -> CgroupStats:
        return CgroupStats(0, memory=MemoryStats(self.used, self.used, 0, 0, 0, None, None))

    def change(self, pod: Pod, resources: LinuxResources) -> None:
        one = resources
        text = f"pod {one.cpu_shares} {one.cpu_quota_us} {one.memory_limit}"
        if self._note(text):
            raise CgroupError(16, "cpu.cfs_quota_us", "cannot write")


def pod_of(*sizes: tuple[int, int]) -> Pod:
    """A pod of containers limited to these thousandths of a CPU and MiB."""
    return make_pod(
        containers=[
            {"name": f"c{index}", "image": "x:1",
             "resources": {"limits": {"cpu": f"{cpu}m", "memory": f"{memory}Mi"}}}
            for index, (cpu, memory) in enumerate(sizes)
        ]
    )  # fmt: skip


def resize(
    journal: Journal, before: Pod, after: Pod, taken: list[tuple[str, Amounts]] | None = None
) -> Limits:
    executor = Executor(
        cri=cast(CriClient, journal), cgroups=cast(PodCgroups, journal), node=NodeFacts(name="n")
    )
    changes = tuple(
        ContainerResize(f"id-{one.name}", one.name,
                        amounts(before, find(before, one.name).resources),
                        amounts(after, one.resources))
        for one in after.spec.containers
    )  # fmt: skip

    def done(one: ContainerResize, has: Amounts) -> None:
        if taken is not None:
            taken.append((one.name, has))

    now = executor.wanted(before)
    return asyncio.run(executor.resize(after, "s1", Resize(changes, True), now, done))


def test_what_grows_grows_from_the_pod_down() -> None:
    journal = Journal()
    after = pod_of((200, 128))
    limits = resize(journal, pod_of((100, 64)), after)
    assert journal.steps == [
        f"pod None None {128 * MI}",
        f"id-c0 102 10000 {128 * MI}",
        "pod 204 20000 None",
        f"id-c0 204 20000 {128 * MI}",
    ]
    assert (limits.cpu_shares, limits.cpu_quota_us, limits.memory_bytes) == (204, 20_000, 128 * MI)


def test_what_shrinks_shrinks_from_the_containers_up() -> None:
    journal = Journal()
    resize(journal, pod_of((200, 128)), pod_of((100, 64)))
    assert journal.steps == [
        f"id-c0 204 20000 {64 * MI}",
        f"pod None None {64 * MI}",
        f"id-c0 102 10000 {64 * MI}",
        "pod 102 10000 None",
    ]


def test_of_several_containers_those_that_shrink_go_first() -> None:
    journal = Journal()
    resize(journal, pod_of((100, 64), (200, 64)), pod_of((200, 64), (100, 64)))
    assert [step.split()[0] for step in journal.steps] == ["id-c1", "id-c0"]


def test_memory_in_use_is_not_taken_away() -> None:
    journal = Journal(used=100 * MI)
    with pytest.raises(ResizeError) as caught:
        resize(journal, pod_of((100, 128)), pod_of((100, 64)))
    limit, used = 64 * MI, 100 * MI
    assert str(caught.value) == (
        f"cannot decrease memory limits: [attempting to set pod memory limit ({limit}) below "
        f'current usage ({used}), attempting to set container "c0" memory limit ({limit}) below '
        f"current usage ({used})]"
    )
    assert journal.steps == []


@pytest.mark.parametrize("refuse", ["id-c0", "pod"])
def test_a_refusal_says_what_was_done_before_it(refuse: str) -> None:
    journal = Journal()
    journal.refuse = f"{refuse} 204"
    taken: list[tuple[str, Amounts]] = []
    with pytest.raises(ResizeError):
        resize(journal, pod_of((100, 64)), pod_of((200, 128)), taken)
    old = Amounts(100, 100, 64 * MI, 64 * MI)
    assert taken == [("c0", replace(old, memory_limit=128 * MI, memory_request=128 * MI))]


def test_limits_that_go() -> None:
    journal = Journal()
    before: dict[str, Any] = {"resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}}}
    after: dict[str, Any] = {"resources": {"requests": {"cpu": "100m"}}}
    old, new = (
        make_pod(containers=[{"name": "c0", "image": "x:1", **one}]) for one in (before, after)
    )
    resize(journal, old, new)
    assert journal.steps == ["pod None -1 None", "id-c0 102 -1 0"]
