"""Cgroups of pods and containers by the driver that is set: where they are and how they begin."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from kubeletpy_common.cgroups import Cgroup, CgroupError, Hierarchy, LinuxResources, detect
from kubeletpy_common.cgroups.systemd import open_systemd, scope_path, slice_path
from kubeletpy_common.cgroups.systemd.cgroup import SystemdScope, SystemdSlice
from kubeletpy_common.cgroups.systemd.names import child_slice, unit_of
from runtime.config import CgroupSettings

SCOPE_PREFIX: Final = "kubeletpy"
# Waits for the end of its input, that is for us; there on every machine with a shell.
_HOLDER: Final = "cat"


def open_cgroups(settings: CgroupSettings) -> Hierarchy:
    """Return the machine's cgroups by the driver that is set.

    Raises:
        CgroupError: there are none, or the driver cannot work here.
    """
    hierarchy = detect(settings.mountpoint)
    return open_systemd(hierarchy) if settings.driver == "systemd" else hierarchy


def pod_path(settings: CgroupSettings, asked: str, sandbox_id: str) -> str:
    """Return the path of a pod's cgroup (pure).

    Args:
        settings: driver and default parent.
        asked: CRI's ``cgroup_parent``: a path, with the driver systemd a slice or its path; "" if
            the client leaves it to the runtime.
        sandbox_id: of the pod.

    Raises:
        CgroupError: (EINVAL) not what the driver can use.
    """
    if settings.driver == "systemd":
        if asked:
            return slice_path(asked)
        return child_slice(settings.parent_path, f"pod{sandbox_id}")
    if asked.endswith(".slice"):
        raise CgroupError(
            errno.EINVAL,
            repr(asked),
            "invalid linux.cgroup_parent",
            "it is a systemd slice, and this runtime's cgroup driver is cgroupfs",
            "configure both alike; RuntimeConfig tells the driver",
        )
    return asked.rstrip("/") or f"{settings.parent_path}/{sandbox_id}"


def container_path(pod: str, container_id: str) -> str:
    """Return the path of a container's cgroup: a scope if its pod's is a slice (pure)."""
    if unit_of(pod):
        return scope_path(pod, SCOPE_PREFIX, container_id)
    return f"{pod.rstrip('/')}/{container_id}"


async def make_cgroup(cgroup: Cgroup, limits: LinuxResources | None) -> None:
    """Make a pod's cgroup, with limits if there are any; what exists is kept.

    Raises:
        CgroupError: it cannot be made or limited.
    """

    def make() -> None:
        cgroup.create()
        if limits is not None:
            cgroup.apply(limits)

    if isinstance(cgroup, SystemdSlice):
        # Asking another process takes its time, writing to files takes less than a thread.
        await asyncio.to_thread(make)
    else:
        make()


@asynccontextmanager
async def container_cgroup(cgroup: Cgroup, limits: LinuxResources) -> AsyncIterator[Cgroup]:
    """Make a container's cgroup with its limits, ready for its first process.

    A scope exists as long as it has a process. So one that does nothing is in it until the
    container's is, and ends when this daemon does, however that is.

    Raises:
        CgroupError: it cannot be made or limited.
    """
    if not isinstance(cgroup, SystemdScope):
        cgroup.create()
        cgroup.apply(limits)
        yield cgroup
        return
    holder = await asyncio.to_thread(_begin_scope, cgroup, limits)
    try:
        yield cgroup
    finally:
        await asyncio.to_thread(_end, holder)


def _begin_scope(scope: SystemdScope, limits: LinuxResources) -> subprocess.Popen[bytes]:
    try:
        # Popen starts programs by vfork(2): nothing of this process is copied.
        holder = subprocess.Popen(
            [_HOLDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath)},
            start_new_session=True,
        )
    except OSError as error:
        raise CgroupError(
            error.errno or errno.EIO, scope.path, "cannot make", f"running {_HOLDER}: {error}",
            "put the directory of coreutils on the PATH of the runtime",
        ) from error  # fmt: skip
    try:
        scope.create_around(holder.pid, limits)
    except BaseException:
        _end(holder)
        raise
    return holder


def _end(holder: subprocess.Popen[bytes]) -> None:
    assert holder.stdin is not None
    holder.stdin.close()
    holder.kill()
    holder.wait()
