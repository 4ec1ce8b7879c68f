"""Follows ``<root-dir>/plugins_registry``: a socket that appears is a plug-in that registers.

The handshake: GetInfo, then the handler of its type looks at name and versions and takes it, then
NotifyRegistrationStatus tells it how that went. A socket that vanishes, or is made anew, is a
plug-in that went, or another one. Each socket is followed by a task of its own, so that a plug-in
that hangs holds up nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from asyncinotify import Inotify, Mask

from kubeletpy_common import logs
from kubeletpy_proto import pluginregistration_pb2, pluginregistration_pb2_grpc

from .channels import PluginError, call, connect

_log = logging.getLogger(__name__)
DIRECTORY = "plugins_registry"
CSI_PLUGIN, DEVICE_PLUGIN = "CSIPlugin", "DevicePlugin"
_INFO_TIMEOUT, _NOTIFY_TIMEOUT = 5.0, 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 120.0
"""Seconds until a plug-in that could not be registered is tried again: at first, and at most."""
_DEEPEST, _MOST = 8, 1000
_CHANGES = (
    Mask.CREATE | Mask.DELETE | Mask.MOVED_FROM | Mask.MOVED_TO | Mask.DELETE_SELF | Mask.MOVE_SELF
)
_LOST = Mask.Q_OVERFLOW


class PluginRefused(Exception):
    """A handler does not take a plug-in; the message is told to it."""


class PluginHandler(Protocol):
    """Takes the plug-ins of one type."""

    def validate(self, name: str, endpoint: str, versions: list[str]) -> None:
        """Check whether a plug-in can be taken.

        Raises:
            PluginRefused: it cannot.
        """

    async def register(self, name: str, endpoint: str, versions: list[str]) -> None:
        """Take a plug-in.

        Raises:
            PluginRefused: it could not be done; tried again later.
        """

    async def deregister(self, name: str, endpoint: str) -> None:
        """Let go of a plug-in whose socket vanished."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A plug-in that was taken."""

    kind: str
    name: str
    endpoint: str


@dataclass
class _Follower:
    """What is known of one socket.

    Attributes:
        identity: tells it from another one of the same name.
        generation: raised whenever another one took its place.
        there: whether it is there.
    """

    identity: tuple[int, int, int]
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    generation: int = 0
    there: bool = True
    task: asyncio.Task[None] | None = None


