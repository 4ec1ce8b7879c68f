"""A container whose first process is started by an external OCI runtime."""

from __future__ import annotations

import json
import os
import signal

from runtime.oci.child import leave_parent
from runtime.shim.containers import Container
from runtime.shim.exec_cgroups import ExecCgroups
from runtime.shim.external.command_line import NO_REASON, CommandLine
from runtime.shim.external.launch import (
    become_program,
    launch_command,
    launch_container,
    read_and_remove,
)
from runtime.shim.external.root import Places
from runtime.shim.forking import LaunchError, Report, fork
from runtime.shim.logs import LogFile

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, NoReturn

    from runtime.oci.child import Stdio
    from runtime.shim.execs import Command
    from runtime.shim.external.strays import Strays
    from runtime.shim.forking import PidNamespace
    from runtime.shim.loop import Loop
    from runtime.shim.messages import ExitRecord, Started, StartRequest

_CALL_SECONDS: Final = 10.0
"""That the runtime's program may take for an operation that starts nothing."""


class ExternalContainer(Container):
    """One container of a pod of an external runtime.

    Args:
        loop: the shim's event loop.
        request: what to start, and by which runtime.
        on_started: called once, with what runs or why nothing does.
        on_exit: called once, after the record of the exit is on disk.
        children: who hears of the end of which child of the shim, by its pid.
        strays: keeps children that end before their pid is known.
    """

    def __init__(
        self,
        loop: Loop,
        request: StartRequest,
        on_started: Callable[[Started | LaunchError], None],
        on_exit: Callable[[ExitRecord], None],
        children: dict[int, Any],
        strays: Strays,
    ) -> None:
        super().__init__(loop, request, on_started, on_exit, children)
        assert request.runtime is not None
        self.line = CommandLine(**request.runtime)
        self.exec_cgroups = ExecCgroups(_exec_parents(self.line, request))
        self._strays = strays
        self._launcher: _Launcher | None = None
        # What the runtime's program itself writes to the container's streams is no log of it, so
        # they are read once it has started, and dropped if it has not.
        self._unread: list[tuple[int, str]] = []
        self._numbers = 0
        self._deletion = 0
        self._on_deleted: list[Callable[[], None]] = []

    def start(self, namespaces: PidNamespace, timeout: float) -> None:
        """Have the runtime create and start it; ``on_started`` tells how it went.

        Raises:
            OSError, ValueError: it did not come to that; nothing is left of it.
        """
        request, line = self.request, self.line
        self.log = LogFile(request.log_path)
        report = self._report = Report(self._loop, self._created, self._take_terminal)
        stdio = None if request.terminal else self._open_stdio()
        pid_file = f"{request.bundle}/{line.name}/init.pid"

        def child() -> NoReturn:
            launch_container(line, request, stdio, report.child, pid_file)

        try:
            self._launcher = _Launcher(self._strays, self, report, pid_file, _nothing)
            self._launcher.pid = fork(child)
            self._children[self._launcher.pid] = self._launcher
        finally:
            report.child.close()
            if stdio is not None:
                for fd in (stdio.stdin, stdio.stdout, stdio.stderr):
                    os.close(fd)
        self._loop.call_after(timeout, lambda: self._give_up(timeout))

    def launch(
        self,
        command: Command,
        process: dict[str, Any],
        stdio: Stdio | None,
        report: Report,
        namespaces: PidNamespace,
    ) -> None:
        """Have the runtime execute one more process in it; as :meth:`Container.launch`."""
        self._numbers += 1
        pid_file = f"{self.request.bundle}/exec-{self._numbers}.pid"
        line, request = self.line, self.request

        cgroup = command.cgroup = self.exec_cgroups.take()

        def child() -> NoReturn:
            launch_command(line, request, cgroup, process, stdio, report.child, pid_file)

        def settled() -> None:
            if not command.pid:
                command.reaped(0)
            elif command.unwanted:
                command.kill()

        launcher = _Launcher(self._strays, command, report, pid_file, settled)
        launcher.pid = fork(child)
        self._children[launcher.pid] = launcher

    def signal(self, number: int) -> None:
        """Send a signal to its first process: by the runtime, but for SIGKILL."""
        if not self.pid:
            if self._launcher is not None and number == signal.SIGKILL:
                self._launcher.kill()
        elif number == signal.SIGKILL:
            super().signal(number)
        elif self.exit is None:

            def sent(error: str) -> None:
                if error:
                    # It is our child, and has not been reaped: the pid is its own.
                    super(ExternalContainer, self).signal(number)

            self._call(["kill", self.request.container_id, str(number)], sent)

    def reaped(self, status: int) -> None:
        """Take note of the end of its first process."""
        super().reaped(status)
        self._delete()

    def update(self, resources: dict[str, Any], on_done: Callable[[str], None]) -> None:
        """Tell the runtime of other limits; ``on_done`` gets what it says against it, or ""."""
        self._numbers += 1
        path = f"{self.request.bundle}/update-{self._numbers}.json"
        with open(path, "w", encoding="utf-8") as stream:
            json.dump(resources, stream)

        def done(error: str) -> None:
            os.unlink(path)
            on_done(error)

        words = ["update", "--resources", path, self.request.container_id]
        self._call(words, done)

    def forget(self, on_done: Callable[[], None]) -> None:
        """Let go of it; ``on_done`` is called once the runtime has, too."""
        self._close()
        if self._deletion:
            self._on_deleted.append(on_done)
        else:
            on_done()

    def wait(self) -> None:
        """Wait for its end and have the runtime forget it, as the last that this process does."""
        try:
            if self.pid and self.exit is None:
                os.waitpid(self.pid, 0)
                self._delete()
            if self._deletion:
                os.waitpid(self._deletion, 0)
        except ChildProcessError:
            # It was reaped before anybody knew whose it was.
            pass

    def _read(self, fd: int, stream: str) -> None:
        if self.started_at_ns:
            super()._read(fd, stream)
        else:
            self._unread.append((fd, stream))

    def _created(self, error: LaunchError | None) -> None:
        if error is None:
            self._launched(None)
            for fd, stream in self._unread:
                self._read(fd, stream)
            self._unread.clear()
            return
        failure = self._with_output(error)

        def deleted() -> None:
            self._launched(failure)
            self._close()

        self._on_deleted.append(deleted)
        self._delete()

    def _with_output(self, error: LaunchError) -> LaunchError:
        """Add what the runtime's program wrote, if that is all it said; close its streams."""
        said = ""
        for fd, stream in self._unread:
            os.set_blocking(fd, False)
            try:
                if stream == "stderr":
                    said = os.read(fd, 2000).decode("utf-8", "replace").strip()
            except OSError:
                # Nothing is there, or it is a terminal without a process.
                pass
            os.close(fd)
        self._unread.clear()
        if said and str(error).endswith(NO_REASON):
            return LaunchError(error.code, str(error).removesuffix(NO_REASON) + said)
        return error

    def _give_up(self, timeout: float) -> None:
        if self._report is not None and not self._report.done and self._launcher is not None:
            self._launcher.kill()
            text = f"runtime handler {self.line.name!r}: not started within {timeout:g} s"
            self._report.fail(LaunchError("timeout", text))

    def _delete(self) -> None:
        """Have the runtime forget the container, and remove the mount point of its root."""

        def deleted(error: str) -> None:
            self._deletion = 0
            if error:
                # What is left is in the pod's directory, and goes with that.
                os.write(2, f"{self.request.container_id}: {error}\n".encode())
            Places(self.line.roots, self.request.container_id).remove()
            callbacks, self._on_deleted = self._on_deleted, []
            for callback in callbacks:
                callback()

        words = ["delete", "--force", self.request.container_id]
        self._deletion = self._call(words, deleted)

    def _call(self, words: list[str], on_done: Callable[[str], None]) -> int:
        """Run an operation that starts nothing; ``on_done`` gets its error, or "".

        Returns:
            the process id of the program.
        """
        self._numbers += 1
        log = f"{self.request.bundle}/{words[0]}-{self._numbers}.log"
        line = self.line

        def child() -> NoReturn:
            leave_parent()
            become_program(line, log, words, None)

        pid = fork(child)
        self._children[pid] = _Call(line, words[0], log, on_done)
        self._loop.call_after(_CALL_SECONDS, lambda: _kill_group(self._children, pid))
        return pid


