"""What :func:`runtime.oci.child.run_exec` does, as a list of system calls for the launcher (pure).

Step by step the same in the same order, for the same reasons; what that one does with a terminal is
not among it. The two are compared by tests/root/runtime/shim/test_launcher.py.
"""

from __future__ import annotations

import errno
import os
import signal
import struct

from kubeletpy_common.linux import namespaces as ns
from kubeletpy_common.linux import processes
from kubeletpy_common.linux.libc import AT_FDCWD
from kubeletpy_common.linux.paths import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS
from kubeletpy_common.linux.seccomp import INSTRUCTION_SIZE, SECCOMP_SET_MODE_FILTER
from runtime.oci.call_list import RESULT, RESULT_SIZE, CallList
from runtime.oci.child import FAILED, NAMESPACE_FLAGS, candidates, environment_of
from runtime.oci.credentials import Identity, limits_of

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from runtime.oci.confinement import CompiledFilter

# Descriptors of the launcher, by the order in which they are made and sent.
SOCKET: Final = 3
OWN_PID_NAMESPACE: Final = 4
_REPORT: Final = 5
_CONTAINER: Final = 6
_STREAMS: Final = (7, 8, 9)
_CGROUP: Final = 10
_TOLD: Final = SOCKET
"""The report in the child."""

_CLONE_PARENT: Final = 0x00008000
_CLONE_INTO_CGROUP: Final = 0x200000000
_ALL: Final = 0xFFFFFFFF
_INTERNAL_SIGNALS: Final = (32, 33)
# Each try is a call of its own; see paths.openat2() for what makes one fail.
_RACE_ATTEMPTS: Final = 16


def exec_calls(
    linux: dict[str, Any],
    process: dict[str, Any],
    cgroup_files: tuple[str, ...],
    into_cgroup: bool,
    system_calls: CompiledFilter | None,
) -> CallList:
    """Return the calls that fork a command of a container and make it what it has to be.

    With the message come, in this order: the report's end, a pidfd of the container's first
    process, the three standard streams, and the cgroup of version 2 if there is one.

    Args:
        linux: what the container's processes share of its configuration.
        process: the OCI ``process``, without a terminal.
        cgroup_files: files to write to, of cgroups of version 1.
        into_cgroup: it is born in a cgroup of version 2.
        system_calls: the filter, if any.

    Raises:
        ValueError: something has no meaning to the kernel: a NUL, an unknown limit or capability.
    """
    calls = CallList()
    _fork(calls, into_cgroup)
    _begin(calls, cgroup_files, _CGROUP + into_cgroup)
    calls.step("set the limits")
    for number, soft, hard in limits_of(process):
        calls.call("setrlimit", number, calls.data(struct.pack("<qq", soft, hard)))
    if (score := process.get("oomScoreAdj")) is not None:
        _set_oom_score(calls, score, _CGROUP + into_cgroup)
    _enter_namespaces(calls, linux)
    calls.step("connect the standard streams")
    for target, source in enumerate(_STREAMS):
        calls.call("dup3", source, target, 0)
    calls.call("close_range", _TOLD + 1, _ALL, 0)
    calls.step("become the user")
    privileged = system_calls is not None and not process.get("noNewPrivileges")
    identity = Identity.of(process, keep_admin=privileged)
    _become(calls, identity)
    _enter_directory(calls, process.get("cwd", "/"))
    calls.call("prctl", processes.PR_SET_PDEATHSIG, signal.SIGKILL)
    if system_calls is not None:
        calls.step("load the system call filter")
        _load(calls, system_calls)
        if privileged:
            _set_capabilities(calls, *identity.final)
    _execute(calls, process)
    calls.mark("failed")
    calls.call("write", _TOLD, RESULT, RESULT_SIZE, failed="give up")
    calls.mark("give up")
    calls.call("exit_group", FAILED)
    return calls


def _fork(calls: CallList, into_cgroup: bool) -> None:
    calls.step("start")
    # setns(2) moves only later children into a PID namespace.
    calls.call("setns", _CONTAINER, ns.CLONE_NEWPID, failed="answer")
    # A child of the shim's, not of the launcher's: the one that reaps it, and by whose death it
    # dies. Its signal is that of the launcher's own end, SIGCHLD (clone(2), CLONE_PARENT).
    flags = _CLONE_PARENT | (_CLONE_INTO_CGROUP if into_cgroup else 0)
    arguments = struct.pack("<11Q", flags, *[0] * 9, _CGROUP if into_cgroup else 0)
    address = calls.data(arguments)
    calls.call("clone3", address, len(arguments), above_zero="answer", failed="answer")
    # In the child. The launcher's socket is none of its business.
    calls.call("dup3", _REPORT, _TOLD, os.O_CLOEXEC, above_zero="begin")
    calls.mark("answer")
    calls.call("write", SOCKET, RESULT, RESULT_SIZE, failed="clean")
    calls.mark("clean")
    calls.call("setns", OWN_PID_NAMESPACE, ns.CLONE_NEWPID, failed="close")
    calls.mark("close")
    calls.call("close_range", OWN_PID_NAMESPACE + 1, _ALL, 0, failed="end")
    calls.mark("end")
    calls.end()


