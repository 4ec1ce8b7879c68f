"""What a fork of the shim does to have a runtime's program start a process: call it and wait.

It reports as the built-in executor's child does (:mod:`runtime.oci.child`): a message on failure,
descriptors of a terminal on the way. Success is told by the file that holds the process id, which
gets its name last.
"""

from __future__ import annotations

import json
import os
import signal
import socket

from kubeletpy_common.linux import namespaces as ns
from kubeletpy_common.linux import processes
from runtime.oci.child import DEFAULT_PATH, Stdio, leave_parent
from runtime.oci.confinement import CONFIG_FILE
from runtime.oci.user_namespace import open_user_namespace
from runtime.shim.external.configuration import external_configuration
from runtime.shim.external.root import Places, make_reachable, mount_all

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, NoReturn

    from runtime.shim.external.command_line import CommandLine
    from runtime.shim.messages import StartRequest

_FAILED: Final = 125
_CONSOLE_SECONDS: Final = 10.0
"""That the terminal may take to arrive once the program has ended; it was sent before."""
_MAX_LOG: Final = 1 << 20
_ENVIRONMENT: Final = {"PATH": DEFAULT_PATH, "LC_ALL": "C.UTF-8"}


def launch_container(
    line: CommandLine,
    request: StartRequest,
    stdio: Stdio | None,
    report: socket.socket,
    pid_file: str,
) -> NoReturn:
    """Create and start a container; never returns.

    The root file system is mounted in a mount namespace that ends with the program, so that the
    host's mount table never shows it. The runtime gives the container a copy of that namespace.
    """

    def work() -> None:
        ns.unshare(ns.CLONE_NEWNS)
        bundle = _prepare(line, request)
        words = ["create", "--bundle", bundle]
        unnamed = _call_for_process(line, pid_file, words, [request.container_id], stdio, report)
        _call(line, f"{request.bundle}/start.log", ["start", request.container_id])
        os.rename(unnamed, pid_file)

    _run(line, report, work)


def _prepare(line: CommandLine, request: StartRequest) -> str:
    """Mount the container's file systems; returns the bundle for the runtime."""
    with open(f"{request.bundle}/{CONFIG_FILE}", "rb") as source:
        config = json.loads(source.read())
    places = Places(line.roots, request.container_id)
    mount_all(places, request.rootfs, config)
    bundle = f"{request.bundle}/{line.name}"
    os.makedirs(bundle, mode=0o700, exist_ok=True)
    with open(f"{bundle}/{CONFIG_FILE}", "w", encoding="utf-8") as target:
        json.dump(external_configuration(config, places.root, places.images), target)
    return bundle


def launch_command(
    line: CommandLine,
    request: StartRequest,
    cgroup: str,
    process: dict[str, Any],
    stdio: Stdio | None,
    report: socket.socket,
    pid_file: str,
) -> NoReturn:
    """Execute one more process in a container; never returns."""

    def work() -> None:
        if open_user_namespace({"linux": request.linux}) >= 0:
            ns.unshare(ns.CLONE_NEWNS)
            make_reachable(Places(line.roots, request.container_id))
        spec = f"{pid_file}.json"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with open(os.open(spec, flags, 0o600), "w", encoding="utf-8") as stream:
                json.dump({**process, "terminal": stdio is None}, stream)
            words = ["exec", "--detach", "--process", spec]
            if cgroup:
                words += ["--cgroup", _part_of_cgroup(cgroup)]
            unnamed = _call_for_process(
                line, pid_file, words, [request.container_id], stdio, report
            )
        finally:
            _remove(spec)
        os.rename(unnamed, pid_file)

    _run(line, report, work)


def _part_of_cgroup(directory: str) -> str:
    """Return how runc names a cgroup below the container's own."""
    name = os.path.basename(directory)
    return f"freezer:{name}" if os.path.exists(f"{directory}/freezer.state") else name


def become_program(line: CommandLine, log: str, words: list[str], stdio: Stdio | None) -> NoReturn:
    """Execute the runtime's program in place of this process; for a fresh fork.

    Without ``stdio`` its standard error goes to the log.
    """
    try:
        errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        sources = (null, null, errors)
        if stdio is not None:
            sources = (stdio.stdin, stdio.stdout, stdio.stderr)
        # The first three of the shim are always open, so no source is one of the targets.
        for target, source in enumerate(sources):
            os.dup2(source, target, inheritable=True)
        processes.close_on_exec_from(3)
        try:
            os.execve(line.path, line.words(log, *words), _ENVIRONMENT)
        except OSError as error:
            os.write(errors, f"{line.path}: {error.strerror}\n".encode())
    finally:
        os._exit(_FAILED)


def read_and_remove(log: str) -> str:
    """Return what a program wrote to its log."""
    try:
        with open(log, encoding="utf-8", errors="replace") as stream:
            return stream.read(_MAX_LOG)
    except FileNotFoundError:
        return ""
    finally:
        _remove(log)


def _call_for_process(
    line: CommandLine,
    pid_file: str,
    words: list[str],
    last: list[str],
    stdio: Stdio | None,
    report: socket.socket,
) -> str:
    """Call an operation that leaves a process; returns the file with its process id."""
    log, unnamed = f"{pid_file}.log", f"{pid_file}.new"
    options = ["--pid-file", unnamed]
    console = None
    # Relative: the address of a socket holds 107 bytes (unix(7)). `create` goes to the bundle, in
    # which the file of its process id is; `exec` stays where it is.
    directory, _, name = pid_file.rpartition("/")
    os.chdir(directory)
    name += ".sock"
    try:
        if stdio is None:
            console = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            console.bind(name)
            console.listen(1)
            options += ["--console-socket", name]
        _call(line, log, [*words, *options, *last], stdio)
        if console is not None:
            _pass_on_terminal(console, report)
    finally:
        if console is not None:
            console.close()
            os.unlink(name)
    return unnamed


def _call(line: CommandLine, log: str, words: list[str], stdio: Stdio | None = None) -> None:
    """Run an operation and wait for its end.

    Raises:
        RuntimeError: it failed.
    """
    child = os.fork()
    if not child:
        processes.set_parent_death_signal(signal.SIGKILL)
        become_program(line, log, words, stdio)
    _, status = os.waitpid(child, 0)
    said = read_and_remove(log)
    if code := os.waitstatus_to_exitcode(status):
        raise RuntimeError(line.failure(words[0], code, said))


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _pass_on_terminal(console: socket.socket, report: socket.socket) -> None:
    console.settimeout(_CONSOLE_SECONDS)
    connection, _ = console.accept()
    with connection:
        connection.settimeout(_CONSOLE_SECONDS)
        _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
    if not descriptors:
        raise RuntimeError("the runtime sent no terminal to its console socket")
    socket.send_fds(report, [b'{"terminal":true}'], descriptors)


def _run(line: CommandLine, report: socket.socket, work: Callable[[], None]) -> NoReturn:
    try:
        leave_parent()
        # A shim that dies takes the half-made along.
        processes.set_parent_death_signal(signal.SIGKILL)
        processes.close_on_exec_from(3)
        work()
        os._exit(0)
    except BaseException as error:
        message = {
            "step": f"runtime handler {line.name!r}",
            "errno": None,
            "message": str(error),
        }
        try:
            report.send(json.dumps(message).encode())
        except OSError:
            # Nobody listens any more.
            pass
    os._exit(_FAILED)
