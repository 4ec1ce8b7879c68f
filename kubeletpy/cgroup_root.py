"""The cgroups above ``kubepods`` that the kubelet had to make, so that it can remove them again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

from kubeletpy_common.atomic import write_atomic
from kubeletpy_common.cgroups import CgroupError, Hierarchy

_FILE = "made-cgroups.json"


def note_missing(hierarchy: Hierarchy, roots: Iterable[str], directory: Path) -> None:
    """Write down which cgroups of ``roots`` do not exist yet, before they are made.

    Args:
        hierarchy: where they are looked for.
        roots: the paths of the cgroup root and of all above it, see `Layout.roots`.
        directory: of the note.

    Raises:
        OSError: the note cannot be written.
    """
    missing = [one for one in roots if not hierarchy.cgroup(one).exists()]
    if missing:
        write_atomic(directory / _FILE, json.dumps(missing))


def remove_made(hierarchy: Hierarchy, directory: Path) -> None:
    """Remove the cgroups written down, the deepest first, as far as nobody else uses them."""
    note = directory / _FILE
    try:
        made = json.loads(note.read_bytes())
    except (OSError, ValueError):
        return
    with contextlib.suppress(CgroupError):
        for path in made:
            hierarchy.cgroup(str(path)).remove(recursive=False)
    note.unlink(missing_ok=True)
