"""The unpacker process: waits for the daemon's jobs and forks a process for each.

Everything is loaded once, and then the host is left behind: the process has a mount namespace with
nothing in it but the directory of the snapshots, in which no device can be opened and no program
run, and a network namespace without a network. It is started by :mod:`runtime.unpacker.client` and
ends when the daemon's end of the socket closes; its jobs are killed then.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import select
import signal
import socket
from typing import Any, Final, NoReturn

from kubeletpy_common.linux import mounts, namespaces, processes
from kubeletpy_common.linux.libc import AT_FDCWD
from runtime.unpacker import job

_REQUEST_SIZE: Final = 256 << 10
_MAX_DESCRIPTORS: Final = 3
_NAMESPACES: Final = (
    namespaces.CLONE_NEWNS
    | namespaces.CLONE_NEWNET
    | namespaces.CLONE_NEWIPC
    | namespaces.CLONE_NEWUTS
)
_SNAPSHOTS: Final = mounts.MOUNT_ATTR_NODEV | mounts.MOUNT_ATTR_NOEXEC | mounts.MOUNT_ATTR_NOSUID


def main(descriptor: int, base: str) -> None:
    """Serve the daemon on the socket ``descriptor`` until it closes.

    The first message is ``{"ready": true}``, or ``{"error"}`` and the end. A request is one JSON
    object, ``{"id", "job", ...}``, with the descriptors of ``runtime.unpacker.job.Descriptors``;
    the job's process answers on the first of them. ``{"kill": id}`` ends a job.

    Args:
        descriptor: the daemon's socket.
        base: the directory of the snapshots, which becomes this process's root.
    """
    processes.close_from(3, keep=(descriptor,))
    os.setsid()
    os.umask(0)
    processes.set_title("kubeletpy-unpac", "kubeletpy-unpacker", processes.title_room())
    processes.set_dumpable(False)
    processes.last_capability()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    channel = socket.socket(fileno=descriptor)
    channel.set_inheritable(False)
    try:
        lock = _leave_the_host(base)
    except OSError as error:
        _send(channel, {"error": f"confine the unpacker to {base}: {error}"})
        return
    processes.set_child_subreaper()
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    gc.collect()
    gc.freeze()
    _send(channel, {"ready": True})
    _serve(channel, wake_read, lock)


def _leave_the_host(base: str) -> int:
    namespaces.unshare(_NAMESPACES)
    mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
    mounts.mount(base, base, None, mounts.MS_BIND)
    os.chdir(base)
    mounts.mount_setattr(AT_FDCWD, ".", 0, attr_set=_SNAPSHOTS)
    mounts.pivot_root(".", ".")
    mounts.umount(".", mounts.MNT_DETACH)
    os.chdir("/")
    # Held until the last process of this unpacker is gone: a daemon that starts meanwhile waits for
    # that before it looks for leftovers (runtime.snapshots.overlay).
    lock = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def _serve(channel: socket.socket, wake_read: int, lock: int) -> None:
    jobs: dict[int, int] = {}
    poller = select.poll()
    poller.register(channel, select.POLLIN)
    poller.register(wake_read, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poller.poll()}
        if wake_read in ready:
            os.read(wake_read, 512)
            _reap(jobs)
        if channel.fileno() in ready and not _take(channel, jobs, lock):
            return


def _take(channel: socket.socket, jobs: dict[int, int], lock: int) -> bool:
    """Carry out one message of the daemon; returns whether it is still there."""
    try:
        data, descriptors, _, _ = socket.recv_fds(channel, _REQUEST_SIZE, _MAX_DESCRIPTORS)
    except ConnectionResetError:
        return False
    if not data:
        return False
    request = json.loads(data)
    if "kill" in request:
        for pid in [pid for pid, number in jobs.items() if number == request["kill"]]:
            os.kill(pid, signal.SIGKILL)
        return True
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        processes.close_from(3, keep=(lock, *descriptors))
        _become_job(parent, request, descriptors)
    jobs[pid] = request["id"]
    for descriptor in descriptors:
        os.close(descriptor)
    return True


def _become_job(parent: int, request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    processes.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    job.run(request, job.Descriptors(*descriptors))


def _reap(jobs: dict[int, int]) -> None:
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        # Others than jobs are readers whose job was killed.
        jobs.pop(pid, None)


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    try:
        channel.send(json.dumps(message).encode())
    except (BrokenPipeError, ConnectionResetError):
        # The daemon has ended; the next read of the channel says so.
        pass
