"""What a layer needs of the layers below it, done once those are ready.

Layers are unpacked side by side. Two things in a layer's archive may speak of lower layers: a
directory that has no entry of its own (it keeps the attributes it has below, which overlayfs would
otherwise hide), and a hard link to a file of a lower layer (the file is copied up, as a link made
on the mounted file system would copy it).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from runtime.images.content import disk_errors
from runtime.images.errors import UnsafeLayer
from runtime.images.layer_names import BadName, Name, keep_xattr
from runtime.images.layer_tree import LayerTree
from runtime.images.layer_writer import PendingLink
from runtime.images.unpack import Unpacked
from runtime.snapshots.lookup import Found, MergedTree, is_opaque

_COPY: Final = 1 << 20


def settle(
    directory: Path,
    lower: Sequence[Path],
    unpacked: Unpacked,
    digest: str,
    check: Callable[[], None],
) -> None:
    """Finish the layer in ``directory``.

    Args:
        directory: its root, as :func:`runtime.images.unpack.unpack` left it.
        lower: the roots of the layers below, the topmost first.
        unpacked: what that function returned.
        digest: of the layer, for errors.
        check: called often; whatever it raises ends the work.

    Raises:
        UnsafeLayer: a hard link's target is nowhere, or is not a file.
        NoSpace, StoreError: the disk is full or failed.
    """
    merged = MergedTree(lower)
    with disk_errors(f"finishing layer {digest}", directory), ExitStack() as resources:
        root_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        resources.callback(os.close, root_fd)
        tree = LayerTree(root_fd)
        resources.callback(tree.close)
        for link in unpacked.pending:
            check()
            try:
                _copy_up(tree, merged, link)
            except BadName as error:
                name = ascii(b"/".join((*link.name.parents, link.name.last)))
                raise UnsafeLayer(f"layer {digest}: entry {name}: {error}") from None
        for path in (*unpacked.implied, *tree.implied.values()):
            check()
            _inherit(tree, merged, path)


def _copy_up(tree: LayerTree, merged: MergedTree, link: PendingLink) -> None:
    target = link.target
    parent = tree.directory(target.parent)
    if not _exists(parent, target.last):
        with ExitStack() as resources:
            path = b"/".join((*target.parents, target.last))
            found = merged.find(path, resources, follow=False)
            if found is None or not stat.S_ISREG(found.status.st_mode):
                raise BadName("it is a hard link to what is not a file of the image")
            _copy(found, parent, target)
    # The directory of the link may be another one: look it up before the target's is forgotten.
    source = os.dup(parent)
    try:
        destination = tree.directory(link.name.parent)
        tree.clear(destination, link.name.last)
        os.link(target.last, link.name.last, src_dir_fd=source, dst_dir_fd=destination,
                follow_symlinks=False)  # fmt: skip
    finally:
        os.close(source)


def _exists(parent: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _copy(found: Found, parent: int, name: Name) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name.last, flags, 0o600, dir_fd=parent)
    try:
        offset = 0
        while count := os.copy_file_range(found.descriptor, descriptor, _COPY, offset):
            offset += count
        _copy_attributes(found, descriptor)
    finally:
        os.close(descriptor)


def _copy_attributes(found: Found, descriptor: int) -> None:
    status = found.status
    os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(found.descriptor):
        if keep_xattr(name):
            os.setxattr(descriptor, name, os.getxattr(found.descriptor, name))
    os.utime(descriptor, ns=(status.st_mtime_ns, status.st_mtime_ns))


def _inherit(tree: LayerTree, merged: MergedTree, path: bytes) -> None:
    """Give an implied directory the attributes that it has in the layers below."""
    descriptor = tree.existing(path)
    if descriptor is None:
        return
    try:
        if is_opaque(descriptor):
            return
        with ExitStack() as resources:
            found = merged.find(path, resources, follow=False)
            if found is not None and stat.S_ISDIR(found.status.st_mode):
                _copy_attributes(found, descriptor)
    finally:
        os.close(descriptor)
