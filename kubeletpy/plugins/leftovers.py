"""What a kubelet that ended all pods removes: its sockets, and the states of what nobody has."""

from __future__ import annotations

import contextlib
from pathlib import Path

from kubeletpy.affinity import cpu_state, memory_state
from kubeletpy.devices import records
from kubeletpy.podresources.server import DIRECTORY as POD_RESOURCES
from kubeletpy.podresources.server import SOCKET

from .watcher import DIRECTORY

DEVICE_PLUGINS = "device-plugins"


def remove_sockets(root: Path) -> None:
    """Remove our files below ``--root-dir``; directories in which others have something stay."""
    files = (
        root / DEVICE_PLUGINS / SOCKET,
        root / DEVICE_PLUGINS / records.FILE,
        root / POD_RESOURCES / SOCKET,
        root / cpu_state.FILE,
        root / memory_state.FILE,
    )
    for path in files:
        with contextlib.suppress(OSError):
            path.unlink()
    csi = root / "plugins" / "kubernetes.io" / "csi"
    directories = (
        *(root / name for name in (DEVICE_PLUGINS, POD_RESOURCES, DIRECTORY)),
        *csi.glob("volumeDevices/*/*"),
        *csi.glob("volumeDevices/*"),
        *csi.glob("*"),
        csi,
        csi.parent,
        csi.parent.parent,
    )
    for directory in directories:
        with contextlib.suppress(OSError):
            directory.rmdir()
