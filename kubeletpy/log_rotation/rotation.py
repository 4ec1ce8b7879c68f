"""One log: which of its rotated files stay, and how it is rotated.

``0.log`` is written now, ``0.log.<time>`` was before (plain, so that who follows it can finish),
and ``0.log.<time>.gz`` are older ones.
"""

from __future__ import annotations

import gzip
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

COMPRESSED, TEMPORARY = ".gz", ".tmp"
_TIME = "%Y%m%d-%H%M%S"


@dataclass(frozen=True)
class Sorted:
    """Rotated files of a log by what becomes of them, oldest first."""

    remove: tuple[str, ...] = ()
    compress: tuple[str, ...] = ()


def sort_rotated(names: Sequence[str], maximum: int) -> Sorted:
    """Return what becomes of the rotated files of a log when it is rotated once more (pure).

    Args:
        names: of the files that begin with the log's name and a dot.
        maximum: files in all; two of them are the new log and the one that is rotated now.
    """
    present = set(names)
    used: list[str] = []
    remove: list[str] = []
    for name in sorted(names):
        left_over = name.endswith(TEMPORARY) or (
            not name.endswith(COMPRESSED) and name + COMPRESSED in present
        )
        (remove if left_over else used).append(name)
    excess = max(len(used) - max(maximum - 2, 0), 0)
    kept = used[excess:]
    return Sorted(
        tuple(remove + used[:excess]),
        tuple(name for name in kept if not name.endswith(COMPRESSED)),
    )


def rotated_names(log: Path) -> list[str]:
    """Return the names of the rotated files of a log."""
    prefix = f"{log.name}."
    try:
        return [name for name in os.listdir(log.parent) if name.startswith(prefix)]
    except FileNotFoundError:
        return []


def make_room(log: Path, maximum: int) -> None:
    """Remove and compress what is older; reads and writes whole files.

    Raises:
        OSError: a file could not be removed, read or written.
    """
    plan = sort_rotated(rotated_names(log), maximum)
    for name in plan.remove:
        (log.parent / name).unlink(missing_ok=True)
    for name in plan.compress:
        compress(log.parent / name)


def compress(path: Path) -> None:
    """Replace a file by its compressed form; at any moment one of the two is whole.

    Raises:
        OSError: it could not be read or written; the file itself stays.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    mode = path.stat().st_mode & 0o777
    try:
        with (
            open(path, "rb") as source,
            open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as raw,
            gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as target,
        ):
            shutil.copyfileobj(source, target, 1024 * 1024)
        temporary.rename(path.with_name(path.name + COMPRESSED))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    path.unlink()


def move_aside(log: Path, now: float | None = None) -> Path:
    """Rename a log to one of the moment, and return the new path.

    Raises:
        OSError: it could not be renamed.
    """
    moment = time.strftime(_TIME, time.localtime(now))
    rotated = log.with_name(f"{log.name}.{moment}")
    if rotated.exists() or rotated.with_name(rotated.name + COMPRESSED).exists():
        # Two within a second: the first one would be lost.
        raise FileExistsError(f"{rotated} exists already")
    log.rename(rotated)
    return rotated


def remove_all(log: Path) -> None:
    """Remove a log and all of its rotated files; what is gone is fine.

    Raises:
        OSError: one could not be removed.
    """
    for name in rotated_names(log):
        (log.parent / name).unlink(missing_ok=True)
    log.unlink(missing_ok=True)
