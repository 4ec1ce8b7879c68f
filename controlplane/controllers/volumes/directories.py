"""Directories of volumes on this machine: made, and removed with all that is in them.

::

    <root>/                              0700
      .making/<volume>                   a volume that is being made: where; gone once it is told of
      <volume>_<namespace>_<claim>/      0777: a pod gets this directory alone, by a bind mount
      <directory>/<volume>_...           where the class has the parameter "directory"

What pods have put into a directory is hostile: links are never followed, mounts never entered, and
no depth of directories costs more than two descriptors.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kubeletpy_common import atomic
from kubeletpy_common.linux.paths import (
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    openat2,
)

_MAKING: Final = ".making"
_STRICT: Final = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
_LONGEST: Final = 255
_ATTEMPTS: Final = 5


class DirectoryError(Exception):
    """A directory cannot be made or removed; the text says which, and why."""


class Directories:
    """The directories below one root.

    Args:
        root: absolute; made when it is needed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, directory: str, volume: str, namespace: str, claim: str) -> str:
        """Return where a volume is (pure).

        Raises:
            DirectoryError: a name cannot be part of a path.
        """
        name = f"{volume}_{namespace}_{claim}"[:_LONGEST]
        parts = [directory, name] if directory else [name]
        if any("/" in part or part.startswith(".") or "\0" in part for part in parts):
            raise DirectoryError(f"{'/'.join(parts)!r} cannot be the path of a volume")
        return str(self._root.joinpath(*parts))

    def make(self, volume: str, path: str, mode: int) -> None:
        """Make the directory of a volume, if it is not there; until `told` it is unfinished.

        Args:
            volume: name of it.
            path: of `path`.
            mode: permission bits.

        Raises:
            DirectoryError: it cannot be made.
        """
        parts = self._parts(volume, path)
        with self._told_of(f"make {path}"), self._opened() as root:
            _make(root, _MAKING, 0o700)
            atomic.write_atomic(self._root / _MAKING / volume, path)
            with contextlib.ExitStack() as stack:
                parent = root
                for part in parts[:-1]:
                    _make(root, part, 0o700)
                    parent = _open(root, part)
                    stack.callback(os.close, parent)
                _make(parent, parts[-1], 0o700)
                made = _open(parent, parts[-1])
                stack.callback(os.close, made)
                # Whatever the umask is.
                os.fchmod(made, mode)

    def told(self, volume: str) -> None:
        """Take note that the server knows a volume, or that it is not to be."""
        with contextlib.suppress(FileNotFoundError):
            (self._root / _MAKING / volume).unlink()

    def unfinished(self) -> list[tuple[str, str]]:
        """Return the volumes, and their paths, of which the server may not know.

        Raises:
            DirectoryError: they cannot be read.
        """
        found: list[tuple[str, str]] = []
        with self._told_of(f"read {self._root / _MAKING}"):
            try:
                names = os.listdir(self._root / _MAKING)
            except FileNotFoundError:
                return []
            for name in sorted(names):
                with contextlib.suppress(FileNotFoundError):
                    if not name.startswith("."):
                        found.append((name, (self._root / _MAKING / name).read_text()))
        return found

    def remove(self, volume: str, path: str) -> None:
        """Remove the directory of a volume and all that is in it.

        Raises:
            DirectoryError: it is none of ours, or cannot be removed.
        """
        parts = self._parts(volume, path)
        with self._told_of(f"remove {path}"):
            if not self._root.exists():
                return
            with self._opened() as root, contextlib.ExitStack() as stack:
                parent = root
                for part in parts[:-1]:
                    try:
                        parent = _open(root, part)
                    except FileNotFoundError:
                        return
                    stack.callback(os.close, parent)
                _remove(parent, parts[-1])

    def _parts(self, volume: str, path: str) -> list[str]:
        """Return the names below the root; what is elsewhere is not ours to touch."""
        root = f"{self._root}/"
        parts = path.removeprefix(root).split("/") if path.startswith(root) else []
        fine = len(parts) in (1, 2) and not any(part in ("", "..") or part[0] == "."
                                                for part in parts)  # fmt: skip
        if not fine or not volume or not parts[-1].startswith(f"{volume}_"):
            raise DirectoryError(
                f"{path!r} is not where this provisioner has volumes: it would be "
                f"{self._root}/{volume}_..., and nothing else is touched"
            )
        return parts

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        opened = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            status = os.fstat(opened)
            if status.st_uid != os.geteuid():
                raise DirectoryError(f"{self._root} belongs to user {status.st_uid}, not to us")
            if status.st_mode & 0o077:
                os.fchmod(opened, 0o700)
            yield opened
        finally:
            os.close(opened)

    @contextlib.contextmanager
    def _told_of(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise DirectoryError(f"{what}: {error.strerror or error}{where}") from error


def _make(parent: int, name: str, mode: int) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=parent)


def _open(parent: int, name: str) -> int:
    return openat2(parent, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, 0, _STRICT)


def _remove(parent: int, name: str) -> None:
    """Remove a tree; directories in it are moved up before they are emptied."""
    try:
        top = _open(parent, name)
    except FileNotFoundError:
        return
    try:
        waiting = _empty(top, top)
        while waiting:
            inner = waiting.pop()
            opened = _open(top, inner)
            try:
                waiting += _empty(opened, top)
            finally:
                os.close(opened)
            os.rmdir(inner, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _empty(directory: int, top: int) -> list[str]:
    """Remove the files of a directory; return its directories, which are in ``top`` then."""
    moved: list[str] = []
    for _ in range(_ATTEMPTS):
        seen = False
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name in moved and directory == top:
                    continue
                seen = True
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=directory)
                    continue
                unique = f"{secrets.token_hex(16)}"
                os.rename(entry.name, unique, src_dir_fd=directory, dst_dir_fd=top)
                moved.append(unique)
        if not seen:
            break
    return moved
