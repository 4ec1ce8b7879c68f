from __future__ import annotations

import asyncio
from pathlib import Path

import grpc

from kubeletpy.affinity import cpu_state, cpusets
from kubeletpy.affinity.admission import TopologyManager
from kubeletpy.affinity.cpu_policy import CpuOptions, static_cpus
from kubeletpy.affinity.cpu_state import CpuState
from kubeletpy.affinity.hints import topology_policy
from kubeletpy.affinity.memory_policy import StaticMemory, empty_machine
from kubeletpy.affinity.memory_state import MemoryState
from kubeletpy.affinity.pinning import CpuProvider, MemoryProvider, Pinning
from kubeletpy.api.pod import Pod
from kubeletpy.cri.client import CriError
from kubeletpy.cri.labels import CONTAINER_NAME, POD_UID
from kubeletpy_proto import cri_pb2

from .machines import machine, pod


class Runtime:
    """Containers with their CPUs, as a runtime has them."""

    def __init__(self) -> None:
        self.containers: dict[str, cri_pb2.Container] = {}
        self.cpus: dict[str, str] = {}
        self.refuse = False
        self.calls = 0
        self.asked = asyncio.Event()

    def add(self, uid: str, name: str, cpus: str, attempt: int = 0) -> None:
        self.containers[f"{uid}-{name}"] = cri_pb2.Container(
            id=f"{uid}-{name}",
            metadata=cri_pb2.ContainerMetadata(name=name, attempt=attempt),
            state=cri_pb2.CONTAINER_RUNNING,
            labels={POD_UID: uid, CONTAINER_NAME: name},
        )
        self.cpus[f"{uid}-{name}"] = cpus

    async def list_containers(self) -> list[cri_pb2.Container]:
        return list(self.containers.values())

    async def update_container_resources(
        self, container_id: str, linux: cri_pb2.LinuxContainerResources
    ) -> None:
        self.calls += 1
        self.asked.set()
        if self.refuse:
            raise CriError("UpdateContainerResources", grpc.StatusCode.INTERNAL, "no")
        self.cpus[container_id] = linux.cpuset_cpus


class Node:
    """Two NUMA nodes of two CPUs and 10 GiB each; CPU 0 is reserved."""

    def __init__(self, directory: Path, policy: str = "none", scope: str = "container") -> None:
        two = machine(2)
        self.cpus = static_cpus(
            two.topology,
            CpuOptions(),
            CpuState("static"),
            reserved_milli=1000,
            reserved_cpus=cpusets.EMPTY,
            topology_policy=policy,
        )
        self.cpus.check()
        self.memory = StaticMemory(empty_machine(two.nodes, {}), MemoryState("Static"))
        self.runtime = Runtime()
        self.pinning = Pinning(self.runtime, self.cpus, self.memory)
        self.manager = TopologyManager(topology_policy(policy, {}, two.distances), scope)
        self.manager.providers += [
            CpuProvider(self.cpus, directory, self.pinning.ring),
            MemoryProvider(self.memory, directory),
        ]

    async def refusal(self, one: Pod) -> str:
        error = await self.manager.admit(one)
        return error.reason if error is not None else ""


async def test_without_a_policy_pods_get_what_there_is(tmp_path: Path) -> None:
    node = Node(tmp_path)
    assert await node.refusal(pod("a", {"cpu": "3"})) == ""
    assert await node.refusal(pod("b", {"cpu": "1"})) == "UnexpectedAdmissionError"
    node.manager.release("a")
    assert await node.refusal(pod("b", {"cpu": "1"})) == ""


async def test_the_message_says_how_much_is_missing(tmp_path: Path) -> None:
    error = await Node(tmp_path).manager.admit(pod("a", {"cpu": "4"}))
    assert error is not None
    assert error.message == (
        "Allocate failed due to not enough cpus available to satisfy request: requested=4, "
        "available=3, which is unexpected"
    )


async def test_a_pod_that_fails_with_its_second_container_keeps_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path)
    assert await node.refusal(pod("a", {"cpu": "2"}, {"cpu": "2"})) != ""
    assert node.cpus.state.entries == {}
    assert node.memory.state.entries == {}
    assert cpu_state.load(tmp_path) == node.cpus.state


