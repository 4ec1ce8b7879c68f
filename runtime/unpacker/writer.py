"""Applies the entries of a layer's archive to its directory (OCI image specification, layer.md)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from runtime.images.errors import MalformedImage, UnsafeLayer
from runtime.snapshots.trees import is_whiteout
from runtime.unpacker.entries import Entry
from runtime.unpacker.limits import UnpackLimits
from runtime.unpacker.names import (
    MAX_PATH,
    BadName,
    Kind,
    Name,
    classify,
    keep_xattr,
    shown,
)
from runtime.unpacker.names import link_target as checked_link_target
from runtime.unpacker.tree import LayerTree

_MAX_ID: Final = 0xFFFF_FFFE
"""The largest user or group; the next one, as (uid_t)-1, would mean "leave it as it is"."""

_MAX_TIME: Final = (1 << 34) * 1_000_000_000
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NODES: Final = {"char": stat.S_IFCHR, "block": stat.S_IFBLK}

Content = Callable[[int], Iterator[memoryview]]
"""Gives the next bytes of an entry's contents."""


@dataclass(frozen=True)
class PendingLink:
    """A hard link whose target this layer lacks: it is in a lower layer, or nowhere."""

    name: Name
    target: Name


class LayerWriter:
    """Writes one layer.

    ``pending`` holds what needs the lower layers; ``opaque_root`` tells that the layer hides all
    lower layers as a whole.
    """

    def __init__(self, root_fd: int, limits: UnpackLimits) -> None:
        """Write into the empty directory ``root_fd``; the descriptor stays the caller's."""
        self.tree = LayerTree(root_fd)
        self.pending: list[PendingLink] = []
        self.opaque_root = False
        self._root_fd = root_fd
        self._limits = limits
        self._entries = 0
        self._times: dict[bytes, int] = {}
        self._claimed = 0
        self._groups_inherit = False

    def apply(self, entry: Entry, content: Content) -> None:
        """Apply one entry; with the umask at 0.

        Raises:
            UnsafeLayer: the entry reaches out, or exceeds a bound.
            MalformedImage: the entry makes no sense.
            OSError: the kernel refused.
        """
        self._entries += 1
        if self._entries > self._limits.max_entries:
            raise UnsafeLayer(f"it has more than the limit of {self._limits.max_entries} entries")
        try:
            self._apply(entry, content, classify(entry.name))
        except BadName as error:
            raise UnsafeLayer(f"entry {shown(entry.name)}: {error}") from None

    def _apply(self, entry: Entry, content: Content, name: Name) -> None:
        if name.kind is Kind.IGNORED:
            return
        if name.kind is Kind.OPAQUE:
            self._opaque(name)
        elif name.kind is Kind.WHITEOUT:
            self._whiteout(name)
        elif not name.last:
            self._root(entry)
        elif entry.kind == "directory":
            self._directory(entry, name)
        elif entry.kind == "hardlink":
            self._hard_link(entry, name)
        elif entry.kind == "file":
            self._regular(entry, content, name)
        else:
            self._other(entry, name)

    def _opaque(self, name: Name) -> None:
        if not name.parents:
            self.opaque_root = True
            return
        self.tree.set_opaque(self.tree.directory(name.parent), b".")

    def _whiteout(self, name: Name) -> None:
        parent = self.tree.directory(name.parent)
        try:
            found = os.stat(name.last, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            os.mknod(name.last, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
            return
        # A whiteout never hides what its own layer holds, only what lies below.
        if stat.S_ISDIR(found.st_mode):
            self.tree.set_opaque(parent, name.last)

    def _root(self, entry: Entry) -> None:
        if entry.kind != "directory":
            raise BadName("the root is not a directory")
        self._finish_directory(entry, self._root_fd, b".")

    def _directory(self, entry: Entry, name: Name) -> None:
        parent = self.tree.directory(name.parent)
        try:
            os.mkdir(name.last, 0o700, dir_fd=parent)
        except FileExistsError:
            found = os.stat(name.last, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                was_whiteout = self.tree.clear(parent, name.last)
                os.mkdir(name.last, 0o700, dir_fd=parent)
                if was_whiteout:
                    self.tree.set_opaque(parent, name.last)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name.last, flags, dir_fd=parent)
        try:
            self._finish_directory(entry, descriptor, b"/".join((*name.parents, name.last)))
        finally:
            os.close(descriptor)

    def _finish_directory(self, entry: Entry, descriptor: int, path: bytes) -> None:
        self.tree.implied.pop(os.fstat(descriptor).st_ino, None)
        _set_owner_and_mode(descriptor, entry)
        _set_xattrs(descriptor, entry)
        self._groups_inherit = self._groups_inherit or bool(entry.mode & stat.S_ISGID)
        # What is still to be written into the directory would change its time.
        self._times[path] = _time(entry)

    def _hard_link(self, entry: Entry, name: Name) -> None:
        target = checked_link_target(entry.link)
        source = self.tree.existing(target.parent)
        try:
            found = None
            if source is not None:
                try:
                    found = os.stat(target.last, dir_fd=source, follow_symlinks=False)
                except FileNotFoundError:
                    pass
            if source is None or found is None or is_whiteout(found):
                self.pending.append(PendingLink(name, target))
                return
            if stat.S_ISDIR(found.st_mode):
                raise BadName("it is a hard link to a directory")
            parent = self.tree.directory(name.parent)
            if _is_same(parent, name.last, found):
                return
            self.tree.clear(parent, name.last)
            os.link(target.last, name.last, src_dir_fd=source, dst_dir_fd=parent,
                    follow_symlinks=False)  # fmt: skip
        finally:
            if source is not None:
                os.close(source)

    def _other(self, entry: Entry, name: Name) -> None:
        parent = self.tree.directory(name.parent)
        self.tree.clear(parent, name.last)
        if entry.kind == "symlink":
            target = entry.link
            if not target or b"\0" in target or len(target) > MAX_PATH:
                raise BadName("its link target is empty, too long, or holds a NUL")
            os.symlink(target, name.last, dir_fd=parent)
        elif entry.kind == "fifo":
            os.mkfifo(name.last, 0o600, dir_fd=parent)
        elif entry.kind in _NODES:
            os.mknod(name.last, _NODES[entry.kind] | 0o600, _device(entry), dir_fd=parent)
        else:
            raise MalformedImage(f"entry {shown(entry.name)}: unknown type {entry.kind[:20]}")
        os.chown(name.last, *_owner(entry), dir_fd=parent, follow_symlinks=False)
        if entry.kind != "symlink":
            os.chmod(name.last, entry.mode & 0o7777, dir_fd=parent)
        time = _time(entry)
        os.utime(name.last, ns=(time, time), dir_fd=parent, follow_symlinks=False)

    def _regular(self, entry: Entry, content: Content, name: Name) -> None:
        owner, parts = _owner(entry), entry.parts()
        # The size of a sparse file is a claim that no bytes of the archive stand behind.
        self._claimed += entry.size
        if self._claimed > self._limits.max_bytes:
            raise UnsafeLayer(f"its files exceed the limit of {self._limits.max_bytes} bytes")
        parent = self.tree.directory(name.parent)
        permissions = entry.mode & 0o777
        try:
            descriptor = os.open(name.last, _NEW_FILE, permissions, dir_fd=parent)
        except FileExistsError:
            self.tree.clear(parent, name.last)
            descriptor = os.open(name.last, _NEW_FILE, permissions, dir_fd=parent)
        try:
            _write_content(descriptor, entry, parts, content)
            # A new file is this process's own, which is root's, and has the mode it was given:
            # two system calls less for nearly every file of nearly every image.
            if owner != (0, 0) or self._groups_inherit or entry.mode & 0o7777 != permissions:
                _set_owner_and_mode(descriptor, entry)
            if entry.xattrs:
                _set_xattrs(descriptor, entry)
            time = _time(entry)
            os.utime(descriptor, ns=(time, time))
        finally:
            os.close(descriptor)

    def set_times(self) -> None:
        """Give directories their times, once nothing more is written into them.

        Raises:
            OSError: the kernel refused.
        """
        for path, time in self._times.items():
            descriptor = self.tree.existing(path)
            if descriptor is not None:
                try:
                    os.utime(descriptor, ns=(time, time))
                finally:
                    os.close(descriptor)


def _owner(entry: Entry) -> tuple[int, int]:
    for owner in (entry.uid, entry.gid):
        if not 0 <= owner <= _MAX_ID:
            raise BadName(f"its owner {owner} is not a user or group id")
    return entry.uid, entry.gid


def _time(entry: Entry) -> int:
    return entry.time if abs(entry.time) < _MAX_TIME else 0


def _device(entry: Entry) -> int:
    major, minor = entry.device
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise BadName(f"its device number {major}:{minor} does not exist")
    return os.makedev(major, minor)


def _set_owner_and_mode(descriptor: int, entry: Entry) -> None:
    # In this order: chown(2) clears setuid bits and file capabilities.
    os.fchown(descriptor, *_owner(entry))
    os.fchmod(descriptor, entry.mode & 0o7777)


def _set_xattrs(descriptor: int, entry: Entry) -> None:
    for name, value in entry.xattrs:
        if keep_xattr(name) and len(os.fsencode(name)) <= 255 and "\0" not in name:
            os.setxattr(descriptor, name, value)


def _is_same(parent: int, last: bytes, target: os.stat_result) -> bool:
    """Tell whether a hard link is there already: clearing its name could remove its target."""
    try:
        found = os.stat(last, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, target)


def _write_content(
    descriptor: int, entry: Entry, parts: tuple[tuple[int, int], ...], content: Content
) -> None:
    """Write what the archive holds of a file, holes staying holes."""
    for offset, size in parts:
        if offset:
            os.lseek(descriptor, offset, os.SEEK_SET)
        for piece in content(size):
            while piece:
                piece = piece[os.write(descriptor, piece) :]
    if entry.regions is not None:
        os.ftruncate(descriptor, entry.size)
