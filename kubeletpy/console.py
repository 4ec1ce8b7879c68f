"""Long commands on a terminal: one line that moves while they work, their whole output in a file.

Standard library only: this runs before the virtual environment exists.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

_CLEAR_LINE = "\r\x1b[K"


class CommandFailed(Exception):
    """A command ended with an error.

    Attributes:
        reason: the line of its output that says most about the cause.
        log: the file with all of its output.
    """

    def __init__(self, title: str, reason: str, log: Path) -> None:
        super().__init__(f"{title}: {reason} (see {log})")
        self.reason = reason
        self.log = log


def say(line: str) -> None:
    """Write one line for the person in front of the terminal (stderr; stdout is for results)."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def run_shown(
    title: str,
    command: list[str],
    *,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run ``command`` and show that it works: the last line of its output on a terminal.

    Away from a terminal there is one line at the start and one at the end.

    Raises:
        CommandFailed: it could not be started or ended with a status other than 0; its output is
            kept in a file of the temporary directory, which the exception names.
    """
    moving = sys.stderr.isatty()
    if not moving:
        say(f"{title} ...")
    begun = time.monotonic()
    descriptor, name = tempfile.mkstemp(prefix="kubeletpy-", suffix=".log")
    log = Path(name)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as output:
        status = _run(command, output, title if moving else None, env, cwd)
    if moving:
        sys.stderr.write(_CLEAR_LINE)
    if status != 0:
        raise CommandFailed(title, _reason(log.read_text(errors="replace"), status), log)
    log.unlink()
    say(f"{title}: done ({time.monotonic() - begun:.1f} s)")


def _run(
    command: list[str],
    output: TextIO,
    title: str | None,
    env: dict[str, str] | None,
    cwd: Path | None,
) -> int:
    """Run ``command``, copy its lines to ``output``, and show them after ``title`` if given."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=env,
            cwd=cwd,
        )
    except OSError as error:
        output.write(f"cannot start {command[0]}: {error}\n")
        return 127
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                output.write(line)
                if title and line.strip():
                    sys.stderr.write(_CLEAR_LINE + _fitted(f"{title}: {line.strip()}"))
                    sys.stderr.flush()
        except BaseException:
            process.terminate()
            raise
    return process.returncode


def _fitted(line: str) -> str:
    """Return ``line`` cut to the width of the terminal, so that it can be written over."""
    width = shutil.get_terminal_size().columns - 1
    return line if len(line) <= width else line[: width - 1] + "…"


def _reason(output: str, status: int) -> str:
    """Pick the line that tells the cause: apt's ``E:`` and pip's ``ERROR:`` before the last one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for mark in ("E: ", "ERROR: ", "Error: "):
        marked = [line for line in lines if line.startswith(mark)]
        if marked:
            return marked[0].removeprefix(mark)
    return lines[-1] if lines else f"exit status {status} without any output"
