"""A container's file systems, mounted where an external runtime looks for them.

Everything happens in a mount namespace of the caller's own, below a directory that is a private
mount of the pod's. So nothing of it propagates to the host, while all other mounts keep their
peers, which volumes with propagation depend on.
"""

from __future__ import annotations

import os
import stat

from kubeletpy_common.linux import mounts as m
from runtime.oci.image_steps import OpenImage
from runtime.oci.root_steps import MountRoot
from runtime.oci.steps import Context
from runtime.oci.user_namespace import open_user_namespace

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runtime.shim.messages import Rootfs


class Places:
    """Where the file systems of one container are.

    Args:
        roots: directory of the pod.
        container_id: the CRI id.

    Attributes:
        directory: of the container.
        root: its root file system.
        images: its image volumes, by the number of the mount.
        layers: the snapshots as its user namespace sees them.
        volume: an image volume for the moment in which a part of it is taken.
    """

    def __init__(self, roots: str, container_id: str) -> None:
        self.directory = f"{roots}/{container_id}"
        self.root = f"{self.directory}/root"
        self.images = f"{self.directory}/images"
        self.layers = f"{self.directory}/layers"
        self.volume = f"{self.directory}/volume"

    def make(self) -> None:
        """Make the directories.

        Raises:
            OSError: the disk is full.
        """
        for path in (self.root, self.images, self.layers, self.volume):
            os.makedirs(path, mode=0o700, exist_ok=True)

    def remove(self) -> None:
        """Remove them, where nothing is mounted; what cannot be removed goes with the pod."""
        for path, directories, files in os.walk(self.directory, topdown=False):
            for remove, names in ((os.unlink, files), (os.rmdir, directories)):
                for name in names:
                    try:
                        remove(f"{path}/{name}")
                    except OSError:
                        continue
        try:
            os.rmdir(self.directory)
        except OSError:
            pass


def mount_all(places: Places, rootfs: Rootfs, config: dict[str, Any]) -> None:
    """Mount the root file system and the image volumes of a container.

    Args:
        places: where.
        rootfs: the overlay of the image's layers.
        config: the OCI configuration.

    Raises:
        OSError: the kernel refused.
    """
    places.make()
    linux = config["linux"]
    context = Context(user_namespace=open_user_namespace(config))
    uids, gids = (tuple(linux.get(key, [])) for key in ("uidMappings", "gidMappings"))
    MountRoot(rootfs, places.root, uids, gids, places.layers).execute(context)
    for number, mount in enumerate(config.get("mounts", [])):
        if mount.get("type") == "image":
            base = mount["source"] if context.user_namespace < 0 else places.layers
            layers = tuple(mount["layers"])
            OpenImage(number, base, layers, mount["subPath"], places.volume).execute(context)
            _attach(context.sources[number], f"{places.images}/{number}")


def _attach(tree: int, target: str) -> None:
    """Mount a detached part of an image, a directory or a file, on ``target``, which is made."""
    if stat.S_ISDIR(os.fstat(tree).st_mode):
        os.makedirs(target, mode=0o700, exist_ok=True)
    else:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    descriptor = os.open(target, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    m.attach(tree, descriptor)
    os.close(descriptor)
    os.close(tree)
