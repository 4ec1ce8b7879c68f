"""A small CSI driver: a real gRPC server on a socket, in this process; volumes are directories."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.json_format import MessageToDict

from kubeletpy_common.linux import mounts
from kubeletpy_proto import csi_pb2 as pb
from kubeletpy_proto import csi_pb2_grpc

Types = pb.NodeServiceCapability.RPC
ALL = (Types.STAGE_UNSTAGE_VOLUME, Types.GET_VOLUME_STATS, Types.EXPAND_VOLUME)
_Context = grpc.aio.ServicerContext[Any, Any]


class CsiDriver(csi_pb2_grpc.NodeServicer):
    """Volumes are directories below ``volumes``.

    Attributes:
        calls: name and request (as JSON) of each call that changes something.
        fault: by name of a call, what it fails with.
    """

    def __init__(
        self,
        socket: Path,
        volumes: Path,
        *,
        capabilities: tuple[int, ...] = ALL,
        binds: bool = False,
        topology: dict[str, str] | None = None,
    ) -> None:
        self.socket = socket
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.fault: dict[str, tuple[grpc.StatusCode, str]] = {}
        self.called = asyncio.Event()
        self._volumes = volumes
        self._capabilities = capabilities
        self._binds = binds
        self._topology = topology or {}
        self._server: grpc.aio.Server | None = None

    def names(self) -> list[str]:
        """The names of the calls so far."""
        return [name for name, _ in self.calls]

    async def start(self) -> CsiDriver:
        server = grpc.aio.server()
        csi_pb2_grpc.add_NodeServicer_to_server(self, server)
        server.add_insecure_port(f"unix:{self.socket}")
        await server.start()
        self._server = server
        return self

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None
        self.socket.unlink(missing_ok=True)

    async def _note(self, name: str, request: Any, context: _Context) -> None:
        self.calls.append((name, MessageToDict(request)))
        self.called.set()
        if name in self.fault:
            await context.abort(*self.fault[name])

    def _place(self, volume: str) -> Path:
        place = self._volumes / volume
        place.mkdir(parents=True, exist_ok=True)
        return place

    async def NodeGetInfo(
        self, request: pb.NodeGetInfoRequest, context: _Context
    ) -> pb.NodeGetInfoResponse:
        return pb.NodeGetInfoResponse(
            node_id="node-1",
            max_volumes_per_node=7,
            accessible_topology=pb.Topology(segments=self._topology),
        )

    async def NodeGetCapabilities(
        self, request: pb.NodeGetCapabilitiesRequest, context: _Context
    ) -> pb.NodeGetCapabilitiesResponse:
        found = pb.NodeGetCapabilitiesResponse()
        for one in self._capabilities:
            found.capabilities.add().rpc.type = one  # type: ignore[assignment]
        return found

    async def NodeStageVolume(
        self, request: pb.NodeStageVolumeRequest, context: _Context
    ) -> pb.NodeStageVolumeResponse:
        await self._note("stage", request, context)
        assert Path(request.staging_target_path).is_dir()
        return pb.NodeStageVolumeResponse()

    async def NodeUnstageVolume(
        self, request: pb.NodeUnstageVolumeRequest, context: _Context
    ) -> pb.NodeUnstageVolumeResponse:
        await self._note("unstage", request, context)
        return pb.NodeUnstageVolumeResponse()

    async def NodePublishVolume(
        self, request: pb.NodePublishVolumeRequest, context: _Context
    ) -> pb.NodePublishVolumeResponse:
        await self._note("publish", request, context)
        target = Path(request.target_path)
        fresh = not target.exists()
        target.mkdir(exist_ok=True)
        if self._binds and fresh:
            mounts.mount(str(self._place(request.volume_id)), target, None, mounts.MS_BIND)
        return pb.NodePublishVolumeResponse()

    async def NodeUnpublishVolume(
        self, request: pb.NodeUnpublishVolumeRequest, context: _Context
    ) -> pb.NodeUnpublishVolumeResponse:
        await self._note("unpublish", request, context)
        target = Path(request.target_path)
        if target.exists():
            if self._binds:
                mounts.umount(target, mounts.UMOUNT_NOFOLLOW)
            target.rmdir()
        return pb.NodeUnpublishVolumeResponse()

    async def NodeExpandVolume(
        self, request: pb.NodeExpandVolumeRequest, context: _Context
    ) -> pb.NodeExpandVolumeResponse:
        await self._note("expand", request, context)
        return pb.NodeExpandVolumeResponse(capacity_bytes=request.capacity_range.required_bytes)

    async def NodeGetVolumeStats(
        self, request: pb.NodeGetVolumeStatsRequest, context: _Context
    ) -> pb.NodeGetVolumeStatsResponse:
        return pb.NodeGetVolumeStatsResponse(
            usage=[
                pb.VolumeUsage(unit=pb.VolumeUsage.BYTES, total=100, available=60, used=40),
                pb.VolumeUsage(unit=pb.VolumeUsage.INODES, total=10, available=8, used=2),
            ]
        )
