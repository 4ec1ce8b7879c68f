"""What a layer needs of the layers below it, done once those are ready.

Layers are unpacked side by side. Two things in a layer's archive may speak of lower layers: a
directory that has no entry of its own (it keeps the attributes it has below, which overlayfs would
otherwise hide), and a hard link to a file of a lower layer (the file is copied up, as a link made
on the mounted file system would copy it).
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from runtime.images.errors import UnsafeLayer
from runtime.snapshots.lookup import Found, MergedTree, is_opaque
from runtime.unpacker.names import BadName, Name, classify, keep_xattr
from runtime.unpacker.tree import LayerTree
from runtime.unpacker.writer import PendingLink

_COPY: Final = 1 << 20


@dataclass(frozen=True)
class Notes:
    """What is to be done once the lower layers are ready.

    Attributes:
        implied: directories that were made without an entry of their own.
        pending: hard links to what is not in the layer.
    """

    implied: tuple[bytes, ...]
    pending: tuple[PendingLink, ...]

    def write(self, file: BinaryIO) -> None:
        """Keep it in ``file``, a line for each.

        Raises:
            OSError: the disk is full or failed.
        """
        for path in self.implied:
            file.write(json.dumps([_text(path)]).encode() + b"\n")
        for link in self.pending:
            names = [_text(_path(link.name)), _text(_path(link.target))]
            file.write(json.dumps(names).encode() + b"\n")
        file.flush()

    @classmethod
    def read(cls, file: BinaryIO) -> Notes:
        """Return what :meth:`write` has kept.

        Raises:
            ValueError: it is something else.
        """
        implied: list[bytes] = []
        pending: list[PendingLink] = []
        for line in file:
            first, *more = (text.encode("utf-8", "surrogateescape") for text in json.loads(line))
            if more:
                pending.append(PendingLink(classify(first), classify(more[0])))
            else:
                implied.append(first)
        return cls(tuple(implied), tuple(pending))


def _path(name: Name) -> bytes:
    return b"/".join((*name.parents, name.last))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def settle(root_fd: int, lower: Sequence[Path], notes: Notes) -> None:
    """Finish a layer.

    Args:
        root_fd: its directory; the descriptor stays the caller's.
        lower: the roots of the layers below, the topmost first.
        notes: what is to be done.

    Raises:
        UnsafeLayer: a hard link's target is nowhere, or is not a file.
        OSError: the disk is full or failed.
    """
    merged, tree = MergedTree(lower), LayerTree(root_fd)
    try:
        for link in notes.pending:
            try:
                _copy_up(tree, merged, link)
            except BadName as error:
                raise UnsafeLayer(f"entry {_path(link.name)!a}: {error}") from None
        for path in (*notes.implied, *tree.implied.values()):
            _inherit(tree, merged, path)
    finally:
        tree.close()


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
