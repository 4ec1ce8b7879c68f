"""Our own processes in a cgroup that gets children with limits: they move into a leaf of it.

A cgroup of v2 that enables controllers for its children holds no process itself
(Documentation/admin-guide/cgroup-v2.rst, "No Internal Process Constraint"). That concerns a daemon
whose containers are below its own cgroup: in a container, where the root that it sees is the cgroup
it is in; or with a parent within its service (``Delegate=yes``). A daemon of systemd whose
containers are in ``/kubepods`` or in slices is in no such cgroup, and stays where it is.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from kubeletpy_common import logs
from kubeletpy_common.cgroups import paths
from kubeletpy_common.cgroups.errors import CgroupError
from kubeletpy_common.cgroups.v2.controllers import Core

_log = logging.getLogger(__name__)

LEAF: Final = "kubeletpy-own"
_ROUNDS: Final = 20
"""Looks at a cgroup whose processes fork while they are moved."""


def leaf_of(directory: Path, processes: Collection[int], own: int, kind: str) -> Path | None:
    """Return where the processes of a cgroup are to go; None: they are not ours to move (pure).

    Args:
        directory: of the cgroup.
        processes: in it.
        own: the id of this process.
        kind: its ``cgroup.type``; "": it is the root of the hierarchy, which may hold processes.
    """
    if kind.strip() != "domain" or own not in processes:
        return None
    return directory / LEAF


def enable(directory: Path, controller: str) -> None:
    """Enable a controller for the children of a cgroup, out of which we move if we are in it.

    All of its processes move with us: it is the cgroup of our service, or of our container.

    Raises:
        CgroupError: it cannot be enabled; EBUSY: there are processes that are not ours to move.
    """
    core = Core(directory)
    try:
        core.subtree_control = f"+{controller}"
    except CgroupError as error:
        if error.errno != errno.EBUSY or not _move_out(directory, core.get("type", "")):
            raise
        core.subtree_control = f"+{controller}"


def _move_out(directory: Path, kind: str) -> bool:
    """Move all processes of a cgroup into a leaf; whether there was anything to move."""
    leaf = leaf_of(directory, paths.read_processes(directory), os.getpid(), kind)
    if leaf is None:
        return False
    paths.make(leaf)
    moved = 0
    for _ in range(_ROUNDS):
        processes = paths.read_processes(directory)
        if not processes:
            break
        for pid in processes:
            moved += _move(pid, leaf)
    logs.event(
        _log, logging.INFO, "processes moved into a leaf: a cgroup whose children have limits "
        "holds none", cgroup=str(directory), leaf=str(leaf), processes=moved,
    )  # fmt: skip
    return True


def _move(pid: int, leaf: Path) -> bool:
    try:
        Core(leaf).set_property("cgroup.procs", pid)
    except CgroupError as error:
        # It ended meanwhile.
        if error.errno != errno.ESRCH:
            raise
        return False
    return True
