"""Installed releases: each a directory that never changes, and a link to the current one.

An upgrade adds a directory and moves the link. Processes of an old release go on with its code (the
keeper of a pod's containers lives as long as the pod), so a release is removed only when no process
uses it any more.

Standard library only: it also runs before there is a release.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path("/opt/kubeletpy")
RELEASE_FILE: Final = "release.json"
"""In each release: the wheels that it was made of."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_]*-[0-9a-f]{8,64}")
_LEAVING: Final = ".leaving-"
_MAKING: Final = ".making-"
_SOURCES: Final = ("cmdline", "environ", "maps")
_LINKS: Final = ("exe", "cwd")


class ReleaseError(Exception):
    """Something cannot be done with the installed releases; the text says why and what to do."""


@dataclass(frozen=True)
class User:
    """A process that needs a release.

    Attributes:
        pid: its number.
        title: its command line, as ps shows it.
    """

    pid: int
    title: str


class Releases:
    """The releases below one directory.

    Args:
        root: the directory; it has ``releases/<version>-<hash>/`` and the link ``current``.
        proc: where the processes of this machine are.
    """

    def __init__(self, root: Path = ROOT, proc: Path = Path("/proc")) -> None:
        self.root = root
        self.directory = root / "releases"
        self.link = root / "current"
        self._proc = proc

    def all(self) -> list[Path]:
        """Return the whole releases that there are, by name."""
        if not self.directory.is_dir():
            return []
        return sorted(path for path in self.directory.iterdir() if _NAME.fullmatch(path.name))

    def current(self) -> Path | None:
        """Return the release that new processes start from; None if there is none."""
        try:
            target = self.directory / Path(os.readlink(self.link)).name
        except OSError:
            return None
        return target if target.is_dir() else None

    def switch(self, release: Path) -> None:
        """Make ``release`` the current one, in one step.

        Raises:
            OSError: the link cannot be written.
        """
        temporary = self.root / ".current"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(Path("releases", release.name))
        temporary.rename(self.link)
        _sync(self.root)

    def making(self, name: str) -> Path:
        """Return where the release ``name`` is to be made; it gets its name when it is whole."""
        return self.directory / f"{_MAKING}{name}"

    def publish(self, made: Path, name: str) -> Path:
        """Give a release that was made its name; it is on the disk before it has it.

        Raises:
            OSError: it cannot be renamed.
        """
        from kubeletpy_common.linux.disks import sync_filesystem

        sync_filesystem(made)
        final = self.directory / name
        made.rename(final)
        _sync(self.directory)
        return final

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from making, switching and removing releases meanwhile; waits for them."""
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def users(self) -> dict[str, list[User]]:
        """Return the processes that use releases, by the release's name.

        A process uses a release if a file of it is mapped or run, if it is its working directory,
        or if its command line or environment names it.

        Raises:
            ReleaseError: processes cannot be seen, so none can be said to be unused.
        """
        if not (self._proc / "self").exists():
            raise ReleaseError(f"{self._proc} shows no processes: mount it, and try again")
        found: dict[str, list[User]] = {}
        prefix = re.escape(os.fsencode(self.directory) + b"/")
        # A release on its way out still has its name behind the prefix.
        pattern = re.compile(prefix + rb"(?:\.leaving-)?([A-Za-z0-9][A-Za-z0-9.+~_]*-[0-9a-f]+)")
        for entry in self._proc.iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                for name in _named(entry, pattern):
                    found.setdefault(name, []).append(User(int(entry.name), _title(entry)))
        return found

    def collect(self) -> list[str]:
        """Remove releases that are not current and that no process uses; return their names.

        Raises:
            ReleaseError: processes cannot be seen.
            OSError: a release cannot be removed.
        """
        with self.locked():
            # This process is not among the users.
            kept = {path.name for path in (self.current(), own_release()) if path is not None}
            self._clear_remains()
            old = [path for path in self.all() if path.name not in kept]
            if not old or self.current() is None:
                return []
            used = self.users()
            return [path.name for path in old if path.name not in used and self._remove(path)]

    def _remove(self, release: Path) -> bool:
        """Remove a release that nobody used a moment ago; return whether nobody does."""
        leaving = release.with_name(_LEAVING + release.name)
        release.rename(leaving)
        # Nothing can start from it now; what was starting while processes were looked at shows.
        if release.name in self.users():
            leaving.rename(release)
            return False
        shutil.rmtree(leaving)
        return True

    def _clear_remains(self) -> None:
        """Remove what a machine that lost power left of making and removing."""
        for path in self.directory.iterdir():
            if path.name.startswith((_LEAVING, _MAKING)):
                shutil.rmtree(path)


def own_release() -> Path | None:
    """Return the release that this process runs from; None if it runs from none.

    Wherever it is: the directory above is that of all releases.
    """
    prefix = Path(sys.prefix)
    named = prefix.parent.name == "releases" and _NAME.fullmatch(prefix.name)
    return prefix if named and (prefix / RELEASE_FILE).is_file() else None


def is_release_name(name: str) -> bool:
    """Tell whether a release can have this name."""
    return _NAME.fullmatch(name) is not None


def _named(process: Path, pattern: re.Pattern[bytes]) -> set[str]:
    """Return the releases that one process uses; a process that has ended uses none."""
    texts: list[bytes] = []
    for name in _LINKS:
        with contextlib.suppress(OSError):
            texts.append(os.readlink(os.fsencode(process / name)))
    for name in _SOURCES:
        with contextlib.suppress(OSError):
            texts.append((process / name).read_bytes())
    return {match.decode() for text in texts for match in pattern.findall(text)}


def _title(process: Path) -> str:
    with contextlib.suppress(OSError):
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:80]
    return ""


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
