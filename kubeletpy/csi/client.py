"""The RPCs of one CSI driver that a node needs; each has a deadline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from kubeletpy.plugins.channels import PluginError, call, connect
from kubeletpy_proto import csi_pb2 as pb
from kubeletpy_proto import csi_pb2_grpc

TIMEOUT = 120.0
"""Seconds for a call, as in Go."""
Capability = pb.NodeServiceCapability.RPC


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Space of a volume; bytes and inodes; None: the driver does not say."""

    capacity: int | None = None
    available: int | None = None
    used: int | None = None
    inodes: int | None = None
    inodes_free: int | None = None
    inodes_used: int | None = None


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What a driver calls this node.

    Attributes:
        node_id: its name of the node.
        most_volumes: volumes that can be attached; 0: not said.
        topology: labels that the node gets.
    """

    node_id: str
    most_volumes: int = 0
    topology: Mapping[str, str] = field(default_factory=dict)


class DriverClient:
    """A connection to a driver.

    Args:
        socket: the driver's.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._channel = connect(socket)
        self._node: csi_pb2_grpc.NodeAsyncStub = csi_pb2_grpc.NodeStub(self._channel)
        self._capabilities: frozenset[int] | None = None

    async def close(self) -> None:
        """Close the connection; calls under way fail."""
        await self._channel.close()

    async def info(self) -> NodeInfo:
        """Return what the driver calls this node.

        Raises:
            PluginError: it failed.
        """
        answer = await call(
            self._node.NodeGetInfo, pb.NodeGetInfoRequest(), timeout=TIMEOUT, wait=True
        )
        topology = dict(answer.accessible_topology.segments)
        return NodeInfo(answer.node_id, answer.max_volumes_per_node, topology)

    async def can(self, capability: int) -> bool:
        """Whether the driver has a capability of the node service; asked once.

        Raises:
            PluginError: it failed.
        """
        if self._capabilities is None:
            answer = await call(
                self._node.NodeGetCapabilities, pb.NodeGetCapabilitiesRequest(), timeout=TIMEOUT
            )
            self._capabilities = frozenset(one.rpc.type for one in answer.capabilities)
        return capability in self._capabilities

    async def stage(self, request: pb.NodeStageVolumeRequest) -> None:
        """Make a volume ready on the node.

        Raises:
            PluginError: it failed; if not ``final``, the driver may still be at it.
        """
        await call(self._node.NodeStageVolume, request, timeout=TIMEOUT)

    async def unstage(self, volume: str, path: str) -> None:
        """Undo ``stage``.

        Raises:
            PluginError: it failed.
        """
        request = pb.NodeUnstageVolumeRequest(volume_id=volume, staging_target_path=path)
        await call(self._node.NodeUnstageVolume, request, timeout=TIMEOUT)

    async def publish(self, request: pb.NodePublishVolumeRequest) -> None:
        """Mount a volume for a pod.

        Raises:
            PluginError: it failed; if not ``final``, the driver may still be at it.
        """
        await call(self._node.NodePublishVolume, request, timeout=TIMEOUT)

    async def unpublish(self, volume: str, path: str) -> None:
        """Undo ``publish``.

        Raises:
            PluginError: it failed.
        """
        request = pb.NodeUnpublishVolumeRequest(volume_id=volume, target_path=path)
        await call(self._node.NodeUnpublishVolume, request, timeout=TIMEOUT)

    async def expand(self, request: pb.NodeExpandVolumeRequest) -> int:
        """Have the file system fill a volume that was made larger; return its bytes, 0: not said.

        Raises:
            PluginError: it failed.
        """
        answer = await call(self._node.NodeExpandVolume, request, timeout=TIMEOUT)
        return answer.capacity_bytes

    async def usage(self, volume: str, path: str, *, timeout: float = TIMEOUT) -> Usage:
        """Return the space of a published volume.

        Raises:
            PluginError: it failed, or the driver cannot tell.
        """
        if not await self.can(Capability.GET_VOLUME_STATS):
            raise PluginError(grpc.StatusCode.UNIMPLEMENTED, "the driver tells of no volume stats")
        request = pb.NodeGetVolumeStatsRequest(volume_id=volume, volume_path=path)
        answer = await call(self._node.NodeGetVolumeStats, request, timeout=timeout)
        found: dict[str, int] = {}
        for one in answer.usage:
            if one.unit == pb.VolumeUsage.BYTES:
                found |= {"capacity": one.total, "available": one.available, "used": one.used}
            elif one.unit == pb.VolumeUsage.INODES:
                found |= {
                    "inodes": one.total,
                    "inodes_free": one.available,
                    "inodes_used": one.used,
                }
        return Usage(**found)
