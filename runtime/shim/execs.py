"""ExecSync in the shim: one more process in a running container, with its output kept."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from runtime.oci.child import ExecLaunch, Stdio, run_exec, split_cgroups
from runtime.shim.containers import Container
from runtime.shim.forking import LaunchError, PidNamespace, Report, fork
from runtime.shim.loop import Loop, Timer, exit_code
from runtime.shim.messages import OUTPUT_LIMIT, ExecResult
from runtime.shim.streams import Capture, Reader


class Exec:
    """One command in a container.

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
        self._loop = loop
        self.container = container
        self._process = process
        self._timeout = timeout
        self._on_done = on_done
        self.pid = 0
        self._timer: Timer | None = None
        self._timed_out = False
        self._error: LaunchError | None = None
        self._captures = (Capture(OUTPUT_LIMIT), Capture(OUTPUT_LIMIT))
        self._readers: list[Reader] = []
        self._report: Report | None = None

    def start(self, namespaces: PidNamespace) -> None:
        """Fork it.

        Raises:
            OSError: it did not come to a fork, for instance because the container has ended.
        """
        pidfd = os.pidfd_open(self.container.pid)
        report = self._report = Report(self._loop, self._launched)
        stdio = self._open_stdio()
        unified, cgroup_files = split_cgroups(self.container.request.cgroup_procs)
        launch = ExecLaunch(
            self.container.config,
            self._process,
            pidfd,
            cgroup_files,
            stdio,
            report.child,
        )

        def child() -> NoReturn:
            run_exec(launch)

        try:
            with namespaces.of_process(pidfd):
                self.pid = fork(child, unified)
        except OSError:
            self._close()
            raise
        finally:
            report.child.close()
            for fd in (stdio.stdin, stdio.stdout, stdio.stderr, pidfd):
                os.close(fd)
        if self._timeout is not None:
            self._timer = self._loop.call_after(self._timeout, self._time_is_up)

    def kill(self) -> None:
        """Kill it and what it started in its session; ``on_done`` follows."""
        # The child leads its own session, and so its own process group, once it has called setsid.
        for send in (os.killpg, os.kill):
            try:
                send(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def reaped(self, status: int) -> None:
        """Take note of its end."""
        assert self._report is not None
        if not self._report.done:
            self._report.read()
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
        return Stdio(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), *ends)

    def _launched(self, error: LaunchError | None) -> None:
        self._error = error

    def _time_is_up(self) -> None:
        self._timed_out = True
        self.kill()

    def _close(self) -> None:
        if self._report is not None:
            self._report.close()
        for reader in self._readers:
            reader.close()
        if self._timer is not None:
            self._timer.cancel()
