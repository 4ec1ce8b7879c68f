"""Where device plug-ins register: ``kubelet.sock``, and the handler of the plug-in watcher."""

from __future__ import annotations

import contextlib
import logging
import re
import stat
from pathlib import Path

import grpc
import grpc.aio

from kubeletpy.plugins.channels import PluginError
from kubeletpy.plugins.sockets import SocketServer, listen
from kubeletpy.plugins.watcher import PluginRefused
from kubeletpy_common import logs
from kubeletpy_proto import deviceplugin_pb2, deviceplugin_pb2_grpc

from .manager import DeviceManager
from .records import FILE

_log = logging.getLogger(__name__)
VERSION = "v1beta1"
SOCKET = "kubelet.sock"
_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]")
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LONGEST_DOMAIN = 253


def is_extended(resource: str) -> bool:
    """Whether a name is that of a resource that is not Kubernetes' own (pure)."""
    domain, slash, name = resource.partition("/")
    if not slash or "kubernetes.io/" in resource or resource.startswith("requests."):
        return False
    quota = f"requests.{domain}"
    return (
        len(quota) <= _LONGEST_DOMAIN
        and _DOMAIN.fullmatch(quota) is not None
        and _NAME.fullmatch(name) is not None
    )


def check(resource: str, versions: list[str]) -> None:
    """Check what a plug-in says of itself (pure).

    Raises:
        PluginRefused: it cannot be taken.
    """
    if VERSION not in versions:
        raise PluginRefused(
            f"manager version, {VERSION}, is not among plugin supported versions {versions}"
        )
    if not is_extended(resource):
        raise PluginRefused(
            f'the ResourceName "{resource}" is invalid: it must be an extended resource such as '
            "vendor.com/device"
        )


class DeviceHandler:
    """Takes device plug-ins that the plug-in watcher found.

    Args:
        manager: of the devices.
    """

    def __init__(self, manager: DeviceManager) -> None:
        self._manager = manager

    def validate(self, name: str, endpoint: str, versions: list[str]) -> None:
        """Check name and versions.

        Raises:
            PluginRefused: it cannot be taken.
        """
        check(name, versions)

    async def register(self, name: str, endpoint: str, versions: list[str]) -> None:
        """Connect to a plug-in.

        Raises:
            PluginRefused: it cannot be reached.
        """
        try:
            await self._manager.connect(name, Path(endpoint))
        except PluginError as error:
            raise PluginRefused(str(error)) from error

    async def deregister(self, name: str, endpoint: str) -> None:
        """Let go of a plug-in."""
        await self._manager.disconnect(name)


class RegistrationServer(SocketServer, deviceplugin_pb2_grpc.RegistrationServicer):
    """The kubelet's side of ``v1beta1.Registration``.

    Args:
        directory: ``<root-dir>/device-plugins``: our socket and the plug-ins'.
        manager: of the devices.
    """

    def __init__(self, directory: Path, manager: DeviceManager) -> None:
        super().__init__()
        self._directory = directory
        self._manager = manager

    async def listening(self) -> grpc.aio.Server:
        """Listen; sockets of the time before are removed, by which plug-ins see a new kubelet.

        Raises:
            OSError: it cannot listen.
        """
        self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        _remove_sockets(self._directory)
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        deviceplugin_pb2_grpc.add_RegistrationServicer_to_server(self, server)
        await listen(server, self._directory / SOCKET)
        return server

    async def Register(
        self,
        request: deviceplugin_pb2.RegisterRequest,
        context: grpc.aio.ServicerContext[deviceplugin_pb2.RegisterRequest, deviceplugin_pb2.Empty],
    ) -> deviceplugin_pb2.Empty:
        """Take a plug-in that listens beside us."""
        name = request.endpoint
        try:
            check(request.resource_name, [request.version])
            if not name or "/" in name or name in (".", "..", SOCKET):
                raise PluginRefused(f"endpoint {name!r} is no name of a socket beside {SOCKET}")
            await self._manager.connect(request.resource_name, self._directory / name)
        except (PluginRefused, PluginError) as error:
            logs.event(
                _log, logging.WARNING, "device plug-in not registered",
                resource=request.resource_name, endpoint=name, reason=str(error),
            )  # fmt: skip
            await context.abort(grpc.StatusCode.UNKNOWN, str(error))
        logs.event(
            _log, logging.INFO, "device plug-in registered", resource=request.resource_name,
            endpoint=name,
        )  # fmt: skip
        return deviceplugin_pb2.Empty()


def _remove_sockets(directory: Path) -> None:
    for entry in directory.iterdir():
        if entry.name != FILE and stat.S_ISSOCK(entry.lstat().st_mode):
            with contextlib.suppress(OSError):
                entry.unlink()
