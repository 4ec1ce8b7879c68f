"""The programs: which back end this machine uses, how they are run, what their errors say."""

from __future__ import annotations

import enum
import fcntl
import logging
import os
import re
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from kubeletpy_common import logs

from ..backend import SyncError
from ..model.portal import Family
from . import names

_log = logging.getLogger(__name__)

_DIRECTORIES: Final = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin"
_DEADLINE: Final = 300.0
"""Seconds that a program may take beside its wait for the lock: 50,000 rules on a slow machine."""
_LOCK_FILE: Final = "/run/xtables.lock"
_LINE: Final = re.compile(r"line:?\s+(\d+)")
_VERSION: Final = re.compile(r"v(\d+)\.(\d+)(?:\.(\d+))?")
_MAX_SAID: Final = 2000
_OWN_PROCESSES: Final = 64
"""Of our programs whose changes may still be told."""


class BackEnd(enum.Enum):
    """Which part of the kernel the programs speak to."""

    NFT = "nft"
    LEGACY = "legacy"


class OwnProcesses:
    """The last programs that changed rules for us, by pid; for several threads."""

    def __init__(self) -> None:
        self._pids: deque[int] = deque(maxlen=_OWN_PROCESSES)
        self._lock = threading.Lock()

    @contextmanager
    def start(self) -> Iterator[Callable[[int], None]]:
        """Start a program, and tell its pid to what is given here.

        It may change rules before its pid is known to us: who asks meanwhile waits.
        """
        with self._lock:
            yield self._pids.append

    def __contains__(self, pid: int) -> bool:
        with self._lock:
            return pid in self._pids


@dataclass(slots=True)
class Tools:
    """The programs of one family and back end.

    Attributes:
        command, save, restore: paths.
        lock_wait: seconds to wait for ``/run/xtables.lock``; the nft back end has none.
        own: those that change rules, by pid, while they run and later.
    """

    family: Family
    back_end: BackEnd
    command: str
    save: str
    restore: str
    version: tuple[int, int, int]
    lock_wait: int = 30
    own: OwnProcesses = field(default_factory=lambda: OwnProcesses())

    @property
    def random_fully(self) -> bool:
        """Whether ``MASQUERADE --random-fully`` is known."""
        return self.version >= (1, 6, 2)

    def saved(self, table: str = "") -> str:
        """Return what ``iptables-save`` says of a table, or of all that there are.

        Raises:
            SyncError: the program failed.
        """
        arguments = ["-t", table] if table else []
        with _in_memory(()) as nothing:
            return self._run([self.save, *arguments], nothing, "list the rules")

    def listed(self, table: str, chain: str) -> list[str] | None:
        """Return the lines of a chain as ``-S`` says them; None if there is no such chain."""
        try:
            arguments = [*self._waiting, "-t", table, "-S", chain]
            with _in_memory(()) as nothing:
                said = self._run([self.command, *arguments], nothing, "look at a chain")
            return said.splitlines()
        except SyncError:
            return None

    def write(self, text: str | Iterable[str], what: str) -> int:
        """Have ``iptables-restore`` carry out a text, each table in one transaction.

        Returns:
            How many bytes it was; with 0 nothing is run.

        Raises:
            SyncError: it failed; the message names the line. Tables before that one are written.
        """
        arguments = [self.restore, *self._waiting, "--noflush"]
        with _in_memory([text] if isinstance(text, str) else text) as stdin:
            size = stdin.tell()
            if not size:
                return 0
            with _LockWatch(active=self.back_end is BackEnd.LEGACY):
                self._run(arguments, stdin, what)
        return size

    @property
    def _waiting(self) -> list[str]:
        return ["-w", str(self.lock_wait)]

    def _run(self, arguments: list[str], stdin: BinaryIO, what: str) -> str:
        """Run a program with a text to read."""
        called = f"{Path(arguments[0]).name} could not {what}"
        stdin.seek(0)
        try:
            with self.own.start() as started:
                process = subprocess.Popen(
                    arguments,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env={**os.environ, "LC_ALL": "C"},
                )
                started(process.pid)
        except OSError as error:
            raise SyncError(f"{called}: {arguments[0]}: {error.strerror}") from error
        deadline = self.lock_wait + _DEADLINE
        try:
            out, said = process.communicate(timeout=deadline)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise SyncError(f"{called}: it did not end within {deadline:.0f} s") from None
        if process.returncode:
            stdin.seek(0)
            text = stdin.read().decode()
            reason = explain(said.decode(errors="replace"), text, process.returncode)
            raise SyncError(f"{called}: {reason}")
        return out.decode(errors="replace")


