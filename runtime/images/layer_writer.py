"""Applies the entries of a layer's archive to its directory (OCI image specification, layer.md)."""

from __future__ import annotations

import logging
import os
import stat
import tarfile
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import IO, Final, cast

from kubeletpy_common.logs import event
from runtime.images.errors import MalformedImage, UnsafeLayer
from runtime.images.layer_names import MAX_PATH, BadName, Kind, Name, classify, keep_xattr
from runtime.images.layer_names import link_target as checked_link_target
from runtime.images.layer_tree import LayerTree
from runtime.images.settings import UnpackLimits
from runtime.snapshots.trees import is_whiteout

log = logging.getLogger(__name__)

_COPY: Final = 256 * 1024
_XATTR_PREFIX: Final = "SCHILY.xattr."
_MAX_ID: Final = 0xFFFF_FFFE
"""The largest user or group; the next one, as (uid_t)-1, would mean "leave it as it is"."""

_MAX_SECONDS: Final = 1 << 34
_REGULAR = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE})
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


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

    def apply(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        """Apply one entry.

        Raises:
            UnsafeLayer: the entry reaches out, or exceeds a bound.
            MalformedImage: the entry makes no sense.
            OSError: the kernel refused.
        """
        self._entries += 1
        if self._entries > self._limits.max_entries:
            raise UnsafeLayer(f"it has more than the limit of {self._limits.max_entries} entries")
        try:
            name = classify(_bytes(info.name))
            self._apply(archive, info, name)
        except BadName as error:
            raise UnsafeLayer(f"entry {shown(info.name)}: {error}") from None

    def _apply(self, archive: tarfile.TarFile, info: tarfile.TarInfo, name: Name) -> None:
        if name.kind is Kind.IGNORED:
            return
        if name.kind is Kind.OPAQUE:
            self._opaque(name)
        elif name.kind is Kind.WHITEOUT:
            self._whiteout(name)
        elif not name.last:
            self._root(info)
        elif info.isdir():
            self._directory(info, name)
        elif info.islnk():
            self._hard_link(info, name)
        else:
            self._other(archive, info, name)

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

    def _root(self, info: tarfile.TarInfo) -> None:
        if not info.isdir():
            raise BadName("the root is not a directory")
        self._finish_directory(info, self._root_fd, b".")

    def _directory(self, info: tarfile.TarInfo, name: Name) -> None:
        parent = self.tree.directory(name.parent)
        try:
            found = os.stat(name.last, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            found = None
        if found is None or not stat.S_ISDIR(found.st_mode):
            was_whiteout = found is not None and self.tree.clear(parent, name.last)
            os.mkdir(name.last, 0o700, dir_fd=parent)
            if was_whiteout:
                self.tree.set_opaque(parent, name.last)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name.last, flags, dir_fd=parent)
        try:
            self._finish_directory(info, descriptor, b"/".join((*name.parents, name.last)))
        finally:
            os.close(descriptor)

    def _finish_directory(self, info: tarfile.TarInfo, descriptor: int, path: bytes) -> None:
        self.tree.implied.pop(os.fstat(descriptor).st_ino, None)
        _set_owner_and_mode(descriptor, info)
        self._set_xattrs(descriptor, info)
        # What is still to be written into the directory would change its time.
        self._times[path] = modification_time(info)

    def _hard_link(self, info: tarfile.TarInfo, name: Name) -> None:
        target = checked_link_target(_bytes(info.linkname))
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

    def _other(self, archive: tarfile.TarFile, info: tarfile.TarInfo, name: Name) -> None:
        parent = self.tree.directory(name.parent)
        self.tree.clear(parent, name.last)
        if info.type in _REGULAR:
            self._regular(archive, info, parent, name.last)
            return
        if info.issym():
            target = _bytes(info.linkname)
            if not target or b"\0" in target or len(target) > MAX_PATH:
                raise BadName("its link target is empty, too long, or holds a NUL")
            os.symlink(target, name.last, dir_fd=parent)
        elif info.isfifo():
            os.mkfifo(name.last, 0o600, dir_fd=parent)
        elif info.ischr() or info.isblk():
            kind = stat.S_IFCHR if info.ischr() else stat.S_IFBLK
            os.mknod(name.last, kind | 0o600, _device(info), dir_fd=parent)
        else:
            raise MalformedImage(f"entry {shown(info.name)}: unknown type {info.type!r}")
        os.chown(name.last, *_owner(info), dir_fd=parent, follow_symlinks=False)
        if not info.issym():
            os.chmod(name.last, info.mode & 0o7777, dir_fd=parent)
        time = modification_time(info)
        os.utime(name.last, ns=(time, time), dir_fd=parent, follow_symlinks=False)

    def _regular(
        self, archive: tarfile.TarFile, info: tarfile.TarInfo, parent: int, last: bytes
    ) -> None:
        if info.size < 0:
            raise BadName("its size is negative")
        # The size of a sparse file is a claim that no bytes of the archive stand behind.
        self._claimed += info.size
        if self._claimed > self._limits.max_bytes:
            raise UnsafeLayer(f"its files exceed the limit of {self._limits.max_bytes} bytes")
        descriptor = os.open(last, _NEW_FILE, 0o600, dir_fd=parent)
        try:
            _copy_content(archive, descriptor, info)
            _set_owner_and_mode(descriptor, info)
            self._set_xattrs(descriptor, info)
            time = modification_time(info)
            os.utime(descriptor, ns=(time, time))
        finally:
            os.close(descriptor)

    def _set_xattrs(self, descriptor: int, info: tarfile.TarInfo) -> None:
        for key, text in info.pax_headers.items():
            if not key.startswith(_XATTR_PREFIX):
                continue
            name = key.removeprefix(_XATTR_PREFIX)
            if not keep_xattr(name) or len(os.fsencode(name)) > 255 or "\0" in name:
                event(log, logging.DEBUG, "extended attribute of a layer left out",
                      entry=shown(info.name), name=name[:255])  # fmt: skip
                continue
            os.setxattr(descriptor, name, _bytes(text))

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


def shown(name: str) -> str:
    """Return an entry's name for an error: quoted, escaped, bounded."""
    return ascii(name[:200])


def _bytes(text: str) -> bytes:
    # tarfile decodes with "surrogateescape", so that this gives back the archive's own bytes.
    return text.encode("utf-8", "surrogateescape")


def _owner(info: tarfile.TarInfo) -> tuple[int, int]:
    for owner in (info.uid, info.gid):
        if not 0 <= owner <= _MAX_ID:
            raise BadName(f"its owner {owner} is not a user or group id")
    return info.uid, info.gid


def _device(info: tarfile.TarInfo) -> int:
    if not (0 <= info.devmajor < 1 << 12 and 0 <= info.devminor < 1 << 20):
        raise BadName(f"its device number {info.devmajor}:{info.devminor} does not exist")
    return os.makedev(info.devmajor, info.devminor)


def _set_owner_and_mode(descriptor: int, info: tarfile.TarInfo) -> None:
    # In this order: chown(2) clears setuid bits and file capabilities.
    os.fchown(descriptor, *_owner(info))
    os.fchmod(descriptor, info.mode & 0o7777)


def _is_same(parent: int, last: bytes, target: os.stat_result) -> bool:
    """Tell whether a hard link is there already: clearing its name could remove its target."""
    try:
        found = os.stat(last, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, target)


def modification_time(info: tarfile.TarInfo) -> int:
    """Return nanoseconds since 1970; PAX records keep them, tarfile's float does not."""
    text = info.pax_headers.get("mtime")
    try:
        # A Decimal with a huge exponent would be written out in full by int().
        seconds = Decimal(text[:64]) if text is not None else Decimal(str(info.mtime))
        if not seconds.is_finite() or abs(seconds) >= _MAX_SECONDS:
            return 0
        return int(seconds * 1_000_000_000)
    except (InvalidOperation, ValueError):
        return 0


def _copy_content(archive: tarfile.TarFile, descriptor: int, info: tarfile.TarInfo) -> None:
    """Copy an entry's content, holes staying holes.

    Read from the archive's stream itself, where the regions of a sparse file stand one after the
    other: tarfile's own reader would make up every zero between them.
    """
    source = cast(IO[bytes], archive.fileobj)
    source.seek(info.offset_data)
    for offset, size in _regions(info):
        os.lseek(descriptor, offset, os.SEEK_SET)
        while size:
            data = source.read(min(size, _COPY))
            if not data:
                raise MalformedImage(f"entry {shown(info.name)}: its content ends early")
            size -= len(data)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
    if info.issparse():
        os.ftruncate(descriptor, info.size)


def _regions(info: tarfile.TarInfo) -> list[tuple[int, int]]:
    if not info.issparse():
        return [(0, info.size)]
    found: list[tuple[int, int]] = getattr(info, "sparse", None) or []
    end = 0
    for offset, size in found:
        if offset < end or size < 0 or offset + size > info.size:
            raise BadName("its map of holes is not in order")
        end = offset + size
    return found
