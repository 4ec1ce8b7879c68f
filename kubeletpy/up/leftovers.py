"""Ends daemons of an earlier ``up`` that was killed before it could end them itself."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path

from kubeletpy.up.errors import UpError

_TERM_SECONDS = 20.0
_KILL_SECONDS = 5.0


def start_ticks(pid: int) -> str | None:
    """Return when ``pid`` was started, in ticks since boot; None if there is no such process.

    Together with the pid it names one process for good: pids are used again, both are not.
    """
    try:
        content = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return content[content.rindex(")") + 2 :].split()[19]


def write_pidfile(path: Path, pid: int) -> None:
    """Note that ``pid`` is ours, so that a later start can end it."""
    path.write_text(f"{pid} {start_ticks(pid)}\n")


def end_leftovers(run: Path) -> list[str]:
    """End the processes noted in the ``*.pid`` files of ``run``; return the names of those files.

    The order is that of the names reversed: the last started ends first.

    Raises:
        UpError: one does not end, not even by SIGKILL.
    """
    ended = []
    for path in sorted(run.glob("*.pid"), reverse=True):
        if _end(path):
            ended.append(path.stem)
        path.unlink(missing_ok=True)
    return ended


def _end(path: Path) -> bool:
    """End the process noted in ``path``; return whether there was one."""
    try:
        noted, _, started = path.read_text().strip().partition(" ")
        pid = int(noted)
    except (OSError, ValueError):
        return False  # half-written when its writer was killed: the process had not started yet
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # Asked only once the descriptor is open: from here on it cannot become another process.
        if start_ticks(pid) != started:
            return False
        for number, seconds in ((signal.SIGTERM, _TERM_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)
            if _ended_within(descriptor, seconds):
                return True
    finally:
        os.close(descriptor)
    raise UpError(f"process {pid} of an earlier run does not end; see /proc/{pid}/stack")


def _ended_within(descriptor: int, seconds: float) -> bool:
    """Wait until the process of a pidfd ended: it becomes readable then, see pidfd_open(2)."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