class PluginWatcher:
    """Registers plug-ins as long as `run` runs.

    Args:
        directory: ``<root-dir>/plugins_registry``; made if it is not there.
        handlers: by type.

    Attributes:
        registered: by socket, the plug-ins taken.
    """

    def __init__(self, directory: Path, handlers: Mapping[str, PluginHandler]) -> None:
        self.registered: dict[Path, Registered] = {}
        self._directory = directory
        self._handlers = handlers
        self._followers: dict[Path, _Follower] = {}

    async def run(self) -> None:
        """Follow the directory until cancelled; plug-ins stay registered."""
        self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        try:
            while True:
                with Inotify() as inotify:
                    await self._follow(inotify)
        finally:
            tasks = [one.task for one in self._followers.values() if one.task is not None]
            self._followers.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, inotify: Inotify) -> None:
        """Look at everything, then at what changes; return when the directory was replaced."""
        watched: set[Path] = set()
        self._look(inotify, watched)
        async for event in inotify:
            if event.mask & _LOST or event.path is None:
                return
            if event.mask & (Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.IGNORED):
                if event.path == self._directory:
                    self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
                    return
                watched.discard(event.path)
            follower = self._followers.get(event.path)
            if follower is not None and follower.identity != _identity(event.path):
                follower.identity = _identity(event.path)
                follower.generation += 1
                follower.bell.set()
            self._look(inotify, watched)

    def _look(self, inotify: Inotify, watched: set[Path]) -> None:
        """Compare the followers with the sockets that are there."""
        directories, sockets = _scan(self._directory)
        fresh = [one for one in directories if one not in watched]
        for directory in fresh:
            with contextlib.suppress(OSError):
                inotify.add_watch(directory, _CHANGES)
                watched.add(directory)
        if fresh:
            # What came into a new directory before it was watched.
            _, sockets = _scan(self._directory)
        for path in sockets:
            follower = self._followers.get(path)
            if follower is None or (follower.task is not None and follower.task.done()):
                follower = self._followers[path] = _Follower(_identity(path))
                follower.task = asyncio.create_task(
                    self._keep(path, follower), name=f"plugin {path.name}"
                )
            follower.there = True
        for path, follower in self._followers.items():
            if path not in sockets and follower.there:
                follower.there = False
                follower.bell.set()

    async def _keep(self, path: Path, follower: _Follower) -> None:
        """Keep one socket registered as long as it is there."""
        pause = FIRST_PAUSE
        while True:
            generation = follower.generation
            follower.bell.clear()
            if follower.there and path not in self.registered:
                try:
                    await self._register(path)
                    pause = FIRST_PAUSE
                except (PluginRefused, PluginError) as error:
                    logs.event(
                        _log, logging.WARNING, "plug-in not registered", socket=str(path),
                        reason=str(error), again_after_s=pause,
                    )  # fmt: skip
            if not follower.bell.is_set():
                retry = path not in self.registered and follower.there
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause if retry else None):
                        await follower.bell.wait()
                pause = min(pause * 2, LONGEST_PAUSE)
            if follower.generation != generation or not follower.there:
                pause = FIRST_PAUSE
                await self._deregister(path)
            if not follower.there:
                self._followers.pop(path, None)
                return

    async def _register(self, path: Path) -> None:
        """Do the handshake with a plug-in.

        Raises:
            PluginRefused, PluginError: it was not taken.
        """
        async with connect(path) as channel:
            stub: pluginregistration_pb2_grpc.RegistrationAsyncStub
            stub = pluginregistration_pb2_grpc.RegistrationStub(channel)
            request = pluginregistration_pb2.InfoRequest()
            info = await call(stub.GetInfo, request, timeout=_INFO_TIMEOUT)
            endpoint = info.endpoint or str(path)
            try:
                await self._take(path, info, endpoint)
            except PluginRefused as error:
                await _notify(stub, str(error))
                raise
            try:
                await _notify(stub, "")
            except PluginError:
                await self._deregister(path)
                raise
        logs.event(
            _log, logging.INFO, "plug-in registered", kind=info.type, name=info.name,
            endpoint=endpoint,
        )  # fmt: skip

    async def _take(
        self, path: Path, info: pluginregistration_pb2.PluginInfo, endpoint: str
    ) -> None:
        handler = self._handlers.get(info.type)
        if handler is None:
            raise PluginRefused(
                "RegisterPlugin error -- no handler registered for plugin type: "
                f"{info.type} at socket {path}"
            )
        versions = list(info.supported_versions)
        try:
            handler.validate(info.name, endpoint, versions)
        except PluginRefused as error:
            raise PluginRefused(
                f"RegisterPlugin error -- plugin validation failed with err: {error}"
            ) from error
        self.registered[path] = Registered(info.type, info.name, endpoint)
        try:
            await handler.register(info.name, endpoint, versions)
        except PluginRefused as error:
            self.registered.pop(path, None)
            raise PluginRefused(
                f"RegisterPlugin error -- plugin registration failed with err: {error}"
            ) from error
        except BaseException:
            self.registered.pop(path, None)
            raise

    async def _deregister(self, path: Path) -> None:
        known = self.registered.pop(path, None)
        if known is None:
            return
        if any(
            (other.kind, other.name) == (known.kind, known.name)
            for other in self.registered.values()
        ):
            # The same plug-in has registered on another socket meanwhile (a rolling update).
            return
        logs.event(_log, logging.INFO, "plug-in gone", kind=known.kind, name=known.name)
        await self._handlers[known.kind].deregister(known.name, known.endpoint)


async def _notify(stub: pluginregistration_pb2_grpc.RegistrationAsyncStub, error: str) -> None:
    status = pluginregistration_pb2.RegistrationStatus(plugin_registered=not error, error=error)
    await call(stub.NotifyRegistrationStatus, status, timeout=_NOTIFY_TIMEOUT)


def _identity(path: Path) -> tuple[int, int, int]:
    """Return what tells two sockets of one name apart; numbers of inodes are soon used again."""
    try:
        status = path.lstat()
    except OSError:
        return (0, 0, 0)
    return (status.st_dev, status.st_ino, status.st_ctime_ns)


def _scan(root: Path) -> tuple[list[Path], set[Path]]:
    """Return the directories and the sockets below ``root``; hidden ones do not count."""
    directories: list[Path] = [root]
    sockets: set[Path] = set()
    pending = [(root, 0)]
    while pending and len(sockets) < _MOST and len(directories) < _MOST:
        directory, depth = pending.pop()
        try:
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.name.startswith("."):
                    continue
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISSOCK(mode):
                    sockets.add(Path(entry.path))
                elif stat.S_ISDIR(mode) and depth < _DEEPEST:
                    directories.append(Path(entry.path))
                    pending.append((Path(entry.path), depth + 1))
    return directories, sockets