async def test_cpus_and_memory_are_of_one_node(tmp_path: Path) -> None:
    node = Node(tmp_path, "single-numa-node")
    assert await node.refusal(pod("a", {"memory": "9Gi"})) == ""
    assert node.memory.nodes("a", "c0") == {0}
    assert await node.refusal(pod("b", {"cpu": "1", "memory": "9Gi"})) == ""
    assert node.cpus.state.entries["b"] == {"c0": {2}}
    assert node.memory.nodes("b", "c0") == {1}
    assert await node.refusal(pod("c", {"cpu": "2"})) == "TopologyAffinityError"


async def test_in_the_scope_of_pods_all_containers_are_on_one_node(tmp_path: Path) -> None:
    one = pod("a", {"cpu": "1"}, {"cpu": "1"})
    apart = Node(tmp_path, "single-numa-node")
    assert await apart.refusal(one) == ""
    assert apart.cpus.state.assigned() == {1, 2}
    together = Node(tmp_path, "single-numa-node", "pod")
    assert await together.refusal(one) == ""
    assert together.cpus.state.assigned() == {2, 3}
    assert await together.refusal(pod("b", {"cpu": "1"}, {"cpu": "1"})) == "TopologyAffinityError"


async def test_a_pod_that_is_admitted_again_keeps_what_it_has(tmp_path: Path) -> None:
    node = Node(tmp_path, "restricted")
    one = pod("a", {"cpu": "2"})
    assert await node.refusal(one) == ""
    before = node.cpus.state.assigned()
    assert await node.refusal(one) == ""
    assert node.cpus.state.assigned() == before == {2, 3}


async def test_containers_are_created_with_their_cpus(tmp_path: Path) -> None:
    node = Node(tmp_path)
    own, shared = pod("a", {"cpu": "2"}), pod("b", {"cpu": "500m"})
    for one in (own, shared):
        assert await node.refusal(one) == ""
    found = []
    for one in (own, shared):
        config = cri_pb2.ContainerConfig(
            linux=cri_pb2.LinuxContainerConfig(
                resources=cri_pb2.LinuxContainerResources(cpu_quota=50_000)
            )
        )
        await node.pinning.configure(one, one.spec.containers[0], config)
        linux = config.linux.resources
        found.append((linux.cpuset_cpus, linux.cpuset_mems, linux.cpu_quota))
    assert found == [("2-3", "0", -1), ("0-1", "0", 50_000)]


async def test_running_containers_follow_the_shared_cpus(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.runtime.add("b", "c0", "0-3")
    assert await node.refusal(pod("a", {"cpu": "2"})) == ""
    assert await node.pinning.reconcile()
    assert node.runtime.cpus == {"b-c0": "0-1"}
    node.manager.release("a")
    assert await node.pinning.reconcile()
    assert node.runtime.cpus == {"b-c0": "0-3"}
    calls = node.runtime.calls
    assert await node.pinning.reconcile()
    assert node.runtime.calls == calls  # nothing to tell


async def test_a_container_in_the_making_is_told_once_it_is_there(tmp_path: Path) -> None:
    node = Node(tmp_path)
    shared = pod("b", {"cpu": "500m"})
    config = cri_pb2.ContainerConfig()
    await node.pinning.configure(shared, shared.spec.containers[0], config)
    assert await node.refusal(pod("a", {"cpu": "2"})) == ""
    assert not await node.pinning.reconcile()  # created with CPUs that are another's now
    node.runtime.add("b", "c0", config.linux.resources.cpuset_cpus)
    assert await node.pinning.reconcile()
    assert node.runtime.cpus == {"b-c0": "0-1"}


async def test_a_runtime_that_refuses_is_asked_again(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.runtime.add("b", "c0", "0-3")
    node.runtime.refuse = True
    assert not await node.pinning.reconcile()
    node.runtime.refuse = False
    node.runtime.asked.clear()
    follower = asyncio.create_task(node.pinning.run())
    async with asyncio.timeout(30):
        await node.runtime.asked.wait()
    assert node.runtime.cpus == {"b-c0": "0-3"}
    follower.cancel()
    await asyncio.gather(follower, return_exceptions=True)
