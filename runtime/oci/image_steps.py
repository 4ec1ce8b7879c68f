"""The step that makes an image ready to be mounted into a container."""

from __future__ import annotations

import os

from kubeletpy_common.linux import mounts as m
from kubeletpy_common.linux.libc import AT_EMPTY_PATH
from kubeletpy_common.linux.paths import open_in_root
from kubeletpy_common.record import Record

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.oci.steps import Context


class OpenImage(Record):
    """Stack an image's layers, read-only, and keep what is to be mounted of it as a bind source.

    It comes after the root is mounted: with a user namespace the layers are then seen through an
    id-mapped mount (:class:`runtime.oci.root_steps.MountRoot`), here as well.

    Attributes:
        number: of the mount.
        base: directory that holds the layers.
        layers: relative to ``base``, the topmost first; the last one is empty.
        sub_path: what of the image is meant; "" for all of it.
        place: a directory of this mount namespace to mount on for a moment.
    """

    number: int
    base: str
    layers: tuple[str, ...]
    sub_path: str
    place: str

    def describe(self) -> str:
        """Say it in a line."""
        return f"take {self.sub_path or 'all'} of an image of {len(self.layers) - 1} layers"

    def execute(self, context: Context) -> None:
        """Mount it, clone the part that is asked for, and unmount the rest."""
        os.chdir(self.base)
        if len(self.layers) > 1:
            m.mount("overlay", self.place, "overlay", m.MS_RDONLY, self._data())
        else:
            m.mount(self.layers[0], self.place, None, m.MS_BIND)
        os.chdir("/")
        root = os.open(self.place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # Links of the image are followed inside the image alone.
        part = open_in_root(root, self.sub_path or ".", os.O_PATH)
        flags = m.OPEN_TREE_CLONE | AT_EMPTY_PATH
        context.sources[self.number] = m.open_tree(part, "", flags)
        os.close(part)
        os.close(root)
        m.umount(self.place, m.MNT_DETACH)

    def _data(self) -> str:
        return f"lowerdir={':'.join(self.layers)}"
