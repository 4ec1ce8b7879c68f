"""What happens to each file of an installation, like conffiles of dpkg (pure), and its memory.

    known: hashes of what we wrote there before

    absent ----------------------------> WRITE
    there, as it is to be -------------> SAME
    there, its hash is known ----------> WRITE
    there, otherwise: user's change ---> KEEP   (WRITE with --overwrite)

The hash of the new text is noted before it is written, and the old one is forgotten afterwards: a
death in between leaves a file that is known, whichever of the two it is.
"""

from __future__ import annotations

import difflib
import enum
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from kubeletpy.install.errors import InstallError
from kubeletpy.install.places import Places
from kubeletpy.install.rendered import Rendered
from kubeletpy_common.atomic import write_atomic

_LONGEST: Final = 200
"""Lines of a difference that are shown."""


class Action(enum.StrEnum):
    """What is done with a file."""

    WRITE = "write"
    SAME = "as it is"
    KEEP = "kept, it was changed here"


@dataclass(frozen=True)
class Change:
    """A file and what is done with it.

    Attributes:
        file: as it is to be.
        before: its text; None: it is not there.
        action: what is done.
    """

    file: Rendered
    before: str | None
    action: Action

    def difference(self) -> str:
        """Return a unified diff from what is there to what is to be."""
        before = [] if self.before is None else self.before.splitlines(keepends=True)
        lines = difflib.unified_diff(
            before, self.file.text.splitlines(keepends=True),
            "/dev/null" if self.before is None else str(self.file.path), str(self.file.path),
        )  # fmt: skip
        shown = list(lines)
        more = [f"... {len(shown) - _LONGEST} more lines\n"] if len(shown) > _LONGEST else []
        return "".join([*shown[:_LONGEST], *more])


class Memory(msgspec.Struct, rename="camel"):
    """What an installation remembers, in ``install.json``.

    Attributes:
        files: hashes of what we wrote, by path.
        services: digest of what each service was started with, by its unit.
        sysctls: values before we set others, by name.
        directories: those that were not there before.
        users: accounts that we made.
    """

    files: dict[str, list[str]] = {}
    services: dict[str, str] = {}
    sysctls: dict[str, str] = {}
    directories: list[str] = []
    users: list[str] = []


def hash_of(text: str) -> str:
    """Return the hash of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def decide(before: str | None, known: Iterable[str], file: Rendered, *, overwrite: bool) -> Action:
    """Return what to do with a file (pure)."""
    if before is None:
        return Action.WRITE
    if before == file.text:
        return Action.SAME
    return Action.WRITE if overwrite or hash_of(before) in known else Action.KEEP


def compare(
    files: Iterable[Rendered], memory: Memory, at: Places, *, overwrite: bool = False
) -> list[Change]:
    """Return what is done with each of ``files``.

    Raises:
        InstallError: one cannot be read.
    """
    found = []
    for file in files:
        before = _text(at.of(file.path))
        known = memory.files.get(str(file.path), [])
        found.append(Change(file, before, decide(before, known, file, overwrite=overwrite)))
    return found


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InstallError(f"cannot read {path}: {error.strerror}") from error


def read_memory(path: Path) -> Memory:
    """Return what is remembered; nothing if there is no such file.

    Raises:
        InstallError: the file cannot be understood.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Memory)
    except FileNotFoundError:
        return Memory()
    except (OSError, msgspec.MsgspecError) as error:
        raise InstallError(
            f"cannot use {path}, which remembers what was installed: {error}; remove it, and files "
            "that differ from what is to be written count as changed by you"
        ) from error


def write_memory(path: Path, memory: Memory) -> None:
    """Remember, durably."""
    text = msgspec.json.format(msgspec.json.encode(memory), indent=2)
    write_atomic(path, text + b"\n", mode=0o600, sync=True)


def carry_out(changes: Iterable[Change], memory: Memory, at: Places, state: Path) -> None:
    """Write what is to be written, each file as a whole; ``memory`` is kept in ``state``.

    Raises:
        InstallError: a file cannot be written.
    """
    wanted = [change for change in changes if change.action is not Action.KEEP]
    for change in wanted:
        new = hash_of(change.file.text)
        old = [hash_of(change.before)] if change.before is not None else []
        memory.files[str(change.file.path)] = list(dict.fromkeys([*old, new]))
    if any(change.action is Action.WRITE for change in wanted):
        write_memory(state, memory)
    for change in wanted:
        if change.action is Action.WRITE:
            path = at.of(change.file.path)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, change.file.text, mode=change.file.mode)
            except OSError as error:
                raise InstallError(f"cannot write {path}: {error.strerror}") from error
    for change in wanted:
        memory.files[str(change.file.path)] = [hash_of(change.file.text)]
    write_memory(state, memory)