def _begin(calls: CallList, cgroup_files: tuple[str, ...], free: int) -> None:
    calls.mark("begin")
    # The C library's own, which posix_spawn(3) leaves ignored in the launcher.
    default = calls.data(bytes(32))
    for number in _INTERNAL_SIGNALS:
        calls.call("rt_sigaction", number, default, 0, 8)
    calls.call("setsid")
    operation = processes.KEYCTL_JOIN_SESSION_KEYRING
    calls.call("keyctl", operation, 0, expected=(errno.ENOSYS, errno.EPERM))
    # cgroups(7): 0 means the writer itself.
    itself = calls.data(b"0")
    for path in cgroup_files:
        calls.step(f"join the cgroups: join {path}")
        calls.call("openat", AT_FDCWD, calls.text(path), os.O_WRONLY | os.O_CLOEXEC)
        calls.call("write", free, itself, 1)
        calls.call("close", free)


def _set_oom_score(calls: CallList, score: int, free: int) -> None:
    path, text = calls.text("/proc/self/oom_score_adj"), str(score).encode()
    calls.call("openat", AT_FDCWD, path, os.O_WRONLY | os.O_CLOEXEC)
    # As near as allowed; see credentials.write_oom_score().
    refused = (errno.EACCES, errno.EPERM)
    calls.call("write", free, calls.data(text), len(text), expected=refused)
    calls.call("close", free)


def _enter_namespaces(calls: CallList, linux: dict[str, Any]) -> None:
    calls.step("enter the namespaces")
    flags = 0
    for namespace in linux.get("namespaces", []):
        flags |= NAMESPACE_FLAGS[namespace["type"]]
    calls.call("setns", _CONTAINER, flags & ~ns.CLONE_NEWPID)
    if flags & ns.CLONE_NEWUSER:
        calls.call("setresgid", 0, 0, 0)
        calls.call("setresuid", 0, 0, 0)
        _stay_opaque(calls)


def _stay_opaque(calls: CallList) -> None:
    # Changes of ids set what the sysctl fs.suid_dumpable says (proc_sys_fs(5)).
    calls.call("prctl", processes.PR_SET_DUMPABLE, 0)


def _become(calls: CallList, identity: Identity) -> None:
    for number in identity.dropped:
        calls.call("prctl", processes.PR_CAPBSET_DROP, number)
    calls.call("prctl", processes.PR_SET_KEEPCAPS, 1)
    groups = struct.pack(f"<{len(identity.groups)}I", *identity.groups)
    calls.call("setgroups", len(identity.groups), calls.data(groups))
    calls.call("setresgid", *[identity.gid] * 3)
    calls.call("setresuid", *[identity.uid] * 3)
    _stay_opaque(calls)
    calls.call("prctl", processes.PR_SET_KEEPCAPS, 0)
    calls.call("umask", identity.umask)
    if identity.ambient:
        _set_capabilities(calls, *identity.before_ambient)
        ambient = processes.PR_CAP_AMBIENT
        calls.call("prctl", ambient, processes.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        for number in sorted(identity.ambient):
            calls.call("prctl", ambient, processes.PR_CAP_AMBIENT_RAISE, number, 0, 0)
    _set_capabilities(calls, *identity.first)
    if identity.no_new_privs:
        calls.call("prctl", processes.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _set_capabilities(
    calls: CallList,
    effective: frozenset[int],
    permitted: frozenset[int],
    inheritable: frozenset[int],
) -> None:
    header, sets = processes.capability_structures(effective, permitted, inheritable)
    calls.call("capset", calls.data(header), calls.data(sets))


def _enter_directory(calls: CallList, path: str) -> None:
    calls.step(f"enter the working directory {path}")
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    root, directory = _TOLD + 1, _TOLD + 2
    calls.call("openat", AT_FDCWD, calls.text("/"), flags)
    how = struct.pack("<3Q", flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    arguments = (root, calls.text(path), calls.data(how), len(how))
    for _ in range(_RACE_ATTEMPTS - 1):
        calls.call("openat2", *arguments, expected=(errno.EAGAIN,), above_zero="found")
    calls.call("openat2", *arguments)
    calls.mark("found")
    calls.call("fchdir", directory)
    calls.call("close_range", root, _ALL, 0)


def _load(calls: CallList, system_calls: CompiledFilter) -> None:
    count, rest = divmod(len(system_calls.program), INSTRUCTION_SIZE)
    if rest:
        raise ValueError(f"seccomp program of {len(system_calls.program)} bytes is damaged")
    # struct sock_fprog
    program = struct.pack("<HxxxxxxQ", count, calls.data(system_calls.program))
    address = calls.data(program)
    calls.call("seccomp", SECCOMP_SET_MODE_FILTER, system_calls.flags, address)


def _execute(calls: CallList, process: dict[str, Any]) -> None:
    arguments = process["args"]
    environment = environment_of(process)
    step = f"execute {arguments[0]}"
    pointers = (calls.texts(arguments), calls.texts(f"{k}={v}" for k, v in environment.items()))
    paths = candidates(arguments[0], environment)
    places = [(path, calls.text(path)) for path in paths]
    # Where the search ends at what may not be executed, it goes on, but that is what is told: a
    # second round fails at it.
    searching = (errno.ENOENT, errno.ENOTDIR)
    for expected in ((*searching, errno.EACCES), searching) if "/" not in arguments[0] else ((),):
        for path, place in places:
            calls.step(f"{step}: exec {path!r}")
            calls.call("execve", place, *pointers, expected=expected)
    calls.step(step, f"{arguments[0]!r}: executable file not found in $PATH")
    # An empty name is none of a file's: ENOENT.
    calls.call("execve", calls.text(""), *pointers)
