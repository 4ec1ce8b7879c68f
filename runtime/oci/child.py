"""What a forked child does until it becomes the container's process, and what it says if it fails.

It runs in a process with one thread, forked from the shim: no lock can be held by a thread that is
not there. The order follows the kernel's rules: cgroups before the cgroup namespace, bind sources
before the mount tree is cut off, limits while still privileged, descriptors closed before the
working directory is looked up (CVE-2024-21626), the user last.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import stat
import struct
import termios

from kubeletpy_common.linux import mounts as m
from kubeletpy_common.linux import namespaces as ns
from kubeletpy_common.linux import processes
from kubeletpy_common.linux.libc import AT_EMPTY_PATH
from kubeletpy_common.linux.paths import (
    RESOLVE_IN_ROOT,
    RESOLVE_NO_SYMLINKS,
    open_in_root,
    openat2,
)
from kubeletpy_common.record import Record
from runtime.oci.confinement import CONFIG_FILE, read_compiled_filter
from runtime.oci.credentials import Identity, become, set_limits
from runtime.oci.mappings import host_owner
from runtime.oci.plan import plan_file_system
from runtime.oci.steps import Context, open_file
from runtime.oci.user_namespace import (
    become_owner,
    become_root_inside,
    enter_user_namespace,
    open_user_namespace,
)

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, NoReturn

    from runtime.oci.confinement import CompiledFilter
    from runtime.shim.messages import Rootfs, StrPath

# OCI runtime specification, config-linux.md "Namespaces"
NAMESPACE_FLAGS: Final = {
    "pid": ns.CLONE_NEWPID,
    "network": ns.CLONE_NEWNET,
    "mount": ns.CLONE_NEWNS,
    "ipc": ns.CLONE_NEWIPC,
    "uts": ns.CLONE_NEWUTS,
    "user": ns.CLONE_NEWUSER,
    "cgroup": ns.CLONE_NEWCGROUP,
    "time": ns.CLONE_NEWTIME,
}
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# The ioctls of devpts (ioctl_tty(2)); termios has no names for them.
_TIOCSPTLCK: Final = 0x40045431
_TIOCGPTPEER: Final = 0x5441
# /dev/ptmx and every devpts' own ptmx (kernel: Documentation/admin-guide/devices.txt).
_PTMX_DEVICE: Final = os.makedev(5, 2)

FAILED: Final = 125
"""Exit status of a child that could not become what it was to be."""
_SIGNALS: Final = (
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGCHLD,
)


class Stdio(Record):
    """The descriptors that become 0, 1 and 2."""

    stdin: int
    stdout: int
    stderr: int


class Launch(Record):
    """All that a child needs to become a container's first process.

    Attributes:
        bundle: where its OCI configuration is, which only the child reads: what that takes of
            memory ends with its execve.
        rootfs: the overlay that becomes its root.
        cgroup_files: the cgroups' files to write to.
        stdio: its standard streams; None for a terminal, which it makes itself.
        report: where failure is told; close-on-exec, so that its end means success.
    """

    bundle: StrPath
    rootfs: Rootfs
    cgroup_files: tuple[str, ...]
    stdio: Stdio | None
    report: socket.socket


class ExecLaunch(Record):
    """All that a child needs to become one more process of a container.

    Attributes:
        config: the part of the container's OCI configuration that its processes share.
        bundle: where its system call filter is.
        process: the OCI ``process`` to run.
        init_pidfd: pidfd of the container's first process.
        cgroup_files: the cgroups' files to write to.
        stdio: its standard streams; None for a terminal, which it makes itself.
        report: where failure is told; close-on-exec.
    """

    config: dict[str, Any]
    bundle: StrPath
    process: dict[str, Any]
    init_pidfd: int
    cgroup_files: tuple[str, ...]
    stdio: Stdio | None
    report: socket.socket


class _Progress:
    """The step that is being done, for the report of its failure."""

    def __init__(self) -> None:
        self.step = "start"


def run_container(launch: Launch) -> NoReturn:
    """Become the container's first process; never returns."""
    _run(launch.report, lambda progress: _become_container(launch, progress))


