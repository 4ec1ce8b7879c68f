"""Looks up paths in stacked layers as overlayfs would, without mounting anything.

Kernel: Documentation/filesystems/overlayfs.rst ("Upper and Lower", "whiteouts and opaque
directories"). Every step opens one component with ``O_NOFOLLOW``; symbolic links are read and
followed by hand inside the stack, so that no link in an image can reach the host.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.images.errors import FileTooLarge
from runtime.snapshots.trees import is_whiteout

OPAQUE_XATTR: Final = "trusted.overlay.opaque"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS: Final = 40
_MAX_COMPONENTS: Final = 4096
_NOTHING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


@dataclass(frozen=True)
class Found:
    """What is at a path: a descriptor of it, and its attributes.

    The descriptor is of the file or directory itself (``O_PATH`` for what is neither), and is the
    stack's: it is closed with the :class:`ExitStack` given to :meth:`MergedTree.find`.
    """

    descriptor: int
    status: os.stat_result


def is_opaque(directory: int) -> bool:
    """Tell whether a directory (by descriptor) hides what lower layers have in it.

    Raises:
        OSError: the kernel refused.
    """
    try:
        return os.getxattr(directory, OPAQUE_XATTR) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return False
        raise


@dataclass(frozen=True)
class _Directory:
    """A merged directory: descriptors of its parts, the topmost first."""

    parts: tuple[int, ...]


class MergedTree:
    """Layer directories, stacked."""

    def __init__(self, layers: Sequence[Path]) -> None:
        """Stack ``layers``, the topmost first; nothing is opened yet."""
        self._layers = tuple(layers)

    def find(self, path: str | bytes, resources: ExitStack, *, follow: bool = True) -> Found | None:
        """Look ``path`` up.

        Args:
            path: from the root; a leading slash makes no difference.
            resources: closes what is opened.
            follow: whether a symbolic link as the last component is followed.

        Returns:
            what is there; None if there is nothing, or too many links on the way.

        Raises:
            OSError: a layer cannot be read.
        """
        root = _Directory(tuple(self._open(resources, os.fspath(p)) for p in self._layers))
        trail = [root]
        todo = deque(_components(os.fsencode(path)))
        links = 0
        while todo:
            if len(todo) > _MAX_COMPONENTS:
                return None
            part = todo.popleft()
            if part == b"..":
                trail = trail[: max(1, len(trail) - 1)]
                continue
            found = self._child(trail[-1], part, resources)
            if found is None:
                return None
            if isinstance(found, _Directory):
                trail.append(found)
                continue
            parent, status = found
            if stat.S_ISLNK(status.st_mode) and (todo or follow):
                links += 1
                if links > _MAX_LINKS:
                    return None
                target = os.readlink(part, dir_fd=parent)
                if target.startswith(b"/"):
                    trail = [root]
                todo.extendleft(reversed(_components(target)))
                continue
            return None if todo else self._leaf(parent, part, status, resources)
        if not trail[-1].parts:
            return None
        descriptor = trail[-1].parts[0]
        return Found(descriptor, os.fstat(descriptor))

    def _open(self, resources: ExitStack, name: str | bytes, parent: int | None = None) -> int:
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
        resources.callback(os.close, descriptor)
        return descriptor

    def _child(
        self, directory: _Directory, name: bytes, resources: ExitStack
    ) -> _Directory | tuple[int, os.stat_result] | None:
        parts: list[int] = []
        for layer in directory.parts:
            try:
                status = os.stat(name, dir_fd=layer, follow_symlinks=False)
            except OSError as error:
                if error.errno in _NOTHING:
                    continue
                raise
            if is_whiteout(status):
                break
            if not stat.S_ISDIR(status.st_mode):
                if not parts:
                    return layer, status
                break
            descriptor = self._open(resources, name, layer)
            parts.append(descriptor)
            if is_opaque(descriptor):
                break
        return _Directory(tuple(parts)) if parts else None

    def _leaf(
        self, parent: int, name: bytes, status: os.stat_result, resources: ExitStack
    ) -> Found:
        # O_PATH for devices and fifos: opening one could have effects, or block.
        kind = os.O_RDONLY if stat.S_ISREG(status.st_mode) else os.O_PATH
        descriptor = os.open(
            name, kind | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent
        )
        resources.callback(os.close, descriptor)
        return Found(descriptor, os.fstat(descriptor))


def _components(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def read_file(layers: Sequence[Path], path: str, limit: int) -> bytes | None:
    """Read a regular file of an image.

    Args:
        layers: the layers' directories, the topmost first.
        path: in the image; links are followed inside the image.
        limit: bytes; nothing more is ever held in memory.

    Returns:
        the content; None if there is no such regular file.

    Raises:
        FileTooLarge: the file is longer than ``limit``.
        OSError: it cannot be read.
    """
    with ExitStack() as resources:
        found = MergedTree(layers).find(path, resources)
        if found is None or not stat.S_ISREG(found.status.st_mode):
            return None
        if found.status.st_size > limit:
            raise FileTooLarge(
                f"{path} of the image has {found.status.st_size} bytes, the limit is {limit}"
            )
        data = b""
        while len(data) < limit and (chunk := os.read(found.descriptor, limit - len(data))):
            data += chunk
        return data
