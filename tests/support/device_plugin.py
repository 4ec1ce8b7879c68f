"""A small device plug-in: a real gRPC server on a socket, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio

from kubeletpy.plugins.channels import connect
from kubeletpy_proto import deviceplugin_pb2 as pb
from kubeletpy_proto import (
    deviceplugin_pb2_grpc,
    pluginregistration_pb2,
    pluginregistration_pb2_grpc,
)
from tests.support.circumstances import patient


class DevicePlugin(deviceplugin_pb2_grpc.DevicePluginServicer):
    """Offers devices; what it was asked is kept.

    Attributes:
        devices: by id, the NUMA nodes; ids in ``broken`` are unhealthy.
        wish: what GetPreferredAllocation answers.
        fault: what Allocate fails with; "" for not at all.
    """

    def __init__(self, socket: Path, devices: dict[str, tuple[int, ...]]) -> None:
        self.socket = socket
        self.devices = devices
        self.broken: set[str] = set()
        self.wish: list[str] | None = None
        self.fault = ""
        self.needs = pb.ContainerAllocateResponse()
        self.options = pb.DevicePluginOptions()
        self.allocated: list[list[str]] = []
        self.started: list[list[str]] = []
        self.asked_for_wish: list[pb.ContainerPreferredAllocationRequest] = []
        self._changed = asyncio.Condition()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> DevicePlugin:
        server = grpc.aio.server()
        deviceplugin_pb2_grpc.add_DevicePluginServicer_to_server(self, server)
        server.add_insecure_port(f"unix:{self.socket}")
        await server.start()
        self._server = server
        return self

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None
        self.socket.unlink(missing_ok=True)

    async def change(self, *broken: str) -> None:
        """Tell the kubelet of the devices again."""
        async with self._changed:
            self.broken = set(broken)
            self._changed.notify_all()

    async def register(self, kubelet_socket: Path, resource: str) -> None:
        """Register with a kubelet, as plug-ins do at their start."""
        async with connect(kubelet_socket) as channel:
            stub: deviceplugin_pb2_grpc.RegistrationAsyncStub
            stub = deviceplugin_pb2_grpc.RegistrationStub(channel)
            request = pb.RegisterRequest(
                version="v1beta1", endpoint=self.socket.name, resource_name=resource
            )
            # As those of the field do, which wait for a kubelet that is slow to accept.
            await stub.Register(request, timeout=patient(10), wait_for_ready=True)

    async def GetDevicePluginOptions(
        self,
        request: pb.Empty,
        context: grpc.aio.ServicerContext[pb.Empty, pb.DevicePluginOptions],
    ) -> pb.DevicePluginOptions:
        return self.options

    async def ListAndWatch(
        self,
        request: pb.Empty,
        context: grpc.aio.ServicerContext[pb.Empty, pb.ListAndWatchResponse],
    ) -> AsyncIterator[pb.ListAndWatchResponse]:
        while True:
            async with self._changed:
                yield self._listed()
                await self._changed.wait()

    def _listed(self) -> pb.ListAndWatchResponse:
        found = pb.ListAndWatchResponse()
        for one, nodes in self.devices.items():
            device = found.devices.add(
                ID=one, health="Unhealthy" if one in self.broken else "Healthy"
            )
            device.topology.nodes.extend(pb.NUMANode(ID=node) for node in nodes)
        return found

    async def GetPreferredAllocation(
        self,
        request: pb.PreferredAllocationRequest,
        context: grpc.aio.ServicerContext[
            pb.PreferredAllocationRequest, pb.PreferredAllocationResponse
        ],
    ) -> pb.PreferredAllocationResponse:
        self.asked_for_wish.append(request.container_requests[0])
        answer = pb.ContainerPreferredAllocationResponse(deviceIDs=self.wish or [])
        return pb.PreferredAllocationResponse(container_responses=[answer])

    async def Allocate(
        self,
        request: pb.AllocateRequest,
        context: grpc.aio.ServicerContext[pb.AllocateRequest, pb.AllocateResponse],
    ) -> pb.AllocateResponse:
        if self.fault:
            await context.abort(grpc.StatusCode.UNKNOWN, self.fault)
        self.allocated.append(list(request.container_requests[0].devices_ids))
        return pb.AllocateResponse(container_responses=[self.needs])

    async def PreStartContainer(
        self,
        request: pb.PreStartContainerRequest,
        context: grpc.aio.ServicerContext[
            pb.PreStartContainerRequest, pb.PreStartContainerResponse
        ],
    ) -> pb.PreStartContainerResponse:
        self.started.append(list(request.devices_ids))
        return pb.PreStartContainerResponse()


class Registrar(pluginregistration_pb2_grpc.RegistrationServicer):
    """The registration socket of a plug-in, as the watcher finds it.

    Attributes:
        told: what the kubelet said of each registration.
    """

    def __init__(
        self, socket: Path, kind: str, name: str, endpoint: str = "", versions: str = "v1beta1"
    ) -> None:
        self.socket = socket
        self.info = pluginregistration_pb2.PluginInfo(
            type=kind, name=name, endpoint=endpoint, supported_versions=versions.split()
        )
        self.told: asyncio.Queue[tuple[bool, str]] = asyncio.Queue()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> Registrar:
        server = grpc.aio.server()
        pluginregistration_pb2_grpc.add_RegistrationServicer_to_server(self, server)
        server.add_insecure_port(f"unix:{self.socket}")
        await server.start()
        self._server = server
        return self

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None
        self.socket.unlink(missing_ok=True)

    async def GetInfo(
        self,
        request: pluginregistration_pb2.InfoRequest,
        context: grpc.aio.ServicerContext[
            pluginregistration_pb2.InfoRequest, pluginregistration_pb2.PluginInfo
        ],
    ) -> pluginregistration_pb2.PluginInfo:
        return self.info

    async def NotifyRegistrationStatus(
        self,
        request: pluginregistration_pb2.RegistrationStatus,
        context: grpc.aio.ServicerContext[
            pluginregistration_pb2.RegistrationStatus,
            pluginregistration_pb2.RegistrationStatusResponse,
        ],
    ) -> pluginregistration_pb2.RegistrationStatusResponse:
        self.told.put_nowait((request.plugin_registered, request.error))
        return pluginregistration_pb2.RegistrationStatusResponse()
