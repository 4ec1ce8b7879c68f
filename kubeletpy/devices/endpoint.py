"""One device plug-in: its socket, and what it tells of its devices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import grpc
import grpc.aio

from kubeletpy.plugins.channels import PluginError, call, connect
from kubeletpy_proto import deviceplugin_pb2 as pb
from kubeletpy_proto import deviceplugin_pb2_grpc

from .choice import Device

CONNECT_TIMEOUT = 10.0
ALLOCATE_TIMEOUT = 30.0
"""Seconds for Allocate and GetPreferredAllocation; in Go they may take for ever, and with them the
admission of all pods."""
PRE_START_TIMEOUT = 30.0
_MOST_DEVICES = 100_000


class Endpoint:
    """A connection to a plug-in.

    Args:
        resource: that it offers.
        socket: its own.

    Attributes:
        options: what the plug-in wants to be asked.
    """

    def __init__(self, resource: str, socket: Path) -> None:
        self.resource = resource
        self.socket = socket
        self.options = pb.DevicePluginOptions()
        self._channel = connect(socket)
        self._stub: deviceplugin_pb2_grpc.DevicePluginAsyncStub
        self._stub = deviceplugin_pb2_grpc.DevicePluginStub(self._channel)

    async def open(self) -> None:
        """Connect, and ask for the options.

        Raises:
            PluginError: it cannot be reached.
        """
        self.options = await call(
            self._stub.GetDevicePluginOptions, pb.Empty(), timeout=CONNECT_TIMEOUT, wait=True
        )

    async def close(self) -> None:
        """Close the connection; calls under way fail."""
        await self._channel.close()

    async def devices(self) -> AsyncIterator[dict[str, Device]]:
        """Yield all devices, again and again whenever one changes, until the plug-in goes.

        Raises:
            PluginError: it went, or broke.
        """
        stream = self._stub.ListAndWatch(pb.Empty())
        try:
            async for answer in stream:
                if len(answer.devices) > _MOST_DEVICES:
                    raise PluginError(
                        grpc.StatusCode.OUT_OF_RANGE, f"more than {_MOST_DEVICES} devices"
                    )
                yield {
                    one.ID: Device(
                        one.health == "Healthy",
                        tuple(sorted({node.ID for node in one.topology.nodes if node.ID >= 0})),
                    )
                    for one in answer.devices
                }
        except grpc.aio.AioRpcError as error:
            raise PluginError(error.code(), error.details() or "") from error
        except asyncio.CancelledError:
            stream.cancel()
            raise

    async def preferred(
        self, available: Collection[str], included: Collection[str], count: int
    ) -> list[str]:
        """Return which devices the plug-in would like to be taken.

        Raises:
            PluginError: it failed.
        """
        asked = pb.ContainerPreferredAllocationRequest(
            available_deviceIDs=sorted(available),
            must_include_deviceIDs=sorted(included),
            allocation_size=count,
        )
        answer = await call(
            self._stub.GetPreferredAllocation,
            pb.PreferredAllocationRequest(container_requests=[asked]),
            timeout=ALLOCATE_TIMEOUT,
        )
        return list(answer.container_responses[0].deviceIDs) if answer.container_responses else []

    async def allocate(self, ids: Collection[str]) -> pb.ContainerAllocateResponse:
        """Have the plug-in make devices ready; return what a container needs for them.

        Raises:
            PluginError: it failed, or answered nothing.
        """
        asked = pb.ContainerAllocateRequest(devices_ids=sorted(ids))
        answer = await call(
            self._stub.Allocate,
            pb.AllocateRequest(container_requests=[asked]),
            timeout=ALLOCATE_TIMEOUT,
        )
        if not answer.container_responses:
            raise PluginError(
                grpc.StatusCode.UNKNOWN, "no containers return in allocation response"
            )
        return answer.container_responses[0]

    async def pre_start(self, ids: Collection[str]) -> None:
        """Tell the plug-in that a container with devices is about to start.

        Raises:
            PluginError: it failed.
        """
        request = pb.PreStartContainerRequest(devices_ids=sorted(ids))
        await call(self._stub.PreStartContainer, request, timeout=PRE_START_TIMEOUT)
