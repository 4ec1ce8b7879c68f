"""Looking at the machine: files that may be missing, commands and calls that may hang."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

COMMAND_SECONDS: Final = 3.0
"""Longest time that one command gets."""
_LARGEST: Final = 4 << 20
_CHUNK: Final = 1 << 16
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

T = TypeVar("T")


def text(path: str | Path) -> str | None:
    """Return a file's content, None if it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return b"".join(_chunks(file)).decode(errors="replace")
    except OSError:
        return None


def _chunks(file: io.FileIO) -> Iterator[bytes]:
    # Files of /proc/sys refuse to be read in large pieces.
    left = _LARGEST
    while left > 0 and (chunk := file.read(min(left, _CHUNK))):
        left -= len(chunk)
        yield chunk


def word(path: str | Path) -> str:
    """Return a file's content without white space around it, "" if it cannot be read."""
    return (text(path) or "").strip()


def names(path: str | Path) -> list[str]:
    """Return the names in a directory, sorted; none if it cannot be read."""
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def program(name: str) -> str | None:
    """Return where a program is; a user's PATH may lack the administrator's directories."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")


def output(command: Sequence[str], seconds: float = COMMAND_SECONDS) -> str | None:
    """Return what a command prints; None if it is missing, fails, or takes too long."""
    where = program(command[0])
    if where is None:
        return None
    try:
        done = subprocess.run(
            [where, *command[1:]], capture_output=True, stdin=subprocess.DEVNULL, timeout=seconds,
            check=False, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


class Aside(Generic[T]):
    """A call in a thread of its own, which is left behind if it hangs.

    A file system whose server is gone, or a resolver, can keep a call for minutes. The thread is
    no reason for the process to stay.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._result: list[T] = []
        self._failure: list[Exception] = []
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self, seconds: float) -> T:
        """Return what the call returned.

        Raises:
            TimeoutError: it has not, after ``seconds``.
            Exception: what it raised.
        """
        self._thread.join(max(seconds, 0.0))
        if self._failure:
            raise self._failure[0]
        if not self._result:
            raise TimeoutError(f"no answer within {seconds:.0f} s")
        return self._result[0]

    def _run(self) -> None:
        try:
            self._result.append(self._call())
        except Exception as reason:  # raised where the result is asked for
            self._failure.append(reason)