def run_exec(launch: ExecLaunch) -> NoReturn:
    """Become one more process of a running container; never returns."""
    _run(launch.report, lambda progress: _become_exec(launch, progress))


def _run(report: socket.socket, become: Callable[[_Progress], None]) -> NoReturn:
    progress = _Progress()
    try:
        become(progress)
    except BaseException as error:
        number = error.errno if isinstance(error, OSError) else None
        message = {
            "step": progress.step,
            "errno": number,
            "message": (error.strerror if isinstance(error, OSError) else None) or str(error),
        }
        try:
            report.send(json.dumps(message).encode())
        except OSError:
            # Nobody listens any more; the exit status is all that can be told.
            pass
    os._exit(FAILED)


def _become_container(launch: Launch, progress: _Progress) -> None:
    leave_parent()
    progress.step = "read the configuration"
    with open(os.path.join(launch.bundle, CONFIG_FILE), "rb") as stream:
        config = json.loads(stream.read())
    process = config["process"]
    system_calls = read_compiled_filter(config["linux"], launch.bundle)
    steps = plan_file_system(config, launch.rootfs, os.path.join(launch.bundle, "rootfs"))
    progress.step = "join the cgroups"
    join_cgroups(launch.cgroup_files)
    progress.step = "set the limits"
    set_limits(process)
    give_streams(launch.stdio, config, process)
    progress.step = "enter the namespaces"
    context = Context(user_namespace=open_user_namespace(config))
    _enter_namespaces(config)
    if context.user_namespace >= 0:
        become_owner(config)
    # Modes of what is made are as asked, not as the daemon's umask would have them.
    os.umask(0)
    for step in steps:
        progress.step = step.describe()
        step.execute(context)
    stdio = launch.stdio
    if stdio is None:
        progress.step = "open the terminal"
        owner, _ = host_owner(config, process["user"]["uid"], 0)
        stdio = _open_terminal(context, process, owner, launch.report)
    progress.step = "change the root"
    os.fchdir(context.root_fd)
    m.pivot_root(".", ".")
    m.umount(".", m.MNT_DETACH)
    os.chdir("/")
    if context.user_namespace >= 0:
        progress.step = "enter the user namespace"
        enter_user_namespace(context.user_namespace)
    _execute(process, system_calls, stdio, launch.report, progress)


def _become_exec(launch: ExecLaunch, progress: _Progress) -> None:
    leave_parent()
    progress.step = "read the system call filter"
    system_calls = read_compiled_filter(launch.config["linux"], launch.bundle)
    progress.step = "join the cgroups"
    join_cgroups(launch.cgroup_files)
    progress.step = "set the limits"
    set_limits(launch.process)
    give_streams(launch.stdio, launch.config, launch.process)
    progress.step = "enter the namespaces"
    flags = 0
    for namespace in launch.config["linux"].get("namespaces", []):
        flags |= NAMESPACE_FLAGS[namespace["type"]]
    # The PID namespace was set before the fork: setns(2) moves only later children.
    ns.setns(launch.init_pidfd, flags & ~ns.CLONE_NEWPID)
    if flags & ns.CLONE_NEWUSER:
        become_root_inside()
    stdio = launch.stdio
    if stdio is None:
        progress.step = "open the terminal"
        stdio = _open_exec_terminal(launch.process, launch.report)
    _execute(launch.process, system_calls, stdio, launch.report, progress)


def leave_parent() -> None:
    """Undo, in a fresh fork, what the shim set up for itself, and lead a session of its own."""
    signal.set_wakeup_fd(-1)
    # execve(2) keeps ignored signals ignored. The spawner has reset what it inherited; these are
    # what Python, the spawner and the shim ignore or handle themselves.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setsid()
    # Whoever holds a session keyring may use the keys in it, whatever namespaces he is in.
    processes.join_new_session_keyring()


