"""Hooks of an OCI configuration that the executor runs: ``createContainer``.

Such a hook runs in the container's namespaces but from the host's file system, after the mounts and
before the change of the root (OCI runtime specification, config.md "POSIX-platform Hooks"). That is
when drivers of devices add their libraries, so it comes before the root is made read-only. The
programs are the operator's, named by CDI spec files; nothing of an image is executed here. Hooks of
other kinds are refused when the container is created (:mod:`runtime.oci.executable`).
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import time

from kubeletpy_common.record import Record

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from runtime.oci.steps import Context

RUN_BY_EXECUTOR: Final = "createContainer"

# What of a hook's output an error quotes.
_QUOTED: Final = 2048
_NOT_EXECUTED: Final = 127


class RunHook(Record):
    """Run a hook.

    Attributes:
        hook: OCI's object: ``path``, and ``args``, ``env`` and ``timeout`` (seconds) if given.
        state: the container's state as OCI defines it, but for the process id.
    """

    hook: dict[str, Any]
    state: dict[str, Any]

    def describe(self) -> str:
        """Say it in a line."""
        return f"run the hook {self.hook['path']}"

    def execute(self, context: Context) -> None:
        """Run it to its end."""
        run_hook(self.hook, {**self.state, "pid": os.getpid()})


def run_hook(hook: dict[str, Any], state: dict[str, Any]) -> None:
    """Run one hook to its end, with the container's state on its standard input.

    Args:
        hook: OCI's object.
        state: the container's state.

    Raises:
        OSError: it could not be run, failed, or took too long; then it was killed.
    """
    output, writing = os.pipe()
    # A pipe holds 64 KiB, and the state is less: writing it never blocks.
    reading, feeding = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become_hook(hook, reading, writing)
    os.close(writing)
    os.close(reading)
    process = os.pidfd_open(pid)
    try:
        try:
            os.write(feeding, json.dumps(state).encode())
        except BrokenPipeError:
            # It does not care for its input.
            pass
        os.close(feeding)
        said = _collect(output, process, hook.get("timeout"))
    except TimeoutError:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise OSError(
            errno.ETIMEDOUT, f"hook {hook['path']} took longer than {hook['timeout']} s"
        ) from None
    finally:
        os.close(process)
        os.close(output)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        text = said.decode("utf-8", "replace").strip()
        raise OSError(errno.EIO, f"hook {hook['path']} ended with {code}: {text or 'no output'}")


def _become_hook(hook: dict[str, Any], stdin: int, output: int) -> None:
    try:
        os.umask(0o022)
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        environment = dict(entry.partition("=")[::2] for entry in hook.get("env", []))
        os.execve(hook["path"], hook.get("args") or [hook["path"]], environment)
    except OSError as error:
        os.write(2, str(error).encode())
    finally:
        # It must never unwind into its parent's code.
        os._exit(_NOT_EXECUTED)


def _collect(output: int, process: int, timeout: float | None) -> bytes:
    """Read output until the process has ended; returns the beginning of it.

    Raises:
        TimeoutError: that took longer than ``timeout`` seconds.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    poller = select.poll()
    poller.register(output, select.POLLIN)
    poller.register(process, select.POLLIN)
    said = b""
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = dict(poller.poll(left))
        if not ready:
            raise TimeoutError
        if output in ready:
            chunk = os.read(output, 65536)
            said += chunk[: _QUOTED - len(said)]
            if chunk:
                continue
            # Everybody who could write has closed it; the process may run on.
            poller.unregister(output)
        if process in ready:
            return said
