"""A daemon as a child process: started, watched until it serves, stopped in time."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from kubeletpy.up.errors import UpError
from kubeletpy.up.leftovers import write_pidfile
from kubeletpy_common.readiness import READY, VARIABLE

_POLL_SECONDS = 0.02
_KILL_SECONDS = 5.0
_TAIL_LINES = 12


class Daemon:
    """One child process.

    It is in a session of its own, so that Ctrl-C in the terminal reaches only us and the order of
    stopping is ours. Its pid file lets the next start end it, should we be killed; with
    ``ends_with_us`` the kernel sends it SIGTERM right then (``setpriv --pdeathsig``).

    With ``tells_ready`` it says itself that it serves, by the protocol of sd_notify(3).

    Attributes:
        name: for messages, and for the names of its log and pid file.
        log: the file that gets its output.
        tells_ready: whether it says itself that it serves.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        pidfile: Path,
        ends_with_us: bool = False,
        tells_ready: bool = False,
    ) -> None:
        self._listener: socket.socket | None = None
        self.tells_ready = tells_ready
        self._guard = ("setpriv", "--pdeathsig", "TERM", "--") if ends_with_us else ()
        self.name = name
        self.log = log
        self._command = list(command)
        self._pidfile = pidfile
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process.

        Raises:
            UpError: it cannot be started.
        """
        environment = self._listen() if self.tells_ready else None
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._guard,
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
                env=environment,
            )
        except OSError as error:
            raise UpError(f"cannot start the {self.name} ({self._command[0]}): {error}") from error
        finally:
            os.close(descriptor)
        write_pidfile(self._pidfile, self._process.pid)

    @property
    def pid(self) -> int:
        """The process id.

        Raises:
            RuntimeError: it was not started.
        """
        if self._process is None:
            raise RuntimeError(f"the {self.name} was not started")
        return self._process.pid

    @property
    def started(self) -> bool:
        """Whether the process was started, whatever became of it."""
        return self._process is not None

    @property
    def running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def wait(self) -> int:
        """Wait until the process ends; return its exit status, negative for a signal."""
        if self._process is None:
            raise RuntimeError(f"the {self.name} was not started")
        return await self._process.wait()

    async def until(self, serves: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
        """Ask ``serves`` again and again until it says yes.

        Raises:
            UpError: the process ended, or ``seconds`` passed, before that.
        """
        try:
            async with asyncio.timeout(seconds):
                while not await serves():
                    if not self.running:
                        raise UpError(self.obituary())
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError as error:
            raise UpError(
                f"the {self.name} did not {what} within {seconds:.0f} s; {self._log_tail()}"
            ) from error

    async def ready(self, seconds: float) -> None:
        """Wait until the process says that it serves.

        Raises:
            UpError: the process ended, or ``seconds`` passed, before that.
        """
        if self._listener is None:
            raise RuntimeError(f"the {self.name} was not started to tell that it is ready")
        told = asyncio.create_task(self._told())
        ended = asyncio.create_task(self.wait())
        try:
            await asyncio.wait({told, ended}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if told.done():
                return await told
            if ended.done():
                raise UpError(self.obituary())
            raise UpError(
                f"the {self.name} did not get ready within {seconds:.0f} s; {self._log_tail()}"
            )
        finally:
            for task in (told, ended):
                task.cancel()
            await asyncio.gather(told, ended, return_exceptions=True)
            self._listener.close()
            self._listener = None

    def _listen(self) -> dict[str, str]:
        """Return the environment of a process that is to tell us when it serves."""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._listener.setblocking(False)
        # Empty: the kernel gives a name in the abstract namespace (unix(7), "Autobind").
        self._listener.bind("")
        name = self._listener.getsockname()[1:].decode()
        return {**os.environ, VARIABLE: f"@{name}"}

    async def _told(self) -> None:
        assert self._listener is not None
        loop = asyncio.get_running_loop()
        while READY.encode() not in (await loop.sock_recv(self._listener, 4096)).split(b"\n"):
            pass

    def obituary(self) -> str:
        """Return a message about a process that ended before its time."""
        return f"{self.ending()}; {self._log_tail()}"

    def ending(self) -> str:
        """Say how a process ended that was to go on."""
        status = self._process.returncode if self._process else None
        how = f"exit status {status}"
        if status is not None and status < 0:
            how = f"signal {signal.Signals(-status).name}"
        return f"the {self.name} ended by itself ({how})"

    async def stop(self, seconds: float) -> bool:
        """End the process: SIGTERM, and SIGKILL to its session after ``seconds``.

        Returns:
            Whether SIGTERM was enough (or it was not running).
        """
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        process = self._process
        if process is None:
            return True
        gentle = True
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), seconds)
            except TimeoutError:
                gentle = False
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await asyncio.wait_for(process.wait(), _KILL_SECONDS)
        self._pidfile.unlink(missing_ok=True)
        return gentle

    def _log_tail(self) -> str:
        try:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                last = collections.deque(file, maxlen=_TAIL_LINES)
        except OSError as error:
            return f"its log cannot be read: {error}"
        lines = "".join(f"\n    {line.rstrip()}" for line in last)
        return f"the end of its log {self.log}:{lines or ' (empty)'}"
