"""The shim's side of its launcher: the small process that commands in containers are forked from.

It is started by the pod's first command and lives as long as the shim. It is a process of the host,
in the shim's cgroups; what it forks is the shim's child and enters the container after that.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import struct

from runtime.oci.call_list import AGAIN_SIZE, RESULT_SIZE, TooLongError
from runtime.oci.child import give_streams
from runtime.oci.confinement import read_compiled_filter
from runtime.oci.exec_calls import OWN_PID_NAMESPACE, SOCKET, exec_calls

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from runtime.oci.child import ExecLaunch
    from runtime.shim.forking import Report

_NAME: Final = "kubeletpy-exec"
_ANSWER: Final = struct.Struct("<II")
# It only forks, and is in no cgroup of a container: longer than that something is wrong.
_ANSWER_SECONDS: Final = 10.0
# Above the numbers that descriptors have in the launcher.
_FIRST_FREE: Final = 16


class Launcher:
    """Starts it when it is first needed, and again when it has ended.

    Args:
        program: descriptor of what it executes (:mod:`runtime.shim.launcher_program`).
        children: who hears of the end of which child of the shim, by its pid.
    """

    def __init__(self, program: int, children: dict[int, Any]) -> None:
        self._program = program if program < 0 else _move_up(program)
        self._children = children
        self._socket: socket.socket | None = None
        self._pid = 0
        self._last: Any = None
        self._again = b""
        self._steps: dict[int, tuple[str, str]] = {}

    def launch(self, launch: ExecLaunch, report: Report, unified: str | None) -> int | None:
        """Have it fork a command; return its process id, None if this one is not for a launcher.

        Args:
            launch: the command, with standard streams.
            report: what hears of its failure.
            unified: directory of the version 2 cgroup that it is born in.

        Raises:
            OSError: it could not be forked, for instance because the cgroup is gone.
        """
        stdio = launch.stdio
        if self._program < 0 or stdio is None:
            return None
        key = (launch.bundle, launch.process, launch.cgroup_files, unified is not None)
        message = self._again if key == self._last else self._message(launch, unified)
        if not message:
            return None
        give_streams(stdio, launch.config, launch.process)
        descriptors = [report.child.fileno(), launch.init_pidfd]
        descriptors += [stdio.stdin, stdio.stdout, stdio.stderr]
        cgroup = -1
        if unified is not None:
            cgroup = os.open(unified, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            descriptors.append(cgroup)
        try:
            pid = self._ask(message, descriptors)
        finally:
            if cgroup >= 0:
                os.close(cgroup)
        if pid is not None:
            report.steps = self._steps
            self._last, self._again = key, message[:AGAIN_SIZE]
        return pid

    def reaped(self, status: int) -> None:
        """Take note of its end; the next command starts another one."""
        self._pid = 0
        self._disconnect()

    def close(self) -> None:
        """Have it end, and wait for that."""
        self._disconnect()
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def _message(self, launch: ExecLaunch, unified: str | None) -> bytes:
        # What cannot be said in system calls, and what is wrong, is left to the fork: it tells.
        self._last = None
        try:
            system_calls = read_compiled_filter(launch.config["linux"], launch.bundle)
            calls = exec_calls(
                launch.config["linux"],
                launch.process,
                launch.cgroup_files,
                unified is not None,
                system_calls,
            )
            message = calls.assemble()
        except (OSError, ValueError, KeyError, TypeError, struct.error, TooLongError):
            return b""
        self._steps = calls.steps
        return message

    def _ask(self, message: bytes, descriptors: list[int]) -> int | None:
        sock = self._socket or self._start()
        try:
            socket.send_fds(sock, [message], descriptors)
        except BrokenPipeError:
            # It has ended, and got nothing; its end is yet to be reaped.
            self._disconnect()
            return None
        try:
            answer = sock.recv(RESULT_SIZE)
        except ConnectionResetError:
            # So the kernel tells that it ended and left the message unread: nothing has begun.
            self._disconnect()
            return None
        except OSError:
            self._disconnect()
            raise
        if len(answer) != RESULT_SIZE:
            self._disconnect()
            raise OSError(errno.ECHILD, "the process that forks commands has ended; try again")
        number, address = _ANSWER.unpack(answer)
        if address:
            raise OSError(number, f"fork the command: {os.strerror(number)}")
        return int(number)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
        )
        ours.settimeout(_ANSWER_SECONDS)
        end = _move_up(theirs.detach())
        try:
            # posix_spawn(3) forks without a copy of the page tables.
            self._pid = os.posix_spawn(
                f"/proc/self/fd/{self._program}",
                [_NAME],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, end, SOCKET),
                    (os.POSIX_SPAWN_OPEN, OWN_PID_NAMESPACE, "/proc/self/ns/pid", os.O_RDONLY, 0),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
            )
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(end)
        self._children[self._pid] = self
        self._socket = ours
        return ours

    def _disconnect(self) -> None:
        # It ends when nobody holds the other end.
        self._last = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _move_up(descriptor: int) -> int:
    """Give a descriptor a number that none of the launcher's has."""
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
    os.close(descriptor)
    return copy
