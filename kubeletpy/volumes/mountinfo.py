"""Mounts of this mount namespace, from /proc/self/mountinfo (proc(5))."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: where, of which type, and what it shows.

    Attributes:
        device: ``major:minor`` of the file system.
        root: the directory of the file system that is seen.
    """

    path: str
    fstype: str
    device: str = ""
    root: str = ""


def parse(text: str) -> list[Mount]:
    """Parse mountinfo, in the kernel's order: a later mount on one path covers the earlier."""
    mounts = []
    for line in text.splitlines():
        fields, _, tail = line.partition(" - ")
        parts = fields.split(" ")
        if len(parts) >= 5 and tail:
            shown = _unescape(parts[3])
            mounts.append(Mount(_unescape(parts[4]), tail.split(" ")[0], parts[2], shown))
    return mounts


def all_mounts() -> list[Mount]:
    """Return all mounts, in the kernel's order."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return parse(file.read())


def below(directory: Path | str) -> list[Mount]:
    """Return the mounts at or below ``directory``, in the order to unmount them.

    Deeper ones come first, and of several on one path the topmost.
    """
    # The kernel writes real paths; a link on the way to the root directory is ours to resolve.
    top = os.path.realpath(directory)
    inside = [each for each in all_mounts() if each.path == top or each.path.startswith(f"{top}/")]
    inside.reverse()
    inside.sort(key=lambda mount: mount.path.count("/"), reverse=True)
    return inside


def mounted_at(path: Path | str) -> Mount | None:
    """Return the topmost mount exactly at ``path``; None if it is no mount point."""
    try:
        # The list of all mounts is long on a node; most of the time this answers it.
        if _mount_id(path) == _mount_id(os.path.dirname(os.path.realpath(path))):
            return None
    except FileNotFoundError:
        return None
    except OSError:
        # A server that went away: only the list tells.
        pass
    top = os.path.realpath(path)
    return next((each for each in below(path) if each.path == top), None)


def _mount_id(path: Path | str) -> str:
    held = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{held}", encoding="ascii") as file:
            return next(line for line in file if line.startswith("mnt_id:"))
    finally:
        os.close(held)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
