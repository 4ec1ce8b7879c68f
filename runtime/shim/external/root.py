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
    from typing import Any, Final

    from runtime.shim.messages import Rootfs

_REACHABLE: Final = ".kubeletpy"
"""Directory below the root of a runtime's mount namespace."""


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
    if context.user_namespace >= 0:
        places.root = make_reachable(places)
    uids, gids = (tuple(linux.get(key, [])) for key in ("uidMappings", "gidMappings"))
    MountRoot(rootfs, places.root, uids, gids, places.layers).execute(context)
    for number, mount in enumerate(config.get("mounts", [])):
        if mount.get("type") == "image":
            base = mount["source"] if context.user_namespace < 0 else places.layers
            layers = tuple(mount["layers"])
            OpenImage(number, base, layers, mount["subPath"], places.volume).execute(context)
            _attach(context.sources[number], f"{places.images}/{number}")


def make_reachable(places: Places) -> str:
    """Make a place for the root that a user of the container can reach; returns its path.

    The runtime's first process looks the root up as root of the pod's user namespace, who has no
    business in the state directories. Instead of opening them, this mount namespace gets another
    root directory, with all that the old one shows and a directory more. Such a pod cannot ask for
    mounts that propagate to the host, so nothing needs its peers. A runtime that executes a further
    process looks for the place again, and finds it empty.

    Raises:
        OSError: the kernel refused.
    """
    m.mount(None, "/", None, m.MS_SLAVE | m.MS_REC)
    view = places.volume
    m.mount("tmpfs", view, "tmpfs", m.MS_NOSUID | m.MS_NODEV, "mode=0755")
    for entry in os.scandir("/"):
        target = f"{view}/{entry.name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), target)
            continue
        if entry.is_dir():
            os.mkdir(target)
        else:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        m.mount(entry.path, target, None, m.MS_BIND | m.MS_REC)
    root = f"/{_REACHABLE}/root"
    os.mkdir(f"{view}/{_REACHABLE}", 0o755)
    os.mkdir(view + root, 0o755)
    os.chdir(view)
    m.pivot_root(".", ".")
    m.umount(".", m.MNT_DETACH)
    os.chdir("/")
    return root


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
