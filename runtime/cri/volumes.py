"""Anonymous volumes: what an image's VOLUME paths become."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from kubeletpy_common.linux import mounts as m
from kubeletpy_common.linux.namespaces import CLONE_NEWNS, unshare
from kubeletpy_common.linux.paths import open_in_root
from runtime.cri.copying import copy_tree
from runtime.cri.runtime import Runtime
from runtime.oci.translate_mounts import normal_path
from runtime.shim.messages import Rootfs
from runtime.state.store import Container

if TYPE_CHECKING:
    from runtime.images.image import Image


def make_volumes(
    runtime: Runtime, container: Container, image: Image, rootfs: Rootfs
) -> dict[str, str]:
    """Make a directory for each VOLUME path that the request mounts nothing on.

    Each begins with what the image has at its path. The directories are named by number: nothing
    of the image's path becomes part of a path of the host (CVE-2022-23648). Blocking.

    Returns:
        the host directories by their path in the container.

    Raises:
        TranslationError: a path is the root or holds a NUL.
        OSError: a directory could not be made or filled.
    """
    taken = {
        normal_path(mount.container_path, "container_path") for mount in container.config.mounts
    }
    targets = {normal_path(path, "VOLUME of the image") for path in image.config.volumes} - taken
    if not targets:
        return {}
    base = runtime.volumes_directory(container.id)
    base.mkdir(mode=0o700)
    volumes = {target: base / str(number) for number, target in enumerate(sorted(targets))}
    for directory in volumes.values():
        directory.mkdir(mode=0o755)
        os.chmod(directory, 0o755)
    _fill(base, volumes, rootfs)
    return {target: str(directory) for target, directory in volumes.items()}


def _fill(base: Path, volumes: dict[str, Path], rootfs: Rootfs) -> None:
    """Copy the image's files into the volumes, seen through overlayfs as a container would."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            _fill_here(base, volumes, rootfs)
        except BaseException as error:
            failures.append(error)

    # Only a thread that ends afterwards can enter a mount namespace of its own.
    thread = threading.Thread(target=work, name="volumes")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _fill_here(base: Path, volumes: dict[str, Path], rootfs: Rootfs) -> None:
    opened = {
        target: os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for target, directory in volumes.items()
    }
    try:
        # The mount is this thread's alone and ends with it; so is the working directory
        # (unshare(2): CLONE_NEWNS implies CLONE_FS).
        unshare(CLONE_NEWNS)
        m.mount(None, "/", None, m.MS_REC | m.MS_PRIVATE)
        os.chdir(rootfs.base)
        # Without an upper directory an overlay is read-only, and needs two lower ones.
        layers = ":".join((rootfs.upper, *rootfs.lower))
        m.mount("overlay", base, "overlay", m.MS_RDONLY, f"lowerdir={layers}")
        root = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for target, volume in opened.items():
                _fill_one(root, target, volume)
        finally:
            os.close(root)
    finally:
        for volume in opened.values():
            os.close(volume)


def _fill_one(root: int, target: str, volume: int) -> None:
    try:
        source = open_in_root(root, target, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        # The image has nothing there: an empty volume.
        return
    try:
        copy_tree(source, volume)
    finally:
        os.close(source)