def split_cgroups(procs_files: tuple[StrPath, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Sort cgroups by how a child gets into them without waiting for all forks of the machine.

    Writing to ``cgroup.procs`` takes the lock that guards thread groups against changes, which
    costs more than 10 ms where measured. Writing the writer's own thread to ``tasks``, of
    version 1, does not (kernel: cgroup_procs_write_start()), and with one thread it is the same;
    into a cgroup of version 2 a process can be born instead.

    Args:
        procs_files: ``cgroup.procs`` of each cgroup.

    Returns:
        the directory of the version 2 cgroup to fork into, if any, and the files to write to.
    """
    unified: str | None = None
    tasks: list[str] = []
    for path in procs_files:
        directory = os.path.dirname(path)
        file = f"{directory}/tasks"
        if os.path.exists(file):
            tasks.append(file)
        else:
            unified = directory
    return unified, tuple(tasks)


def join_cgroups(files: tuple[StrPath, ...]) -> None:
    """Move this process, with its one thread, into the cgroup of each file.

    Raises:
        OSError: a cgroup is gone or full.
    """
    for path in files:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            # cgroups(7): 0 means the writer itself.
            os.write(descriptor, b"0")
        except OSError as error:
            raise OSError(error.errno, f"join {path}: {error.strerror}") from error
        finally:
            os.close(descriptor)


def _enter_namespaces(config: dict[str, Any]) -> None:
    new = 0
    for namespace in config["linux"].get("namespaces", []):
        flag = NAMESPACE_FLAGS[namespace["type"]]
        if flag in (ns.CLONE_NEWPID, ns.CLONE_NEWUSER):
            # The first was set before the fork; the second takes away what the others need.
            continue
        if path := namespace.get("path"):
            ns.enter(path, flag)
        else:
            new |= flag
    ns.unshare(new | ns.CLONE_NEWNS)
    if new & ns.CLONE_NEWUTS and config.get("hostname"):
        socket.sethostname(config["hostname"])


def _open_terminal(
    context: Context, process: dict[str, Any], owner: int, report: socket.socket
) -> Stdio:
    """Make a terminal on the container's own devpts and hand its master to the shim.

    Raises:
        OSError: there is no devpts, or the kernel refused.
    """
    devpts = context.file_systems.get("devpts")
    if devpts is None:
        raise OSError(errno.ENODEV, "a terminal needs a devpts mount in the configuration")
    master, slave = _make_terminal(devpts, process, owner)
    console = open_file(context.root_fd, "/dev/console")
    tree = m.open_tree(slave, "", m.OPEN_TREE_CLONE | AT_EMPTY_PATH)
    m.attach(tree, console)
    socket.send_fds(report, [b'{"terminal":true}'], [master])
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    return Stdio(slave, slave, slave)


def _open_exec_terminal(process: dict[str, Any], report: socket.socket) -> Stdio:
    """Make a terminal on the devpts of the container that this process has entered.

    What the container put there instead cannot lead out of it: no symbolic link is followed, and
    the kernel opens the slave of exactly that master (TIOCGPTPEER), never by a path.

    Raises:
        OSError: the container has no devpts, or the kernel refused.
    """
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS
    devpts = openat2(root, "dev/pts", os.O_PATH | os.O_DIRECTORY, resolve=resolve)
    node = os.stat("ptmx", dir_fd=devpts, follow_symlinks=False)
    if not stat.S_ISCHR(node.st_mode) or node.st_rdev != _PTMX_DEVICE:
        raise OSError(errno.ENODEV, "a terminal needs a devpts at /dev/pts of the container")
    master, slave = _make_terminal(devpts, process, process["user"]["uid"])
    socket.send_fds(report, [b'{"terminal":true}'], [master])
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    return Stdio(slave, slave, slave)


def _make_terminal(devpts: int, process: dict[str, Any], owner: int) -> tuple[int, int]:
    """Return master and slave of a new terminal that belongs to the user ``owner``."""
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    master = os.open("ptmx", flags | os.O_NOFOLLOW, dir_fd=devpts)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    slave = fcntl.ioctl(master, _TIOCGPTPEER, flags)
    os.fchown(slave, owner, -1)
    if size := process.get("consoleSize"):
        window = struct.pack("HHHH", size.get("height", 0), size.get("width", 0), 0, 0)
        fcntl.ioctl(master, termios.TIOCSWINSZ, window)
    return master, slave


def _execute(
    process: dict[str, Any],
    system_calls: CompiledFilter | None,
    stdio: Stdio,
    report: socket.socket,
    progress: _Progress,
) -> None:
    progress.step = "connect the standard streams"
    _connect(stdio)
    processes.close_from(3, keep=(report.fileno(),))
    progress.step = "become the user"
    # Without no_new_privs the kernel takes a filter from CAP_SYS_ADMIN only (seccomp(2)), which is
    # therefore given up last; with it, the filter comes when nothing but execve is left to do.
    privileged = system_calls is not None and not process.get("noNewPrivileges")
    identity = Identity.of(process, keep_admin=privileged)
    become(identity)
    progress.step = f"enter the working directory {process.get('cwd', '/')}"
    _enter_directory(process.get("cwd", "/"))
    arguments = process["args"]
    environment = environment_of(process)
    # After the last change of user, which clears it (prctl(2)): a container without a shim would
    # run on with nobody to keep its output and exit code.
    processes.set_parent_death_signal(signal.SIGKILL)
    if system_calls is not None:
        progress.step = "load the system call filter"
        system_calls.load()
        if privileged:
            processes.set_capabilities(*identity.final)
    progress.step = f"execute {arguments[0]}"
    _exec_in_path(arguments, environment)


def give_streams(stdio: Stdio | None, config: dict[str, Any], process: dict[str, Any]) -> None:
    """Make the process's user the owner of its pipes.

    Programs open /dev/stdout by its name, which asks for the permission anew.
    """
    uid, _ = host_owner(config, process["user"]["uid"], 0)
    if stdio is None or not uid:
        return
    for descriptor in (stdio.stdin, stdio.stdout, stdio.stderr):
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.fchown(descriptor, uid, -1)


def _connect(stdio: Stdio) -> None:
    sources = (stdio.stdin, stdio.stdout, stdio.stderr)
    # Copies above 2 first: a source may be one of the targets of another.
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in sources]
    for target, copy in enumerate(copies):
        os.dup2(copy, target, inheritable=True)


def _enter_directory(path: str) -> None:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        directory = open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
        try:
            os.fchdir(directory)
        finally:
            os.close(directory)
    finally:
        os.close(root)


def environment_of(process: dict[str, Any]) -> dict[str, str]:
    """Return the environment of an OCI ``process``; of a name given twice the last counts."""
    return dict(entry.split("=", 1) for entry in process.get("env", []) if "=" in entry)


def candidates(command: str, environment: dict[str, str]) -> list[str]:
    """Return the paths that execvp(3) would try for a command."""
    if "/" in command:
        return [command]
    directories = environment.get("PATH", DEFAULT_PATH).split(":")
    return [f"{directory or '.'}/{command}" for directory in directories]


def _exec_in_path(arguments: list[str], environment: dict[str, str]) -> None:
    """Call execve, with the search in PATH that execvp(3) does.

    Raises:
        OSError: nothing could be executed; ``EACCES`` wins over ``ENOENT``.
    """
    command = arguments[0]
    if "/" in command:
        _exec(command, arguments, environment)
    denied: OSError | None = None
    for path in candidates(command, environment):
        try:
            _exec(path, arguments, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            denied = denied or error
    raise denied or OSError(errno.ENOENT, f"{command!r}: executable file not found in $PATH")


def _exec(path: str, arguments: list[str], environment: dict[str, str]) -> None:
    try:
        os.execve(path, arguments, environment)
    except OSError as error:
        raise OSError(error.errno, f"exec {path!r}: {error.strerror}") from error
