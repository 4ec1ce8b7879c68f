"""The interface that both versions of cgroups have."""

from __future__ import annotations

import errno
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final, Protocol

from kubeletpy_common.cgroups import paths
from kubeletpy_common.cgroups.errors import CgroupError
from kubeletpy_common.cgroups.resources import LinuxResources
from kubeletpy_common.cgroups.stats import CgroupStats

KILL_TIMEOUT: Final = 10.0
REMOVE_TIMEOUT: Final = 5.0


class Cgroup(ABC):
    """One cgroup by its path; it need not exist.

    All calls are synchronous. Only :meth:`kill` and :meth:`remove` may wait, each with a deadline;
    an asyncio program runs these two in a thread.

    Attributes:
        path: like ``/kubepods/burstable/pod1/container1``, below the root of each hierarchy.
    """

    def __init__(self, path: str) -> None:
        self._components: tuple[str, ...] = paths.validate(path)
        self.path = path

    @abstractmethod
    def directories(self) -> list[Path]:
        """Return the cgroup's directory in each hierarchy."""

    @abstractmethod
    def controller_directory(self, controller: str) -> Path | None:
        """Return where the files of a controller are; None where it is not mounted.

        On v2 this is the one directory there is, whether the controller is enabled or not.
        """

    @abstractmethod
    def create(self) -> None:
        """Make the cgroup and its parents, ready for :meth:`apply`; what exists is kept.

        Raises:
            CgroupError: it cannot be made, or a controller that limits need is not available. What
                this call made is removed again.
        """

    @abstractmethod
    def apply(self, resources: LinuxResources) -> None:
        """Set limits; those that are None stay as they are.

        Raises:
            CgroupError: names the file, the value and the remedy; limits set before it stay.
        """

    @abstractmethod
    def oom_file(self) -> Path | None:
        """Return the file that tells of OOM kills; None without a memory controller.

        v1: ``memory.oom_control``; v2: ``memory.events``, on which the kernel also sends a
        notification (inotify, or POLLPRI).
        """

    @abstractmethod
    def oom_kills(self) -> int:
        """Return how many processes the OOM killer has killed here; 0 if the cgroup is gone.

        v2 counts the cgroups below as well, v1 counts each cgroup alone.
        """

    @abstractmethod
    def stats(self) -> CgroupStats:
        """Read what the cgroup uses.

        Raises:
            CgroupError: (ENOENT) the cgroup does not exist, or a file cannot be read.
        """

    @abstractmethod
    def freeze(self) -> None:
        """Stop all processes here and below; where there is no freezer, nothing happens.

        Most have stopped at the return; one inside of a system call stops when it leaves it.

        Raises:
            CgroupError: the kernel refuses.
        """

    @abstractmethod
    def thaw(self) -> None:
        """Let the processes here and below run again, also where a cgroup below was frozen alone.

        Raises:
            CgroupError: the kernel refuses.
        """

    @abstractmethod
    def _kill(self, deadline: float) -> None:
        """Kill all processes of the tree and wait for their end."""

    def procs_files(self) -> list[Path]:
        """Return the ``cgroup.procs`` files to write a process id (or 0) to, to join."""
        return [directory / "cgroup.procs" for directory in self.directories()]

    def exists(self) -> bool:
        """Tell whether the cgroup exists in some hierarchy."""
        return any(directory.is_dir() for directory in self.directories())

    def processes(self, recursive: bool = True) -> list[int]:
        """Return the ids of the processes in here, sorted; none if the cgroup is gone.

        A process that is in the cgroup of one hierarchy only counts as well.

        Args:
            recursive: include the cgroups below.
        """
        found: set[int] = set()
        for directory in self.directories():
            found.update(paths.read_processes(directory))
            if recursive:
                for child in paths.descendants(directory):
                    found.update(paths.read_processes(child))
        return sorted(found)

    def kill(self, timeout: float = KILL_TIMEOUT) -> None:
        """Kill every process here and below, those forked meanwhile included, and wait.

        Args:
            timeout: seconds.

        Raises:
            CgroupError: (ETIMEDOUT) some are left, named in the text; (EDEADLK) the caller is
                one of them; (EPERM) this is the root of the hierarchy.
        """
        self._refuse_root("kill the processes of")
        self._kill(time.monotonic() + timeout)

    def remove(self, recursive: bool = True, timeout: float = REMOVE_TIMEOUT) -> None:
        """Remove the cgroup from all hierarchies; one that is gone is fine.

        Args:
            recursive: remove the cgroups below it first.
            timeout: seconds to wait for processes that are about to end.

        Raises:
            CgroupError: (EBUSY) it has processes, named in the text, or children, or another
                failure; (EPERM) this is the root. The other hierarchies are tried nevertheless.
        """
        self._refuse_root("remove")
        deadline = time.monotonic() + timeout
        failure: CgroupError | None = None
        for directory in self.directories():
            try:
                paths.remove_tree(
                    directory, recursive=recursive, deadline=deadline, processes=self.processes
                )
            except CgroupError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _refuse_root(self, action: str) -> None:
        if not self._components:
            remedy = "name a cgroup below it"
            reason = "it is the root, which holds the whole machine"
            raise CgroupError(errno.EPERM, self.path, f"refused to {action}", reason, remedy)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"


class Hierarchy(Protocol):
    """The cgroups of a machine.

    Attributes:
        version: 1 or 2; a hybrid machine, whose controllers are on v1, is 1.
    """

    @property
    def version(self) -> int:
        """Return 1 or 2."""
        ...

    def cgroup(self, path: str) -> Cgroup:
        """Return the cgroup of a path below the root of each hierarchy.

        Raises:
            CgroupError: (EINVAL) the path is not absolute, or has ``..`` or other odd parts.
        """
        ...

    def controllers(self) -> frozenset[str]:
        """Return the names of the controllers that can limit something here."""
        ...
