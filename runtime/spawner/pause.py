"""The first process of a PID namespace that the containers of a pod share.

Those containers see it, and one with CAP_SYS_PTRACE may do with it what it likes: follow
/proc/1/root, trace it, have it do things. So there is nothing to be had: it lives in the pod's
namespaces, on an empty read-only root, as nobody, without a capability or a descriptor.
"""

from __future__ import annotations

import errno
import os
import signal

from kubeletpy_common.linux import mounts as m
from kubeletpy_common.linux import namespaces as ns
from kubeletpy_common.linux import processes
from runtime.shim.forking import PidNamespace, fork

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Final, NoReturn

    from runtime.shim.messages import StrPath

_ENTERED: Final = {
    "network": ns.CLONE_NEWNET,
    "ipc": ns.CLONE_NEWIPC,
    "uts": ns.CLONE_NEWUTS,
}
_NOBODY: Final = 65534
_READY: Final = b"ready"


def start_pause(
    mount_point: StrPath, namespaces: Mapping[str, str], room: tuple[int, int], program: int
) -> int:
    """Fork it; return its process id.

    It reaps what its containers leave behind and ends by SIGKILL, or with the shim.

    Args:
        mount_point: a directory to mount its root on, out of the host's sight.
        namespaces: where the pod's own are pinned, by OCI name.
        room: of the process's title, as :func:`processes.title_room` gave it to the spawner.
        program: descriptor of what it becomes (:mod:`runtime.spawner.pause_program`); -1: it stays
            an interpreter.

    Raises:
        OSError: it could not be made.
    """
    config = {"linux": {"namespaces": [{"type": "pid"}]}}
    told, telling = os.pipe()
    namespace = PidNamespace()

    def child() -> NoReturn:
        processes.set_title("pause", "kubeletpy-pause", room)
        _pause(mount_point, namespaces, telling, program)

    try:
        with namespace.of_container(config):
            pid = fork(child)
        os.close(telling)
        telling = -1
        if (answer := os.read(told, 4096)) != _READY:
            os.waitpid(pid, 0)
            text = answer.decode("utf-8", "replace") or "it ended"
            raise OSError(errno.ECHILD, f"make the pod's first process: {text}")
        return pid
    finally:
        namespace.close()
        for descriptor in {told, telling} - {-1}:
            os.close(descriptor)


def _pause(
    mount_point: StrPath, namespaces: Mapping[str, str], telling: int, program: int
) -> NoReturn:
    try:
        for name, flag in _ENTERED.items():
            if path := namespaces.get(name):
                ns.enter(path, flag)
        _give_everything_up(mount_point, {telling, program})
    except OSError as error:
        os.write(telling, str(error).encode())
        os._exit(1)
    os.write(telling, _READY)
    os.close(telling)
    if program >= 0:
        # The kernel then reaps, before and after the change of the program.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            os.execve(program, ["kubeletpy-pause"], {})
        except OSError:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        signal.sigwait({signal.SIGCHLD})
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            # No child is left; the next one's end wakes this loop again.
            continue


def _give_everything_up(mount_point: StrPath, keep: Collection[int]) -> None:
    processes.join_new_session_keyring()
    ns.unshare(ns.CLONE_NEWNS | ns.CLONE_NEWCGROUP)
    m.mount(None, "/", None, m.MS_REC | m.MS_PRIVATE)
    flags = m.MS_RDONLY | m.MS_NOSUID | m.MS_NODEV | m.MS_NOEXEC
    m.mount("none", mount_point, "tmpfs", flags, "size=4k,nr_inodes=1,mode=555")
    os.chdir(mount_point)
    m.pivot_root(".", ".")
    m.umount(".", m.MNT_DETACH)
    os.chdir("/")
    # Its standard streams lead to the host.
    processes.close_from(0, keep=sorted(keep))
    none: frozenset[int] = frozenset()
    processes.limit_bounding_set(none)
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    processes.set_capabilities(none, none, none)
    processes.set_no_new_privs()
    # Both are lost with a change of user (prctl(2)).
    processes.set_dumpable(False)
    processes.set_parent_death_signal(signal.SIGKILL)