def _in_memory(pieces: Iterable[str]) -> BinaryIO:
    """Return a file in memory that holds a text: no copy of it is kept while a program reads it."""
    file = os.fdopen(os.memfd_create("rules"), "w+b")
    try:
        file.writelines(piece.encode() for piece in pieces)
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def explain(said: str, text: str, status: int) -> str:
    """Return in one line why a program failed, with the rule that it failed at."""
    message = " ".join(line.strip() for line in said.splitlines() if line.strip())[:_MAX_SAID]
    if "xtables lock" in said:
        path = lock_file()
        return f"the lock {path} is held by {lock_holder(path)}; it was waited for: {message}"
    reason = message or ("it said nothing" if status > 0 else "")
    ended = f"exit status {status}" if status > 0 else f"killed by signal {-status}"
    lines = text.splitlines()
    # Of several, the first is the cause.
    numbers = [int(number) for number in _LINE.findall(said)]
    at = next((number for number in numbers if 0 < number <= len(lines)), 0)
    shown = f"; line {at} is: {lines[at - 1]}" if at else ""
    return f"{reason} ({ended}){shown}"


# The lock of the legacy back end.


def lock_file() -> str:
    """The file that the programs of the legacy back end lock, all of the machine's."""
    return os.environ.get("XTABLES_LOCKFILE", _LOCK_FILE)


def lock_holder(path: str) -> str:
    """Say who holds a lock on a file, as far as the kernel tells (proc_locks(5))."""
    try:
        inode = str(os.stat(path).st_ino)
        locks = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return "an unknown process"
    for words in map(str.split, locks):
        if "->" not in words and words[5].rsplit(":", 1)[-1] == inode:
            try:
                name = Path(f"/proc/{words[4]}/comm").read_text().strip()
            except OSError:
                name = "gone or in another PID namespace"
            return f"process {words[4]} ({name})"
    return "nobody any more"


class _LockWatch:
    """Says so when a program will have to wait for the lock, and how long that took."""

    def __init__(self, *, active: bool) -> None:
        self._active = active
        self._since = 0.0

    def __enter__(self) -> None:
        if self._active and self._taken():
            path = lock_file()
            logs.event(
                _log, logging.WARNING, "waiting for the lock of iptables", path=path,
                holder=lock_holder(path),
            )  # fmt: skip
            self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        if self._since:
            logs.event(
                _log, logging.WARNING, "no longer waiting for the lock of iptables",
                path=lock_file(), seconds=round(time.monotonic() - self._since, 1),
            )  # fmt: skip

    @staticmethod
    def _taken() -> bool:
        try:
            fd = os.open(lock_file(), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        else:
            return False
        finally:
            os.close(fd)


# Which back end.


def tools_for(family: Family, back_end: BackEnd, directories: str = "") -> Tools | None:
    """Return the programs of a back end; None if this machine has none.

    ``directories`` is searched as PATH is; without it PATH and the usual places are.
    """
    name = "iptables" if family is Family.V4 else "ip6tables"
    for stem in (f"{name}-{back_end.value}", name):
        paths = [_which(stem + suffix, directories) for suffix in ("", "-save", "-restore")]
        if not all(paths):
            continue
        said = _say_version(paths[0])
        found = BackEnd.NFT if "nf_tables" in said else BackEnd.LEGACY
        match = _VERSION.search(said)
        if match and found is back_end:
            major, minor, patch = (int(part or 0) for part in match.groups())
            command, save, restore = paths
            return Tools(family, back_end, command, save, restore, (major, minor, patch))
    return None


def detect(family: Family, directories: str = "") -> Tools:
    """Return the programs of the back end that this machine uses.

    That is, in this order: the only one there is; the one in which the kubelet left its mark
    (KEP-3178); the one with more rules; the one that plain ``iptables`` is; nft.

    Raises:
        SyncError: there are no programs.
    """
    found = {each: tools_for(family, each, directories) for each in BackEnd}
    present = [tools for tools in found.values() if tools]
    if not present:
        name = "iptables" if family is Family.V4 else "ip6tables"
        raise SyncError(
            f"{name}, {name}-save and {name}-restore are not installed: "
            "run `apt-get install iptables`, or choose --proxy-mode=nftables"
        )
    if len(present) == 1:
        return present[0]
    saved = {tools.back_end: _saved_or_nothing(tools) for tools in present}
    for tools in present:
        if any(f":{mark} " in saved[tools.back_end] for mark in names.KUBELET_MARKS):
            return tools
    rules = {tools.back_end: saved[tools.back_end].count("\n-A ") for tools in present}
    if rules[BackEnd.NFT] != rules[BackEnd.LEGACY]:
        return max(present, key=lambda tools: rules[tools.back_end])
    plain = _which("iptables" if family is Family.V4 else "ip6tables", directories)
    legacy = bool(plain) and "legacy" in _say_version(plain)
    return present[1] if legacy else present[0]


def _saved_or_nothing(tools: Tools) -> str:
    try:
        return tools.saved()
    except SyncError as error:
        logs.event(_log, logging.DEBUG, "rules of this back end cannot be seen", reason=str(error))
        return ""


def _which(name: str, directories: str) -> str:
    path = directories or os.pathsep.join((os.environ.get("PATH", ""), _DIRECTORIES))
    return shutil.which(name, path=path) or ""


def _say_version(program: str) -> str:
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logs.event(_log, logging.DEBUG, "no version", program=program, reason=str(error))
        return ""
    return done.stdout
