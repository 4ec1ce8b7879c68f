"""The seam between the volume manager and what makes volumes: one plugin for each kind.

The manager resolves what a pod's volume stands for (an inline source, or the PersistentVolume
behind a claim), asks the first plugin that ``supports`` it, and writes to disk what it is about to
do before it does it. After a restart that record is all that is known: ``tear_down`` gets no pod.

A plugin is added by ``VolumeManager.add(plugin)``, before the first pod is taken up; the CSI
plugin comes in that way. Everything may be called again at any time and must then do only what is
still missing; calls for one volume of one pod never run at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from kubeletpy.api.pod import Pod
from kubeletpy.api.volumes import Volume

Object = dict[str, Any]
"""An object of the API server, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSource:
    """What a volume of a pod stands for: exactly one of an inline source and a PersistentVolume.

    Attributes:
        inline: the pod's volume, if its source is said in the pod.
        volume: the PersistentVolume, for claims (generic ephemeral volumes too).
        claim: the PersistentVolumeClaim that it is bound to.
    """

    inline: Volume | None = None
    volume: Object | None = None
    claim: Object | None = None

    def of_volume(self, kind: str) -> Object | None:
        """Return one source of the PersistentVolume, such as ``csi``; None if it has no such."""
        if self.volume is None:
            return None
        source = self.volume.get("spec", {}).get(kind)
        return source if isinstance(source, dict) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRequest:
    """A volume that is to be there for a pod.

    Attributes:
        pod: as it is now.
        name: of the volume in the pod.
        spec_name: name of the PersistentVolume, else of the volume; names its directory.
        source: what it stands for.
        directory: ``pods/<uid>/volumes/<plugin, / as ~>/<spec_name>``, not made yet.
        read_only: what the claim's use in the pod, or the inline source, asks for.
        block: whether containers get the raw device (``volumeDevices``).
        fs_group: group that shall own its files; None: as they are.
        fs_group_policy: ``Always`` or ``OnRootMismatch`` (KEP-695).
        fs_user: the one user that all containers of the pod run as; None if there is none.
    """

    pod: Pod
    name: str
    spec_name: str
    source: VolumeSource
    directory: Path
    read_only: bool = False
    block: bool = False
    fs_group: int | None = None
    fs_group_policy: str = "Always"
    fs_user: int | None = None


class MountRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A volume as it is kept on disk while anything of it may be mounted.

    Attributes:
        name, spec_name, read_only, block: as in the request.
        plugin: name of the plugin.
        path: what is mounted into containers; a device for ``block``; "" for image volumes.
    """

    name: str
    spec_name: str
    plugin: str
    path: str = ""
    read_only: bool = False
    block: bool = False


@dataclass(frozen=True, slots=True)
class SetUp:
    """What `VolumePlugin.set_up` made.

    Attributes:
        again_after: seconds after which it is to be called again though nothing changed (tokens
            that expire, CSI drivers with ``requiresRepublish``); None: never.
        changed: whether what containers see has changed.
    """

    again_after: float | None = None
    changed: bool = False


class VolumePlugin(Protocol):
    """Makes and removes the volumes of one kind.

    Attributes:
        name: as in Kubernetes, for instance ``kubernetes.io/csi``.
        mount_options: whether ``mountOptions`` of a PersistentVolume are honoured.
        follows: whether ``set_up`` is to be called again when the pod or an object that it
            refers to has changed.
    """

    name: str
    mount_options: bool
    follows: bool

    def supports(self, source: VolumeSource) -> bool:
        """Whether this plugin makes such volumes (pure)."""

    def path(self, request: VolumeRequest) -> str:
        """Return what is to be mounted into containers (pure)."""

    def read_only(self, request: VolumeRequest) -> bool:
        """Whether containers get it read-only, whatever their mounts say (pure)."""

    async def set_up(self, request: VolumeRequest) -> SetUp:
        """Make what is missing.

        Cancelled when the pod ends or the manager's deadline passes; it must not block the event
        loop (see `kubeletpy.blocking`).

        Raises:
            VolumeError: it cannot be had for now; shown in the event FailedMount as
                ``MountVolume.SetUp failed for volume "<spec_name>" : <message>``, and tried again.
        """

    async def tear_down(self, uid: str, record: MountRecord) -> None:
        """Undo all that ``set_up`` did; nothing is fine. No container of the pod runs any more.

        Raises:
            VolumeError: something is still in use; tried again.
        """


@dataclass(slots=True)
class Plugins:
    """All plugins, in the order in which they are asked."""

    every: list[VolumePlugin] = field(default_factory=list)

    def of(self, source: VolumeSource) -> VolumePlugin | None:
        """Return the plugin for a source."""
        return next((plugin for plugin in self.every if plugin.supports(source)), None)

    def named(self, name: str) -> VolumePlugin | None:
        """Return a plugin by its name."""
        return next((plugin for plugin in self.every if plugin.name == name), None)
