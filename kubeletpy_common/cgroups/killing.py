"""Killing every process of a cgroup, waiting for its end by events."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from kubeletpy_common.cgroups.errors import CgroupError
from kubeletpy_common.cgroups.paths import describe_processes

# Each process to kill costs a descriptor; this many at once stay below the usual limit of 1024.
_BATCH: Final = 256
# A process that has ended can be listed for a moment after its pidfd says so (the kernel unlinks
# it in finish_task_switch): seconds between two rounds that found nothing to kill.
_PAUSE: Final = 0.002


def refuse_own(directory: object, processes: Iterable[int]) -> None:
    """Refuse to kill ourselves.

    Raises:
        CgroupError: (EDEADLK) the calling process is one of ``processes``.
    """
    if os.getpid() in processes:
        reason = "the calling process is one of its processes"
        remedy = "run the daemon in a cgroup outside of those that it manages"
        raise CgroupError(errno.EDEADLK, directory, "refused to kill", reason, remedy)


def kill_listed(
    directory: object,
    processes: Callable[[], list[int]],
    freeze: Callable[[], None],
    thaw: Callable[[], None],
    deadline: float,
) -> None:
    """Kill what ``processes`` lists, in rounds, until it lists nothing.

    A round freezes the tree, so that nothing forks away from the list, sends SIGKILL to all, thaws
    the tree, since a task frozen by v1 dies only then, and waits for the deaths.

    Args:
        directory: the cgroup, for error texts.
        processes: lists all process ids of the tree.
        freeze, thaw: stop and continue the tree; may do nothing where there is no freezer.
        deadline: ``time.monotonic()`` value.

    Raises:
        CgroupError: (ETIMEDOUT) processes are left at the deadline.
    """
    while listed := processes():
        refuse_own(directory, listed)
        if time.monotonic() > deadline:
            raise _left(directory, listed)
        handles: list[int] = []
        try:
            freeze()
            try:
                handles = _kill(processes)
            finally:
                thaw()
            if not handles:
                time.sleep(_PAUSE)
            _wait_for_ends(handles, deadline)
        finally:
            for handle in handles:
                os.close(handle)


def _kill(processes: Callable[[], list[int]]) -> list[int]:
    """Send SIGKILL to all; return descriptors of the first batch of them, to wait for."""
    handles: dict[int, int] = {}
    for pid in processes():
        try:
            if len(handles) < _BATCH:
                handles[pid] = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
    # A number can have passed to a stranger between the list and the open. Who is still listed
    # after the open is the one that the descriptor stands for.
    still = set(processes())
    for pid, handle in list(handles.items()):
        try:
            if pid in still:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                continue
        except ProcessLookupError:
            pass
        os.close(handles.pop(pid))
    return list(handles.values())


def _wait_for_ends(handles: list[int], deadline: float) -> None:
    poller = select.poll()
    for handle in handles:
        poller.register(handle, select.POLLIN)
    waiting = set(handles)
    while waiting and (remaining := deadline - time.monotonic()) > 0:
        for handle, _ in poller.poll(max(1, remaining * 1000)):
            poller.unregister(handle)
            waiting.discard(handle)


def wait_until_empty(directory: Path, processes: Callable[[], list[int]], deadline: float) -> None:
    """Wait until a cgroup of v2 and those below it have no process.

    The kernel wakes pollers of ``cgroup.events`` when ``populated`` changes (kernel:
    Documentation/admin-guide/cgroup-v2.rst, "[Un]populated Notification").

    Args:
        directory: the cgroup; if it is gone, it is empty.
        processes: says who is left, for the error text.
        deadline: ``time.monotonic()`` value.

    Raises:
        CgroupError: (ETIMEDOUT) it still has processes at the deadline.
    """
    path = directory / "cgroup.events"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLPRI)
        while b"populated 1" in _read_events(descriptor):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise _left(directory, processes())
            poller.poll(max(1, remaining * 1000))
    finally:
        os.close(descriptor)


def _read_events(descriptor: int) -> bytes:
    try:
        return os.pread(descriptor, 4096, 0)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return b""
        raise


def _left(directory: object, processes: list[int]) -> CgroupError:
    reason = f"{describe_processes(processes)} left" if processes else "still populated"
    remedy = "look at their state in /proc/<pid>/stack; D means that the kernel waits for a device"
    return CgroupError(errno.ETIMEDOUT, directory, "killed, but not empty in time", reason, remedy)
