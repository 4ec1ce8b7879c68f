"""Names of cgroups, and the directories behind them."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from kubeletpy_common.cgroups.errors import CgroupError

# rmdir(2) of a cgroup fails with EBUSY for a moment after its last process died, and v1 has no
# event for the end of that moment: short waits that grow, in seconds.
_FIRST_WAIT: Final = 0.001
_LONGEST_WAIT: Final = 0.05
_MAX_NAME: Final = 255


def validate(path: str) -> tuple[str, ...]:
    """Return the components of a cgroup path such as ``/kubepods/burstable/pod1``.

    ``/`` gives no component. Double and trailing slashes are refused as well, so that one cgroup
    has one name.

    Raises:
        CgroupError: (EINVAL) not absolute, or a component is empty, ``.``, ``..``, too long, or
            holds a NUL or a line feed.
    """
    if not path.startswith("/"):
        raise _invalid(path, "it is not absolute")
    if path == "/":
        return ()
    components = tuple(path[1:].split("/"))
    for component in components:
        if component in ("", ".", ".."):
            raise _invalid(path, f"{component!r} is no name of a cgroup")
        if "\0" in component or "\n" in component:
            raise _invalid(path, "a name holds a NUL or a line feed")
        if len(os.fsencode(component)) > _MAX_NAME:
            raise _invalid(path, f"a name is longer than {_MAX_NAME} bytes")
    return components


def _invalid(path: str, reason: str) -> CgroupError:
    remedy = "give an absolute path like /kubepods/burstable/pod1"
    return CgroupError(errno.EINVAL, repr(path), "invalid path", reason, remedy)


def lineage(root: Path, components: tuple[str, ...]) -> list[Path]:
    """Return the directories from just below ``root`` down to the cgroup itself."""
    return [root.joinpath(*components[: n + 1]) for n in range(len(components))]


def make(directory: Path) -> bool:
    """Make one cgroup directory; return False if it was there already.

    Raises:
        CgroupError: it cannot be made.
    """
    try:
        os.mkdir(directory, 0o755)
    except FileExistsError:
        return False
    except OSError as error:
        remedy = "raise cgroup.max.descendants or cgroup.max.depth above it, or remove cgroups"
        remedy = remedy if error.errno == errno.EAGAIN else ""
        raise CgroupError(error.errno or 0, directory, "cannot make", remedy=remedy) from error
    return True


def descendants(directory: Path) -> Iterator[Path]:
    """Yield the cgroups below ``directory``, children before parents; none if it is gone."""
    try:
        with os.scandir(directory) as entries:
            children = [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        if error.errno == errno.ENODEV:
            return
        raise CgroupError(error.errno or 0, directory, "cannot list") from error
    for child in children:
        yield from descendants(child)
        yield child


def read_processes(directory: Path) -> list[int]:
    """Return the ids in ``cgroup.procs``; none if the cgroup is gone.

    Id 0, which stands for a process outside of our PID namespace, is left out.

    Raises:
        CgroupError: the file cannot be read. EOPNOTSUPP is the kernel's answer in a threaded
            cgroup of v2, whose processes are listed in its domain.
    """
    path = directory / "cgroup.procs"
    try:
        words = path.read_bytes().split()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            return []
        raise CgroupError(error.errno or 0, path, "cannot read") from error
    return [int(word) for word in words if word != b"0"]


def remove_tree(
    directory: Path, *, recursive: bool, deadline: float, processes: Callable[[], list[int]]
) -> None:
    """Remove a cgroup, children first; one that is gone is fine.

    Args:
        directory: the cgroup in one hierarchy.
        recursive: also remove the cgroups below it.
        deadline: ``time.monotonic()`` value until which EBUSY is waited for.
        processes: says who is still in there, for the error text.

    Raises:
        CgroupError: (EBUSY) processes or children are left at the deadline, or another failure.
    """
    wait = _FIRST_WAIT
    while True:
        try:
            if recursive:
                for child in descendants(directory):
                    _rmdir(child)
            _rmdir(directory)
            return
        except OSError as error:
            # ENOTEMPTY: somebody made a child meanwhile.
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise CgroupError(error.errno or 0, directory, "cannot remove") from error
            if time.monotonic() + wait > deadline:
                raise _busy(directory, error, recursive, processes()) from error
        time.sleep(wait)
        wait = min(wait * 2, _LONGEST_WAIT)


def _rmdir(directory: Path) -> None:
    try:
        os.rmdir(directory)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise


def _busy(directory: Path, error: OSError, recursive: bool, processes: list[int]) -> CgroupError:
    if processes:
        reason = f"still in use by {describe_processes(processes)}"
        return CgroupError(errno.EBUSY, directory, "cannot remove", reason, "kill them first")
    reason = "busy without a visible process" if recursive else "busy, or it has children"
    remedy = "look for processes of other PID namespaces, or zombies, in its cgroup.procs"
    return CgroupError(error.errno or 0, directory, "cannot remove", reason, remedy)


def describe_processes(processes: list[int]) -> str:
    """Return a short list of processes for an error text."""
    if not processes:
        return "its processes"
    shown = ", ".join(map(str, processes[:10]))
    more = f" and {len(processes) - 10} more" if len(processes) > 10 else ""
    return f"process {shown}{more}"
