"""Cgroups of their own for commands in a container, so that all of a command's tree can be killed.

A process can leave its session, its process group and its parent, but without a writable cgroup
file system never its cgroup. On version 2, also where it has no controllers, that is a cgroup below
the container's; on version 1 alone, one of the freezer's. Limits and counts are the container's:
no controller is enabled below it, and the kernel counts in the nearest cgroup that has one.

A cgroup whose command has ended serves the next one, if nothing of the old one is left in it. One
that was killed does not: up to Linux 6.18 at least, clone3(2) into it compares its count of kills
with that of the parent's cgroup, and the child is born dead (kernel: cgroup_css_set_fork()). All of
them are removed with the container's own.
"""

from __future__ import annotations

import os
import signal

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from runtime.shim.messages import StrPath

_PREFIX = "exec-"
# Used cgroups that are looked at for an empty one; the rest belongs to what commands left running.
_LOOKS = 4
_ROUNDS = 100


class ExecCgroups:
    """The cgroups of one container's commands.

    Args:
        procs_files: ``cgroup.procs`` of each of the container's cgroups.
    """

    def __init__(self, procs_files: Iterable[StrPath]) -> None:
        self._procs_files = procs_files
        self._parent: str | None = None
        self._used: list[str] = []
        self._killed: list[str] = []
        self._made = 0

    def take(self) -> str:
        """Return the directory of an empty cgroup; "" where there can be none.

        A command then runs in the container's own, and its process group is all that is killed.
        """
        if self._parent is None:
            self._parent = _parent(self._procs_files)
        if not self._parent:
            return ""
        self._killed = [directory for directory in self._killed if not _remove(directory)]
        for _ in range(min(_LOOKS, len(self._used))):
            directory = self._used.pop(0)
            if not _populated(directory):
                return directory
            self._used.append(directory)
        self._made += 1
        directory = f"{self._parent}/{_PREFIX}{self._made}"
        try:
            os.mkdir(directory, 0o755)
        except OSError:
            # Beyond cgroup.max.descendants, or the container is about to end.
            return ""
        return directory

    def give_back(self, directory: str, killed: bool) -> None:
        """Have a later command use the cgroup of one that has ended and was not killed."""
        if directory:
            (self._killed if killed else self._used).append(directory)

    def replaced(
        self, unified: str | None, tasks: tuple[str, ...], directory: str
    ) -> tuple[str | None, tuple[str, ...]]:
        """Return where a command begins, given where the container's processes do.

        Args:
            unified: the container's cgroup of version 2.
            tasks: the files to write to of the others.
            directory: what :meth:`take` returned.
        """
        if not directory:
            return unified, tasks
        if unified is not None:
            return directory, tasks
        home, own = f"{self._parent}/tasks", f"{directory}/tasks"
        return None, tuple(own if path == home else path for path in tasks)


def kill_tree(directory: str) -> None:
    """Kill all processes of a cgroup, those that they fork meanwhile included; "" is none."""
    if not directory:
        return
    try:
        # Linux 5.14, version 2: in one step.
        _write(directory, "cgroup.kill", "1")
        return
    except OSError:
        pass
    killed: set[int] = set()
    for _ in range(_ROUNDS):
        # Who is frozen forks no more; a killed process forks no more either (fork(2)).
        _freeze(directory, True)
        try:
            found = set(_processes(directory)) - killed
            for pid in found:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        finally:
            _freeze(directory, False)
        killed |= found
        if not found:
            return


def _parent(procs_files: Iterable[StrPath]) -> str:
    directories = [os.path.dirname(path) for path in procs_files]
    for directory in directories:
        if not os.path.exists(f"{directory}/tasks"):
            return directory
    return next((d for d in directories if os.path.exists(f"{d}/freezer.state")), "")


def _remove(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _populated(directory: str) -> bool:
    # Version 1 has no such file, and says by the list alone whether it is empty.
    for name, sign in (("cgroup.events", b"populated 1"), ("cgroup.procs", b"\n")):
        try:
            descriptor = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            return sign in os.read(descriptor, 4096)
        except OSError:
            return True
        finally:
            os.close(descriptor)
    return True


def _processes(directory: str) -> list[int]:
    try:
        with open(f"{directory}/cgroup.procs") as stream:
            return [int(line) for line in stream]
    except OSError:
        return []


def _freeze(directory: str, frozen: bool) -> None:
    for name, text in (
        ("freezer.state", "FROZEN" if frozen else "THAWED"),
        ("cgroup.freeze", "1" if frozen else "0"),
    ):
        try:
            _write(directory, name, text)
        except OSError:
            # That of the other version, or gone with its last process.
            continue


def _write(directory: str, name: str, text: str) -> None:
    descriptor = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