class _Launcher:
    """A fork of the shim that calls the runtime's program and waits for it.

    Args:
        strays: keeps children that end before their pid is known.
        owner: of the process that it leaves, told of its pid and its end.
        report: where it tells of its failure.
        pid_file: where it names the process that it leaves.
        on_settled: called once it has ended and the report is complete.
    """

    def __init__(
        self,
        strays: Strays,
        owner: ExternalContainer | Command,
        report: Report,
        pid_file: str,
        on_settled: Callable[[], None],
    ) -> None:
        self.pid = 0
        self._strays = strays
        self._owner = owner
        self._report = report
        self._pid_file = pid_file
        self._on_settled = on_settled
        # The end of the channel means success. It is to come here, when the pid is known.
        self._held = report.child.dup()
        strays.expect()

    def kill(self) -> None:
        """End it, with the runtime's program."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            # It has not come to its own session yet.
            os.kill(self.pid, signal.SIGKILL)

    def reaped(self, status: int) -> None:
        """Take over what it started."""
        report = self._report
        report.read()
        if not report.done:
            try:
                with open(self._pid_file, "rb") as stream:
                    self._owner.pid = int(stream.read())
                os.unlink(self._pid_file)
            except (OSError, ValueError) as error:
                text = f"the runtime was not called to the end (wait status {status}): {error}"
                report.fail(LaunchError("setup", text))
        self._held.close()
        report.read()
        if self._owner.pid:
            self._strays.adopt(self._owner.pid, self._owner)
        self._strays.settle()
        self._on_settled()


class _Call:
    """A run of the runtime's program that starts nothing."""

    def __init__(
        self, line: CommandLine, operation: str, log: str, on_done: Callable[[str], None]
    ) -> None:
        self._line = line
        self._operation = operation
        self._log = log
        self._on_done = on_done

    def reaped(self, status: int) -> None:
        """Tell how it went."""
        said = read_and_remove(self._log)
        code = os.waitstatus_to_exitcode(status)
        self._on_done(self._line.failure(self._operation, code, said) if code else "")


def _exec_parents(line: CommandLine, request: StartRequest) -> list[str]:
    """Return the cgroups in which a command can have one of its own, if the runtime can do that.

    Of hybrid cgroups the runtime lets one name those of version 1 only.
    """
    if not line.exec_cgroups:
        return []
    files = [os.fspath(path) for path in request.cgroup_procs]
    first = [path for path in files if os.path.exists(f"{os.path.dirname(path)}/tasks")]
    return first or files


def _nothing() -> None:
    pass


def _kill_group(children: dict[int, Any], pid: int) -> None:
    if isinstance(children.get(pid), _Call):
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
