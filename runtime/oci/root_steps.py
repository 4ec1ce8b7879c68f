"""The step that mounts a container's root file system."""

from __future__ import annotations

import os

from kubeletpy_common.linux import mounts as m
from kubeletpy_common.linux.libc import AT_FDCWD
from kubeletpy_common.record import Record
from runtime.oci.mappings import to_host
from runtime.oci.user_namespace import map_ids

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.oci.mappings import Mapping
    from runtime.oci.steps import Context
    from runtime.shim.messages import Rootfs


class MountRoot(Record):
    """Mount the overlay that becomes the container's root.

    With a user namespace the layers below are seen through an id-mapped mount, which overlayfs
    itself cannot be (mount_setattr(2)). The container's own directory is not mapped: overlayfs
    works in it under the ids of the container's root, which no mapping knows from the outside.

    Attributes:
        rootfs: its layers.
        target: where.
        uid_mappings: of the user namespace.
        gid_mappings: likewise.
        cover: where the id-mapped mount goes; "": on the layers' own directory.
    """

    rootfs: Rootfs
    target: str
    uid_mappings: tuple[Mapping, ...] = ()
    gid_mappings: tuple[Mapping, ...] = ()
    cover: str = ""

    def describe(self) -> str:
        """Say it in a line."""
        return f"mount the overlay of {len(self.rootfs.lower)} layers on {self.target}"

    def execute(self, context: Context) -> None:
        """Mount it; ``volatile``, for nobody mounts this upper directory a second time."""
        upper, work = self.rootfs.upper, self.rootfs.work
        base = -1
        if context.user_namespace >= 0:
            base = self._map_layers(context.user_namespace)
            upper, work = (f"/proc/self/fd/{base}/{name}" for name in (upper, work))
        mapped = self.cover if base >= 0 else ""
        os.chdir(mapped or self.rootfs.base)
        data = f"lowerdir={':'.join(self.rootfs.lower)},upperdir={upper},workdir={work},volatile"
        m.mount("overlay", self.target, "overlay", 0, data)
        context.root_fd = os.open(self.target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        os.chdir("/")
        if base >= 0:
            os.close(base)

    def _map_layers(self, user_namespace: int) -> int:
        """Make an id-mapped mount of the snapshots; return the directory without one."""
        rootfs = self.rootfs
        base = os.open(rootfs.base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        tree = m.open_tree(AT_FDCWD, rootfs.base, m.OPEN_TREE_CLONE)
        map_ids(tree, user_namespace, rootfs.base)
        # The root directory shown is the upper one; its owner is that of the image's.
        owner = os.stat(rootfs.lower[0], dir_fd=base, follow_symlinks=False)
        uid = to_host(self.uid_mappings, owner.st_uid)
        gid = to_host(self.gid_mappings, owner.st_gid)
        os.chown(
            rootfs.upper,
            -1 if uid is None else uid,
            -1 if gid is None else gid,
            dir_fd=base,
            follow_symlinks=False,
        )
        cover = os.open(self.cover or rootfs.base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        m.attach(tree, cover)
        os.close(cover)
        os.close(tree)
        return base
