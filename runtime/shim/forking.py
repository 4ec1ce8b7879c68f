"""Forking a child that becomes a container's process, and learning whether it did."""

from __future__ import annotations

import json
import os
import socket
import struct
from contextlib import contextmanager

from kubeletpy_common.linux import namespaces as ns
from kubeletpy_common.linux.processes import fork_into_cgroup
from runtime.shim.loop import READ

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Final, NoReturn

    from runtime.shim.loop import Loop

_REPORT_SIZE: Final = 16 << 10
_UNWOUND: Final = 125
# What the launcher's children send: an error and the address of the system call.
_FAILURE: Final = struct.Struct("<II")


class LaunchError(Exception):
    """A child could not become what it was forked for.

    Attributes:
        code: ``not-found`` and ``not-executable`` for the program itself, ``not-running`` if the
            container has ended, ``timeout``, ``setup`` for everything before execve.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class PidNamespace:
    """The PID namespace of this process's next children (pid_namespaces(7))."""

    def __init__(self) -> None:
        self._own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the descriptor of the own namespace."""
        os.close(self._own)

    @contextmanager
    def of_container(self, config: dict[str, Any]) -> Iterator[None]:
        """Have children start in the PID namespace that an OCI configuration asks for.

        Raises:
            OSError: the namespace is gone, or the kernel refused.
        """
        for namespace in config["linux"].get("namespaces", []):
            if namespace["type"] == "pid":
                break
        else:
            yield
            return
        if path := namespace.get("path"):
            ns.enter(path, ns.CLONE_NEWPID)
        else:
            ns.unshare(ns.CLONE_NEWPID)
        try:
            yield
        finally:
            # Only children are moved; this process itself never left its own (setns(2)).
            ns.setns(self._own, ns.CLONE_NEWPID)

    @contextmanager
    def of_process(self, pidfd: int) -> Iterator[None]:
        """Have children start in the PID namespace of a running process.

        Raises:
            OSError: the process has ended, or the kernel refused.
        """
        ns.setns(pidfd, ns.CLONE_NEWPID)
        try:
            yield
        finally:
            ns.setns(self._own, ns.CLONE_NEWPID)


def fork(child: Callable[[], NoReturn], cgroup: str | None = None) -> int:
    """Fork; the child runs ``child`` and nothing after it. Returns the child's pid.

    Args:
        child: what it becomes.
        cgroup: directory of the version 2 cgroup that it is born in; None: that of its parent.

    Raises:
        OSError: there are too many processes, or the cgroup is gone or full.
    """
    pid = os.fork() if cgroup is None else fork_into_cgroup(cgroup)
    if pid == 0:
        try:
            child()
        finally:
            # It must never unwind into its parent's code, whose clean-up would run twice.
            os._exit(_UNWOUND)
    return pid


class Report:
    """The parent's end of the channel on which a child tells of its failure.

    The other end closes by execve, so its end without a message means success.

    Args:
        loop: the shim's event loop.
        on_done: called once: with None on success, else with what failed.
        on_terminal: called with the master of a terminal that the child made.

    Attributes:
        steps: what a child of the launcher was doing, by the address of the system call; None: the
            child says it itself.
    """

    def __init__(
        self,
        loop: Loop,
        on_done: Callable[[LaunchError | None], None],
        on_terminal: Callable[[int], None] | None = None,
    ) -> None:
        self._loop = loop
        self._on_done = on_done
        self._on_terminal = on_terminal
        self._parent, self.child = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
        )
        self._parent.setblocking(False)
        self._done = False
        self.steps: dict[int, tuple[str, str]] | None = None
        loop.watch(self._parent.fileno(), READ, self.read)

    def read(self) -> None:
        """Take what the child said so far."""
        while not self._done:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._parent, _REPORT_SIZE, 1)
            except BlockingIOError:
                return
            if not data:
                self._finish(None)
            elif descriptors:
                if self._on_terminal is not None:
                    self._on_terminal(descriptors[0])
            else:
                self._finish(_launch_error(self._decode(data)))

    def conclude(self) -> None:
        """Take the child's last word: it has ended, and what it has not said it never will.

        The channel's end may still be to come: the launcher closes its copy of the child's end
        after it told of the fork, and the child may have run and ended before that.
        """
        self.read()
        if not self._done:
            self._finish(None)

    def fail(self, error: LaunchError) -> None:
        """End it with ``error``, for instance because the child takes too long."""
        if not self._done:
            self._finish(error)

    @property
    def done(self) -> bool:
        """It is known whether the child succeeded."""
        return self._done

    def close(self) -> None:
        """Stop listening, without telling anybody."""
        if not self._done:
            self._done = True
            self._loop.unwatch(self._parent.fileno())
            self._parent.close()

    def _decode(self, data: bytes) -> dict[str, Any]:
        if self.steps is None:
            message: dict[str, Any] = json.loads(data)
            return message
        number, address = _FAILURE.unpack(data)
        step, reason = self.steps[address]
        return {"step": step, "errno": number, "message": reason or os.strerror(number)}

    def _finish(self, error: LaunchError | None) -> None:
        self.close()
        self._on_done(error)


def _launch_error(message: dict[str, Any]) -> LaunchError:
    step, text = message["step"], message["message"]
    code = "setup"
    if step.startswith("execute "):
        missing = message["errno"] in (2, 20)
        code = "not-found" if missing else "not-executable"
    return LaunchError(code, f"{step}: {text}")
