"""``vol_data.json``: what is needed to undo a volume, in the Go kubelet's layout.

::

    plugins/kubernetes.io/csi/<driver>/<sha256 of the handle>/vol_data.json   a staged volume
                                                             /globalmount     staged here
    pods/<uid>/volumes/kubernetes.io~csi/<volume>/vol_data.json               a pod's volume
                                                 /mount                       published here
    plugins/kubernetes.io/csi/volumeDevices/{staging,publish}/<volume>        raw devices
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from kubeletpy.volumes import mountinfo
from kubeletpy.volumes.paths import escaped, pods_directory
from kubeletpy_common.atomic import write_atomic

from . import NAME
from .requests import CsiVolume

FILE = "vol_data.json"
MOUNT, GLOBAL_MOUNT = "mount", "globalmount"
UNPUBLISHED = "unpublished"
"""Key of a volume that its driver has unmounted, though the rest of it is not undone yet."""
_LARGEST = 1024 * 1024
Data = dict[str, str]


class Layout:
    """Where the files of CSI volumes are.

    Args:
        root: ``--root-dir``.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._plugins = root / "plugins" / NAME

    def staged(self, volume: CsiVolume) -> Path:
        """Return the directory of a staged volume; its data is in it."""
        digest = hashlib.sha256(volume.handle.encode()).hexdigest()
        return self._plugins / volume.driver / digest

    def staging_path(self, volume: CsiVolume, name: str) -> Path:
        """Return where a driver stages a volume; ``name`` is the PersistentVolume's."""
        if volume.block:
            return self._plugins / "volumeDevices" / "staging" / name
        return self.staged(volume) / GLOBAL_MOUNT

    def target(self, directory: Path, volume_name: str, uid: str, *, block: bool) -> Path:
        """Return where a driver publishes a volume for a pod.

        Args:
            directory: of the volume in the pod's directory.
            volume_name: of the PersistentVolume.
            uid: of the pod.
            block: whether it is a raw device.
        """
        if block:
            return self._plugins / "volumeDevices" / "publish" / volume_name / uid
        return directory / MOUNT

    def all_staged(self) -> Iterator[tuple[Path, Data]]:
        """Yield the directories and data of all volumes that are, or may be, staged."""
        for path in sorted(self._plugins.glob(f"*/*/{FILE}")):
            data = load(path.parent)
            if data is not None:
                yield path.parent, data

    def users(self, driver: str, handle: str) -> set[str]:
        """Return the UIDs of the pods for which a volume is, or may be, published."""
        found = set()
        pattern = f"*/volumes/{escaped(NAME)}/*/{FILE}"
        for path in pods_directory(self._root).glob(pattern):
            data = load(path.parent)
            if not data or data.get(UNPUBLISHED) == "true":
                continue
            if (data.get("driverName"), data.get("volumeHandle")) == (driver, handle):
                found.add(path.parents[3].name)
        return found


def save(directory: Path, data: Data) -> None:
    """Write the data of a volume, its directory made if it is not there.

    Raises:
        OSError: it cannot be written.
    """
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    write_atomic(directory / FILE, json.dumps(data), sync=True)


def load(directory: Path) -> Data | None:
    """Return the data of a volume; None if there is none that can be understood."""
    try:
        with open(directory / FILE, "rb") as file:
            found = json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    return {str(key): str(value) for key, value in found.items()}


def remove(directory: Path, target: Path) -> None:
    """Remove what is left of a volume once its driver let go of it; nothing is fine.

    A driver removes the target itself; some do not.

    Raises:
        OSError: it is still mounted, or not empty.
    """
    if mountinfo.mounted_at(target) is not None:
        raise OSError(errno.EBUSY, f"{target} is still mounted: the driver did not unmount it")
    with contextlib.suppress(FileNotFoundError):
        if target.is_dir() and not target.is_symlink():
            target.rmdir()
        else:
            target.unlink()
    (directory / FILE).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        os.rmdir(directory)
