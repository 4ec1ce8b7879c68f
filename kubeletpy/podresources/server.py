"""``v1.PodResourcesLister`` on ``<root-dir>/pod-resources/kubelet.sock``, for root only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path

import grpc
import grpc.aio

from kubeletpy.affinity.cpu_policy import StaticCpus
from kubeletpy.affinity.memory_policy import StaticMemory
from kubeletpy.affinity.memory_state import Block
from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy.devices.choice import Devices
from kubeletpy.devices.manager import DeviceManager
from kubeletpy.devices.records import NO_NODE, Grant
from kubeletpy.plugins.sockets import SocketServer, listen
from kubeletpy.resources.totals import is_sidecar
from kubeletpy_proto import podresources_pb2 as pb
from kubeletpy_proto import podresources_pb2_grpc

DIRECTORY, SOCKET = "pod-resources", "kubelet.sock"
_TERMINAL = frozenset({"Succeeded", "Failed"})
_MOST_CALLS = 16


class Resources:
    """Answers as plain messages.

    Args:
        pods: all pods of the node, with their statuses.
        devices: of the node.
        cpus, memory: the static policies; None: containers have none of their own.
    """

    def __init__(
        self,
        pods: Callable[[], Iterable[Pod]],
        devices: DeviceManager,
        cpus: StaticCpus | None,
        memory: StaticMemory | None,
    ) -> None:
        self._pods = pods
        self._devices = devices
        self._cpus = cpus
        self._memory = memory

    def list(self) -> pb.ListPodResourcesResponse:
        """Return what the pods have that have not ended."""
        active = [pod for pod in self._pods() if pod.status.phase not in _TERMINAL]
        return pb.ListPodResourcesResponse(pod_resources=[self._pod(pod) for pod in active])

    def get(self, namespace: str, name: str) -> pb.GetPodResourcesResponse | None:
        """Return what one pod has; None if there is no such pod."""
        for pod in self._pods():
            if (pod.metadata.namespace, pod.metadata.name) == (namespace, name):
                return pb.GetPodResourcesResponse(pod_resources=self._pod(pod))
        return None

    def allocatable(self) -> pb.AllocatableResourcesResponse:
        """Return what the node has to give, given or not."""
        found = pb.AllocatableResourcesResponse()
        for resource, devices in self._devices.allocatable().items():
            found.devices.extend(_by_topology(resource, devices))
        if self._cpus is not None:
            found.cpu_ids.extend(sorted(self._cpus.allocatable))
        if self._memory is not None:
            found.memory.extend(map(_memory, self._memory.allocatable))
        return found

    def _pod(self, pod: Pod) -> pb.PodResources:
        sidecars = (one for one in pod.spec.init_containers if is_sidecar(one))
        containers = [self._container(pod, one) for one in chain(sidecars, pod.spec.containers)]
        meta = pod.metadata
        return pb.PodResources(name=meta.name, namespace=meta.namespace, containers=containers)

    def _container(self, pod: Pod, container: Container) -> pb.ContainerResources:
        uid, name = pod.metadata.uid, container.name
        found = pb.ContainerResources(name=name)
        for resource, grant in sorted(self._devices.grants(uid, name).items()):
            found.devices.extend(_granted(resource, grant))
        if self._cpus is not None:
            found.cpu_ids.extend(sorted(self._cpus.state.get(uid, name) or ()))
        if self._memory is not None:
            blocks = self._memory.state.entries.get(uid, {}).get(name, [])
            found.memory.extend(map(_memory, blocks))
        return found


def _granted(resource: str, grant: Grant) -> list[pb.ContainerDevices]:
    """Return devices by the NUMA nodes that they belong to."""
    nodes: dict[str, set[int]] = {}
    for node, ids in grant.nodes.items():
        for one in ids:
            nodes.setdefault(one, set()).update({node} - {NO_NODE})
    return _devices(resource, {one: tuple(sorted(found)) for one, found in nodes.items()})


def _by_topology(resource: str, devices: Devices) -> list[pb.ContainerDevices]:
    return _devices(resource, {one: device.nodes for one, device in devices.items()})


def _devices(resource: str, nodes: Mapping[str, tuple[int, ...]]) -> list[pb.ContainerDevices]:
    # One entry a device, as in Go.
    return [
        pb.ContainerDevices(
            resource_name=resource,
            device_ids=[one],
            topology=pb.TopologyInfo(nodes=[pb.NUMANode(ID=node) for node in found])
            if found
            else None,
        )
        for one, found in sorted(nodes.items())
    ]


def _memory(block: Block) -> pb.ContainerMemory:
    return pb.ContainerMemory(
        memory_type=block.kind,
        size=block.size,
        topology=pb.TopologyInfo(nodes=[pb.NUMANode(ID=node) for node in block.nodes]),
    )


class PodResourcesServer(SocketServer, podresources_pb2_grpc.PodResourcesListerServicer):
    """Serves `Resources`.

    Args:
        directory: of the socket.
        resources: what is answered.
    """

    def __init__(self, directory: Path, resources: Resources) -> None:
        super().__init__()
        self._directory = directory
        self._resources = resources

    async def listening(self) -> grpc.aio.Server:
        """Listen.

        Raises:
            OSError: it cannot.
        """
        self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        options = (("grpc.so_reuseport", 0),)
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=_MOST_CALLS)
        podresources_pb2_grpc.add_PodResourcesListerServicer_to_server(self, server)
        await listen(server, self._directory / SOCKET)
        return server

    async def List(
        self,
        request: pb.ListPodResourcesRequest,
        context: grpc.aio.ServicerContext[pb.ListPodResourcesRequest, pb.ListPodResourcesResponse],
    ) -> pb.ListPodResourcesResponse:
        """What all pods have."""
        return self._resources.list()

    async def GetAllocatableResources(
        self,
        request: pb.AllocatableResourcesRequest,
        context: grpc.aio.ServicerContext[
            pb.AllocatableResourcesRequest, pb.AllocatableResourcesResponse
        ],
    ) -> pb.AllocatableResourcesResponse:
        """What the node has to give."""
        return self._resources.allocatable()

    async def Get(
        self,
        request: pb.GetPodResourcesRequest,
        context: grpc.aio.ServicerContext[pb.GetPodResourcesRequest, pb.GetPodResourcesResponse],
    ) -> pb.GetPodResourcesResponse:
        """What one pod has."""
        found = self._resources.get(request.pod_namespace, request.pod_name)
        if found is None:
            # Go's server does not say NOT_FOUND.
            message = f"pod {request.pod_name} in namespace {request.pod_namespace} not found"
            await context.abort(grpc.StatusCode.UNKNOWN, message)
            raise AssertionError("abort raises")
        return found
