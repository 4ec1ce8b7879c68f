"""A container in its shim: started once, read from, reaped, told about.

States::

    (start) -> starting -> running -> exited
                   |
                   +-----> failed     (never executed; nothing is kept of it)
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time

from kubeletpy_common.atomic import write_atomic
from runtime.oci.child import ExecLaunch, Launch, Stdio, run_container, run_exec, split_cgroups
from runtime.oci.null_device import open_null
from runtime.shim.exec_cgroups import ExecCgroups
from runtime.shim.forking import LaunchError, PidNamespace, Report, fork
from runtime.shim.logs import LogFile
from runtime.shim.loop import Loop, exit_code
from runtime.shim.messages import (
    ContainerReport,
    ExitRecord,
    Started,
    StartRequest,
    to_message,
)
from runtime.shim.streams import Reader, log_reader

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from runtime.shim.execs import Command
    from runtime.shim.launcher import Launcher
    from runtime.shim.messages import StrPath
    from runtime.shim.streams import Sink

EXIT_FILE = "exit.json"
# Seconds between tries to write what a full disk has refused.
_RETRY_SECONDS = 1.0


class Container:
    """One container of the pod.

    Args:
        loop: the shim's event loop.
        request: what to start.
        on_started: called once, with what runs or why nothing does.
        on_exit: called once, after the record of the exit is on disk.
        children: who hears of the end of which child of the shim, by its pid.

    Attributes:
        config: the part of its OCI configuration that further processes share.
        exec_cgroups: where further processes run.
        launcher: what forks them, if it can; set by who has one.
        on_notice: told in words of what an administrator should know; set by who wants to hear.
        pod_oom_kills: how many processes the OOM killer had taken in the pod at the last look; one
            shim has one pod. 0 where the containers' cgroups are not systemd's.
        stdin: the writing end of its standard input; -1 if that is closed or a terminal.
        terminal: the master of its terminal; -1 without one.
    """

    pod_oom_kills = 0

    def __init__(
        self,
        loop: Loop,
        request: StartRequest,
        on_started: Callable[[Started | LaunchError], None],
        on_exit: Callable[[ExitRecord], None],
        children: dict[int, Any],
    ) -> None:
        self._loop = loop
        self.request = request
        self._on_started = on_started
        self._on_exit = on_exit
        self._children = children
        self.config: dict[str, Any] = {"linux": request.linux}
        self.pid = 0
        self.started_at_ns = 0
        self.exit: ExitRecord | None = None
        self.log: LogFile | None = None
        self._readers: list[Reader] = []
        self._taps: dict[str, list[Sink]] = {"stdout": [], "stderr": []}
        self.stdin = -1
        self.terminal = -1
        self._report: Report | None = None
        self.exec_cgroups = ExecCgroups(request.cgroup_procs)
        self._cgroups: tuple[str | None, tuple[str, ...]] | None = None
        self.launcher: Launcher | None = None
        self.on_notice: Callable[[str], None] = _no_notice
        self._exit_unwritten = False
        self._closed = False

    @property
    def running(self) -> bool:
        """Its first process was executed and has not been reaped."""
        return self.started_at_ns != 0 and self.exit is None

    def start(self, namespaces: PidNamespace, timeout: float) -> None:
        """Fork its first process; ``on_started`` tells how it went.

        Raises:
            OSError, ValueError: it did not come to a fork; nothing is left of it.
        """
        request = self.request
        if request.oom_file is not None:
            Container.pod_oom_kills = _pod_oom_kills(request.oom_file)
        self.log = LogFile(request.log_path, self._log_trouble)
        report = self._report = Report(self._loop, self._launched, self._take_terminal)
        stdio = None if request.terminal else self._open_stdio()
        unified, cgroup_files = split_cgroups(request.cgroup_procs)
        launch = Launch(request.bundle, request.rootfs, cgroup_files, stdio, report.child)

        def child() -> NoReturn:
            run_container(launch)

        try:
            with namespaces.of_container(self.config):
                self.pid = fork(child, unified)
        finally:
            report.child.close()
            if stdio is not None:
                for fd in (stdio.stdin, stdio.stdout, stdio.stderr):
                    os.close(fd)
        self._children[self.pid] = self
        self._loop.call_after(timeout, lambda: self._give_up(timeout))

    def launch(
        self,
        command: Command,
        process: dict[str, Any],
        stdio: Stdio | None,
        report: Report,
        namespaces: PidNamespace,
    ) -> None:
        """Fork one more process in it, which ``command`` gets to know the pid and the end of.

        Args:
            command: whose process it is.
            process: the OCI ``process`` to run.
            stdio: its standard streams; None for a terminal.
            report: where it tells of its failure.
            namespaces: of this process's children.

        Raises:
            OSError: it did not come to a fork, for instance because the container has ended.
        """
        pidfd = os.pidfd_open(self.pid)
        try:
            if self._cgroups is None:
                self._cgroups = split_cgroups(self.request.cgroup_procs)
            command.cgroup = self.exec_cgroups.take()
            unified, cgroup_files = self.exec_cgroups.replaced(*self._cgroups, command.cgroup)
            launch = ExecLaunch(
                self.config, self.request.bundle, process, pidfd, cgroup_files, stdio, report.child
            )
            pid = self.launcher.launch(launch, report, unified) if self.launcher else None
            if pid is None:

                def child() -> NoReturn:
                    run_exec(launch)

                with namespaces.of_process(pidfd):
                    pid = fork(child, unified)
            command.pid = pid
        finally:
            os.close(pidfd)
        self._children[command.pid] = command

    def signal(self, number: int) -> None:
        """Send a signal to its first process.

        Safe from reuse of the pid: this process is its parent and has not reaped it.
        """
        if self.pid and self.exit is None:
            os.kill(self.pid, number)

    def reaped(self, status: int) -> None:
        """Take note of the end of its first process."""
        if self._report is not None:
            self._report.conclude()
        if not self.started_at_ns:
            self._close()
            return
        # First of all: where cgroups are systemd's, this one is removed once nobody is in it.
        oom_killed = self._oom_killed()
        for reader in self._readers:
            reader.drain()
        for taps in self._taps.values():
            for tap in list(taps):
                tap.finish()
        self._close_inputs()
        code = exit_code(status)
        record = ExitRecord(self.request.container_id, code, time.time_ns(), oom_killed)
        self.exit = record
        self._write_exit(record)
        self._on_exit(record)

    def _write_exit(self, record: ExitRecord) -> None:
        """Put the record of the exit on disk, and try again until that has room for it."""
        path = os.path.join(self.request.bundle, EXIT_FILE)
        try:
            write_atomic(path, json.dumps(to_message(record)))
        except OSError as error:
            if self._closed:
                return
            if not self._exit_unwritten:
                self.on_notice(f"exit record {path} cannot be written: {error}; trying again")
            self._exit_unwritten = True
            self._loop.call_after(_RETRY_SECONDS, lambda: self._write_exit(record))

    def _log_trouble(self, text: str) -> None:
        self.on_notice(text)
        if self.log is not None and self.log.lost:
            self._loop.call_after(_RETRY_SECONDS, self._tell_lost)

    def _tell_lost(self) -> None:
        # The container may be silent from now on, and its log must not look complete.
        if self.log is not None and not self.log.tell_lost():
            self._loop.call_after(_RETRY_SECONDS, self._tell_lost)

    def report(self) -> ContainerReport:
        """Say what is known of it."""
        return ContainerReport(self.request.container_id, self.pid, self.started_at_ns, self.exit)

    def add_tap(self, stream: str, tap: Sink) -> None:
        """Copy ``stdout`` or ``stderr`` to ``tap`` from now on."""
        self._taps[stream].append(tap)

    def remove_tap(self, stream: str, tap: Sink) -> None:
        """Stop copying; harmless when it has ended."""
        if tap in self._taps[stream]:
            self._taps[stream].remove(tap)

    def close_stdin(self) -> None:
        """Let its standard input end, once nobody else holds it open."""
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def close(self) -> None:
        """Let go of its streams and log."""
        self._close()

    def update(self, resources: dict[str, Any], on_done: Callable[[str], None]) -> None:
        """Take note of other limits, which its cgroup has already; ``on_done`` gets an error."""
        on_done("")

    def forget(self, on_done: Callable[[], None]) -> None:
        """Let go of it, ended as it is; ``on_done`` is called once nothing of it is left."""
        self._close()
        on_done()

    def wait(self) -> None:
        """Wait for its end, as the last that this process does."""
        if self.exit is None:
            os.waitpid(self.pid, 0)

    def _open_stdio(self) -> Stdio:
        if self.request.stdin:
            stdin, self.stdin = os.pipe()
            os.set_blocking(self.stdin, False)
        else:
            stdin = open_null(os.O_RDONLY)
        ends = []
        for stream in ("stdout", "stderr"):
            reading, writing = os.pipe()
            self._read(reading, stream)
            ends.append(writing)
        return Stdio(stdin, *ends)

    def _take_terminal(self, master: int) -> None:
        self._read(master, "stdout")
        # The reader closes its descriptor at the end of output, which attached clients must not
        # notice as another file under the same number.
        self.terminal = fcntl.fcntl(master, fcntl.F_DUPFD_CLOEXEC, 3)

    def _read(self, fd: int, stream: str) -> None:
        assert self.log is not None
        self._readers.append(log_reader(self._loop, fd, stream, self.log, self._taps[stream]))

    def _launched(self, error: LaunchError | None) -> None:
        if error is None:
            self.started_at_ns = time.time_ns()
            self._on_started(Started(self.pid, self.started_at_ns))
        else:
            self._on_started(error)

    def _give_up(self, timeout: float) -> None:
        if self._report is not None and not self._report.done:
            self.signal(signal.SIGKILL)
            text = f"the container's process was not executed within {timeout:g} s"
            self._report.fail(LaunchError("timeout", text))

    def _close_inputs(self) -> None:
        self.close_stdin()
        if self.terminal >= 0:
            os.close(self.terminal)
            self.terminal = -1

    def _oom_killed(self) -> bool:
        path = self.request.oom_file
        if path is None:
            return False
        before = Container.pod_oom_kills
        after = Container.pod_oom_kills = _pod_oom_kills(path)
        own = _oom_kills(path)
        # systemd removes a scope as soon as it is empty, maybe before this. The pod's count, which
        # has those of its containers in it, then tells: it has grown since the last look.
        return after > before if own is None else own > 0

    def _close(self) -> None:
        self._closed = True
        if self._report is not None:
            self._report.close()
        for reader in self._readers:
            reader.close()
        self._close_inputs()
        if self.log is not None:
            self.log.close()


def _no_notice(text: str) -> None:
    """Nobody listens."""


def _pod_oom_kills(path: StrPath) -> int:
    directory, name = os.path.split(os.fspath(path))
    if not directory.endswith(".scope"):
        return 0
    return _oom_kills(os.path.join(os.path.dirname(directory), name)) or 0


def _oom_kills(path: StrPath) -> int | None:
    """Return how many processes the OOM killer took; None if the file is gone."""
    try:
        # memory.oom_control (v1) and memory.events (v2) are both lines of "key value".
        with open(path) as stream:
            lines = stream.readlines()
    except OSError:
        return None
    counts = dict(line.split(maxsplit=1) for line in lines)
    return int(counts.get("oom_kill", "0"))
