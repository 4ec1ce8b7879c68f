"""The process side of a pod sandbox: its namespaces, pinned, and the shim that owns it.

What is pinned lives as long as the mount that pins it, without any process inside: no pause
process is needed, but for a PID namespace, which ends with its first process.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket

from kubeletpy_common.linux import mounts as m
from kubeletpy_common.linux import namespaces as ns
from kubeletpy_common.linux import processes
from runtime.oci.child import join_cgroups
from runtime.shim.forking import fork
from runtime.shim.messages import SandboxSpec
from runtime.shim.server import ShimServer
from runtime.spawner.pause import start_pause
from runtime.spawner.user_namespace import user_namespace

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Final, NoReturn

    from runtime.shim.messages import Message, StrPath

SOCKET_NAME: Final = "shim.sock"
LOG_NAME: Final = "shim.log"
ROOTS_NAME: Final = "roots"
_NAMESPACES: Final = {
    "network": ("net", ns.CLONE_NEWNET),
    "ipc": ("ipc", ns.CLONE_NEWIPC),
    "uts": ("uts", ns.CLONE_NEWUTS),
}
# A pin's unmount is retried only for mounts stacked by a daemon that died in between.
_MAX_STACKED: Final = 16
_ANSWER_SIZE: Final = 16 << 10


class SandboxError(Exception):
    """The process side of a sandbox could not be made; nothing of it is left."""


def run_shim(
    message: Message,
    room: tuple[int, int],
    program: int,
    launcher: int,
    on_ready: Callable[[dict[str, str]], None],
) -> NoReturn:
    """Become the shim of a sandbox; runs in a fresh fork of the spawner and never returns.

    Args:
        message: the :class:`SandboxSpec`, as it came.
        room: of this process's title, as :func:`processes.title_room` gave it to the spawner.
        program: descriptor of what the first process of a shared PID namespace becomes; -1: none.
        launcher: descriptor of what commands in containers are forked from; -1: none.
        on_ready: called with the pinned namespaces once the shim listens.

    Raises:
        SandboxError, OSError: the sandbox could not be made; its mounts are undone.
    """
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Only the daemon's word, or SIGKILL, ends a shim: a signal to the process group of the
        # daemon's service must not take the pods along.
        signal.signal(number, signal.SIG_IGN)
    processes.set_title("kubeletpy-shim", f"kubeletpy-shim {message['sandbox_id']}", room)
    processes.set_child_subreaper()
    directory = message["directory"]
    _connect_to_log(os.path.join(directory, LOG_NAME))
    # The shim itself may wait for the lock: nobody but the sandbox's own making waits for it.
    join_cgroups(message["cgroup_procs"])
    try:
        listener, namespaces = _make_in_child(message)
        if message["shared_pid"]:
            pid = start_pause(directory, namespaces, room, program)
            namespaces["pid"] = _pin(os.path.join(directory, "ns"), str(pid), "pid")
    except BaseException:
        destroy_sandbox_mounts(directory)
        raise
    if program >= 0:
        os.close(program)
    on_ready(namespaces)
    ShimServer(listener, launcher).serve()
    os._exit(0)


def describe(error: BaseException) -> str:
    """Return what the daemon is told of a failure."""
    return str(error) if isinstance(error, SandboxError) else f"{type(error).__name__}: {error}"


def _make_in_child(message: Message) -> tuple[socket.socket, dict[str, str]]:
    """Have a child make the sandbox; return the shim's listening socket and the pins.

    What the work takes of memory, half a megabyte that was shared with the spawner before, ends
    with the child instead of staying with the shim.

    Raises:
        SandboxError: it could not be made.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)

    def make() -> NoReturn:
        processes.set_parent_death_signal(signal.SIGKILL)
        ours.close()
        _make(SandboxSpec.from_message(message), theirs)
        os._exit(0)

    pid = fork(make)
    theirs.close()
    data, descriptors, _, _ = socket.recv_fds(ours, _ANSWER_SIZE, 1)
    ours.close()
    os.waitpid(pid, 0)
    if not descriptors:
        raise SandboxError(data.decode() or "the process that makes the sandbox was killed")
    os.set_inheritable(descriptors[0], False)
    return socket.socket(fileno=descriptors[0]), json.loads(data)


def _make(spec: SandboxSpec, answer: socket.socket) -> None:
    try:
        namespaces = _pin_namespaces(spec)
        if spec.new_ipc:
            _mount_shm(spec)
        if spec.external:
            _prepare_roots(os.path.join(spec.directory, ROOTS_NAME))
        listener = _listen(spec.directory, SOCKET_NAME)
    except BaseException as error:
        answer.send(describe(error).encode()[:_ANSWER_SIZE])
        return
    socket.send_fds(answer, [json.dumps(namespaces).encode()], [listener.fileno()])


