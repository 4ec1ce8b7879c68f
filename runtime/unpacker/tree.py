"""The directory that a layer is unpacked into, reached only by look-ups that cannot leave it.

Every parent is opened with ``openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`` from the root's
descriptor, and every name in it is used with ``O_NOFOLLOW`` or its like. A symbolic link in the
layer is thereby followed as a process chrooted into it would follow it, and never further.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from typing import Final

from kubeletpy_common.linux.paths import (
    RESOLVE_BENEATH,
    RESOLVE_NO_SYMLINKS,
    open_in_root,
    openat2,
)
from runtime.snapshots.trees import is_whiteout, remove_entry
from runtime.unpacker.names import MAX_PATH, BadName

OPAQUE_XATTR: Final = "trusted.overlay.opaque"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_MAX_LINKS: Final = 40
"""Links followed in one look-up, the kernel's own limit."""

IMPLIED_MODE: Final = 0o755


class LayerTree:
    """A layer's root directory.

    ``implied`` collects the directories that were made because something lies in them, without an
    entry of their own: inode number -> path from the root.
    """

    def __init__(self, root_fd: int) -> None:
        """Use ``root_fd``, a descriptor of the directory; it stays the caller's."""
        self.root_fd = root_fd
        self.implied: dict[int, bytes] = {os.fstat(root_fd).st_ino: b"."}
        self._cached: tuple[bytes, int] | None = None

    def close(self) -> None:
        """Close what is kept open; idempotent."""
        if self._cached is not None:
            os.close(self._cached[1])
            self._cached = None

    def directory(self, path: bytes) -> int:
        """Return a descriptor of a directory, made with all its parents if missing.

        The descriptor stays this object's and is valid until the next call.

        Raises:
            BadName: a component is no directory, or too many links are on the way.
            OSError: the kernel refused.
        """
        # Archives list a directory's entries one after another.
        if self._cached is not None and self._cached[0] == path:
            return self._cached[1]
        try:
            descriptor = open_in_root(self.root_fd, path, _DIRECTORY)
        except FileNotFoundError:
            descriptor = self._make(path)
        except NotADirectoryError:
            if not self._is_whiteout_on_way(path):
                raise BadName("its directory is no directory") from None
            descriptor = self._make(path)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise BadName("its directory lies behind too many symbolic links") from None
            raise
        self.close()
        # Safe to keep: until the next call, names change only inside this directory.
        self._cached = (path, descriptor)
        return descriptor

    def existing(self, path: bytes) -> int | None:
        """Return a new descriptor of a directory, or None if there is none.

        Raises:
            OSError: the kernel refused.
        """
        try:
            return open_in_root(self.root_fd, path, _DIRECTORY)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise

    def _is_whiteout_on_way(self, path: bytes) -> bool:
        """Tell whether a prefix of ``path`` is a whiteout that this layer made itself."""
        parts = path.split(b"/")
        for count in range(1, len(parts) + 1):
            parent = self.existing(b"/".join(parts[: count - 1]) or b".")
            if parent is None:
                return False
            try:
                if is_whiteout(os.stat(parts[count - 1], dir_fd=parent, follow_symlinks=False)):
                    return True
            finally:
                os.close(parent)
        return False

    def _make(self, path: bytes) -> int:
        """Walk ``path`` one component at a time, following links by hand, making what is missing.

        The kernel is only ever given real components, without links: a link's target that is
        missing (it may be in a lower layer) is made inside the root.
        """
        real: list[bytes] = []
        todo = deque(part for part in path.split(b"/") if part not in (b"", b"."))
        links = 0
        while todo:
            part = todo.popleft()
            if part == b"..":
                del real[-1:]
                continue
            parent = self._open_real(real)
            try:
                target = self._step(parent, part, real)
            finally:
                os.close(parent)
            if target is None:
                real.append(part)
                continue
            links += 1
            if links > _MAX_LINKS or len(target) > MAX_PATH:
                raise BadName("its directory lies behind too many symbolic links")
            if target.startswith(b"/"):
                real.clear()
            todo.extendleft(p for p in reversed(target.split(b"/")) if p not in (b"", b"."))
        return self._open_real(real)

    def _open_real(self, real: list[bytes]) -> int:
        path = b"/".join(real) or b"."
        return openat2(self.root_fd, path, _DIRECTORY, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)

    def _step(self, parent: int, part: bytes, real: list[bytes]) -> bytes | None:
        """Make sure that ``part`` is a directory; returns a link's target if it is a link."""
        try:
            found = os.stat(part, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            self._make_one(parent, part, real)
            return None
        if stat.S_ISDIR(found.st_mode):
            return None
        if stat.S_ISLNK(found.st_mode):
            return os.readlink(part, dir_fd=parent)
        if not is_whiteout(found):
            raise BadName("its directory is no directory")
        os.unlink(part, dir_fd=parent)
        self._make_one(parent, part, real)
        self.set_opaque(parent, part)
        return None

    def _make_one(self, parent: int, part: bytes, real: list[bytes]) -> None:
        os.mkdir(part, IMPLIED_MODE, dir_fd=parent)
        os.chmod(part, IMPLIED_MODE, dir_fd=parent)
        made = os.stat(part, dir_fd=parent, follow_symlinks=False)
        self.implied[made.st_ino] = b"/".join([*real, part])

    def set_opaque(self, parent: int, name: bytes) -> None:
        """Hide all that lower layers have in this directory.

        Raises:
            OSError: not supported by the file system, or not permitted.
        """
        descriptor = os.open(name, _DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.setxattr(descriptor, OPAQUE_XATTR, b"y")
        finally:
            os.close(descriptor)

    def clear(self, parent: int, name: bytes) -> bool:
        """Remove what has this name; returns whether it was a whiteout.

        Raises:
            OSError: the kernel refused.
        """
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if stat.S_ISDIR(found.st_mode):
            remove_entry(parent, name)
        else:
            os.unlink(name, dir_fd=parent)
        return is_whiteout(found)
