from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import grpc
import pytest

from kubeletpy.affinity import cpusets
from kubeletpy.affinity.cpu_policy import CpuOptions, static_cpus
from kubeletpy.affinity.cpu_state import CpuState
from kubeletpy.affinity.hints import Hint
from kubeletpy.affinity.memory_policy import StaticMemory, empty_machine
from kubeletpy.affinity.memory_state import MemoryState
from kubeletpy.devices.manager import DeviceManager
from kubeletpy.plugins.channels import connect
from kubeletpy.podresources.server import SOCKET, PodResourcesServer, Resources
from kubeletpy_proto import podresources_pb2 as pb
from kubeletpy_proto import podresources_pb2_grpc
from tests.support.device_plugin import DevicePlugin
from tests.unit.kubeletpy.affinity.machines import GIB, machine, pod

GPU = "vendor.com/gpu"


async def test_what_pods_have_and_what_the_node_has(sockets: Path) -> None:
    two = machine(2)
    cpus = static_cpus(
        two.topology,
        CpuOptions(),
        CpuState("static"),
        reserved_milli=1000,
        reserved_cpus=cpusets.EMPTY,
        topology_policy="none",
    )
    cpus.check()
    memory = StaticMemory(empty_machine(two.nodes, {}), MemoryState("Static"))
    known = asyncio.Event()
    devices = DeviceManager(sockets, (0, 1), known.set)
    plugin = await DevicePlugin(sockets / "gpu.sock", {"a": (1,), "b": ()}).start()
    await devices.connect(GPU, plugin.socket)
    await asyncio.wait_for(known.wait(), 10)
    one = pod("p", {"cpu": "2", "memory": "1Gi", GPU: "2"}, init=({"cpu": "1"},))
    ended = pod("q", {"cpu": "1"})
    ended.status.phase = "Succeeded"
    container = one.spec.containers[0]
    await devices.allocate(one, container, Hint(None, True))
    cpus.allocate(one, container, None)
    memory.allocate(one, container, Hint(None, True))
    server = PodResourcesServer(
        sockets / "pr", Resources(lambda: [one, ended], devices, cpus, memory)
    )
    await server.start()
    path = sockets / "pr" / SOCKET
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    async with connect(path) as channel:
        stub: podresources_pb2_grpc.PodResourcesListerAsyncStub
        stub = podresources_pb2_grpc.PodResourcesListerStub(channel)
        listed = await stub.List(pb.ListPodResourcesRequest(), timeout=10)
        assert [each.name for each in listed.pod_resources] == ["p"]
        [found] = listed.pod_resources[0].containers  # init containers hold nothing for long
        assert [(each.resource_name, list(each.device_ids)) for each in found.devices] == [
            (GPU, ["a"]),
            (GPU, ["b"]),
        ]
        assert [node.ID for node in found.devices[0].topology.nodes] == [1]
        assert not found.devices[1].HasField("topology")
        assert list(found.cpu_ids) == [2, 3]
        assert [(each.memory_type, each.size) for each in found.memory] == [("memory", GIB)]
        request = pb.GetPodResourcesRequest(pod_namespace="default", pod_name="p")
        assert (await stub.Get(request, timeout=10)).pod_resources == listed.pod_resources[0]
        with pytest.raises(grpc.aio.AioRpcError, match="pod p in namespace other not found"):
            await stub.Get(pb.GetPodResourcesRequest(pod_namespace="other", pod_name="p"))
        every = await stub.GetAllocatableResources(pb.AllocatableResourcesRequest(), timeout=10)
        assert list(every.cpu_ids) == [1, 2, 3]
        assert [list(each.device_ids) for each in every.devices] == [["a"], ["b"]]
        assert [each.size for each in every.memory] == [10 * GIB, 10 * GIB]
    await server.close()
    await devices.close()
    await plugin.stop()