def destroy_sandbox_mounts(directory: StrPath) -> None:
    """Unmount what :func:`run_shim` mounted below ``directory``; safe to repeat.

    Raises:
        OSError: the kernel refused for another reason than that nothing is mounted.
    """
    pins = os.path.join(directory, "ns")
    names = [f"{pins}/{name}" for name in os.listdir(pins)] if os.path.isdir(pins) else []
    for path in [*names, *(os.path.join(directory, name) for name in ("shm", ROOTS_NAME))]:
        _unmount_all(path)


def _unmount_all(path: str) -> None:
    for _ in range(_MAX_STACKED):
        try:
            m.umount(path, m.MNT_DETACH | m.UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return
            raise


def _connect_to_log(path: str) -> None:
    # Neither the daemon's stderr nor its terminal may be held open by a process that outlives it.
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(log, 2)
    os.close(null)
    os.close(log)


def _pin_namespaces(spec: SandboxSpec) -> dict[str, str]:
    wanted = {"network": spec.new_network, "ipc": spec.new_ipc, "uts": spec.new_uts}
    chosen = {name: facts for name, facts in _NAMESPACES.items() if wanted[name]}
    pins = os.path.join(spec.directory, "ns")
    _make_directory(pins)
    homes = [os.open(f"/proc/self/ns/{file}", os.O_RDONLY | os.O_CLOEXEC)
             for file, _ in chosen.values()]  # fmt: skip
    try:
        if spec.uid_mappings:
            pinned = _pin_below_user_namespace(spec, pins, chosen)
            for file, flag in chosen.values():
                ns.enter(f"{pins}/{file}", flag)
        else:
            ns.unshare(sum(flag for _, flag in chosen.values()))
            pinned = {name: _pin(pins, "self", file) for name, (file, _) in chosen.items()}
        if spec.new_uts:
            socket.sethostname(spec.hostname)
        _set_sysctls(spec.sysctls)
    finally:
        for home in homes:
            ns.setns(home)
            os.close(home)
    return pinned


def _pin_below_user_namespace(
    spec: SandboxSpec, pins: str, chosen: dict[str, tuple[str, int]]
) -> dict[str, str]:
    owned = sum(flag for _, flag in chosen.values())
    with user_namespace(spec.uid_mappings, spec.gid_mappings, owned) as holder:
        files = {"user": "user"} | {name: file for name, (file, _) in chosen.items()}
        return {name: _pin(pins, str(holder), file) for name, file in files.items()}


def _pin(pins: str, process: str, file: str) -> str:
    target = f"{pins}/{file}"
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    m.mount(f"/proc/{process}/ns/{file}", target, None, m.MS_BIND)
    return target


def _set_sysctls(sysctls: Mapping[str, str] | None) -> None:
    for name, value in (sysctls or {}).items():
        # sysctl(8): dots separate, but a slash in a name stands for a dot of a link's name.
        path = "/proc/sys/" + name.translate(str.maketrans("./", "/."))
        with open(path, "w") as stream:
            stream.write(value)


def _mount_shm(spec: SandboxSpec) -> None:
    target = os.path.join(spec.directory, "shm")
    _make_directory(target)
    flags = m.MS_NOSUID | m.MS_NODEV | m.MS_NOEXEC
    m.mount("shm", target, "tmpfs", flags, f"mode=1777,size={spec.shm_size}")


def _prepare_roots(path: str) -> None:
    """Make the place where an external runtime finds its containers' root file systems.

    A private mount: what is mounted below it, in a mount namespace that is a copy of this one, does
    not come back to the host.
    """
    # Now, not with the first container: by then the code on disk may be another version's.
    import runtime.shim.external.container  # noqa: F401

    _make_directory(path)
    m.mount(path, path, None, m.MS_BIND)
    m.mount(None, path, None, m.MS_PRIVATE)


def _make_directory(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        # A daemon that died in between made it.
        pass


def _listen(path: StrPath, name: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mask = os.umask(0o177)
    try:
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            pass
        # Through the descriptor, a path of any length fits into a socket's address.
        listener.bind(f"/proc/self/fd/{directory}/{name}")
    finally:
        os.umask(mask)
        os.close(directory)
    # Each exec and attach is a connection of its own, and many may come at once; beyond this the
    # kernel refuses instead of letting them wait (unix(7)).
    listener.listen(1024)
    return listener
