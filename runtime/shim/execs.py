"""Commands in a running container: one whose output is kept (ExecSync), one that is streamed."""

from __future__ import annotations

import os
import signal

from runtime.oci.child import Stdio
from runtime.oci.null_device import open_null
from runtime.shim.exec_cgroups import kill_tree
from runtime.shim.forking import LaunchError, Report
from runtime.shim.loop import exit_code
from runtime.shim.messages import OUTPUT_LIMIT, ExecResult
from runtime.shim.streams import Capture, Reader

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from runtime.shim.containers import Container
    from runtime.shim.forking import PidNamespace
    from runtime.shim.loop import Loop, Timer


class Command:
    """One more process in a running container.

    Args:
        loop: the shim's event loop.
        container: where it runs.
        process: the OCI ``process`` to run.

    Attributes:
        pid: its process id; 0 until it is known.
        unwanted: it is to be killed as soon as its process id is known.
        cgroup: directory of a cgroup that nothing else runs in; "" if it has none.
    """

    def __init__(self, loop: Loop, container: Container, process: dict[str, Any]) -> None:
        self._loop = loop
        self.container = container
        self._process = process
        self.pid = 0
        self.unwanted = False
        self.cgroup = ""
        self._killed = False
        self._error: LaunchError | None = None
        self._report: Report | None = None

    def kill(self) -> None:
        """Kill it and all that it started; it is reaped after that."""
        if not self.pid:
            self.unwanted = True
            return
        self._killed = True
        kill_tree(self.cgroup)
        # Where it has no cgroup of its own, or did not come to join it: the child leads its own
        # session, and so its own process group, once it has called setsid.
        for send in (os.killpg, os.kill):
            try:
                send(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def reaped(self, status: int) -> None:
        """Take note of its end."""
        raise NotImplementedError

    def _fork(
        self,
        namespaces: PidNamespace,
        stdio: Stdio | None,
        on_terminal: Callable[[int], None] | None = None,
    ) -> None:
        """Fork it with ``stdio``, which is closed here, or with a terminal that it makes.

        Raises:
            OSError: it did not come to a fork, for instance because the container has ended.
        """
        report = self._report = Report(self._loop, self._launched, on_terminal)
        try:
            self.container.launch(self, self._process, stdio, report, namespaces)
        except OSError:
            report.close()
            # A launcher that did not answer may have forked it all the same.
            kill_tree(self.cgroup)
            self.container.exec_cgroups.give_back(self.cgroup, killed=True)
            raise
        finally:
            report.child.close()
            for fd in (stdio.stdin, stdio.stdout, stdio.stderr) if stdio is not None else ():
                os.close(fd)

    def _launched(self, error: LaunchError | None) -> None:
        self._error = error

    def _finish_report(self) -> None:
        assert self._report is not None
        self._report.conclude()
        self.container.exec_cgroups.give_back(self.cgroup, self._killed)


class Exec(Command):
    """A command whose output is kept until it ends.

    Args:
        loop: the shim's event loop.
        container: where it runs.
        process: the OCI ``process`` to run.
        timeout: seconds until it and its children are killed; None: never.
        on_done: called once.
    """

    def __init__(
        self,
        loop: Loop,
        container: Container,
        process: dict[str, Any],
        timeout: float | None,
        on_done: Callable[[ExecResult | LaunchError], None],
    ) -> None:
        super().__init__(loop, container, process)
        self._timeout = timeout
        self._on_done = on_done
        self._timer: Timer | None = None
        self._timed_out = False
        self._captures = (Capture(OUTPUT_LIMIT), Capture(OUTPUT_LIMIT))
        self._readers: list[Reader] = []

    def start(self, namespaces: PidNamespace) -> None:
        """Fork it.

        Raises:
            OSError: it did not come to a fork, for instance because the container has ended.
        """
        try:
            self._fork(namespaces, self._open_stdio())
        except OSError:
            self._close()
            raise
        if self._timeout is not None:
            self._timer = self._loop.call_after(self._timeout, self._time_is_up)

    def reaped(self, status: int) -> None:
        """Take note of its end."""
        self._finish_report()
        # Children that it left behind may hold the pipes open for ever; what the command itself
        # wrote is in them by now.
        for reader in self._readers:
            reader.drain()
        self._close()
        if self._error is not None:
            self._on_done(self._error)
            return
        stdout, stderr = (capture.bytes() for capture in self._captures)
        self._on_done(ExecResult(stdout, stderr, exit_code(status), self._timed_out))

    def _open_stdio(self) -> Stdio:
        ends = []
        for capture in self._captures:
            reading, writing = os.pipe()
            self._readers.append(Reader(self._loop, reading, capture.add))
            ends.append(writing)
        return Stdio(open_null(os.O_RDONLY), *ends)

    def _time_is_up(self) -> None:
        self._timed_out = True
        self.kill()

    def _close(self) -> None:
        for reader in self._readers:
            reader.close()
        if self._timer is not None:
            self._timer.cancel()


class StreamedExec(Command):
    """A command whose streams are the client's own: the shim hands over its ends and forgets them.

    What it writes passes through no buffer of the shim, and waits for the client in the kernel's.

    Args:
        loop: the shim's event loop.
        container: where it runs.
        process: the OCI ``process`` to run; ``terminal`` gives it a terminal.
        streams: which of ``stdin``, ``stdout`` and ``stderr`` to hand over.
        on_started: called once it was executed, with the descriptors by name; they are closed
            after the call.
        on_done: called once, with its exit code, or with why it was not executed.
    """

    def __init__(
        self,
        loop: Loop,
        container: Container,
        process: dict[str, Any],
        streams: frozenset[str],
        on_started: Callable[[dict[str, int]], None],
        on_done: Callable[[int | LaunchError], None],
    ) -> None:
        super().__init__(loop, container, process)
        self._streams = streams
        self._on_started = on_started
        self._on_done = on_done
        self._descriptors: dict[str, int] = {}

    def start(self, namespaces: PidNamespace) -> None:
        """Fork it.

        Raises:
            OSError: it did not come to a fork, for instance because the container has ended.
        """
        stdio = None if self._process.get("terminal") else self._open_stdio()
        try:
            self._fork(namespaces, stdio, self._take_terminal)
        except OSError:
            self._close()
            raise

    def reaped(self, status: int) -> None:
        """Take note of its end."""
        self._finish_report()
        self._close()
        self._on_done(exit_code(status) if self._error is None else self._error)

    def _launched(self, error: LaunchError | None) -> None:
        super()._launched(error)
        if error is None:
            self._on_started(self._descriptors)
        self._close()

    def _take_terminal(self, master: int) -> None:
        self._descriptors["terminal"] = master

    def _open_stdio(self) -> Stdio:
        ends = []
        for name in ("stdin", "stdout", "stderr"):
            if name not in self._streams:
                ends.append(open_null(os.O_RDWR))
                continue
            reading, writing = os.pipe()
            mine, its = (writing, reading) if name == "stdin" else (reading, writing)
            self._descriptors[name] = mine
            ends.append(its)
        return Stdio(*ends)

    def _close(self) -> None:
        for fd in self._descriptors.values():
            os.close(fd)
        self._descriptors.clear()
