"""The cgroups above ``kubepods`` that the kubelet had to make, so that it can remove them again."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path, PurePosixPath

from kubeletpy_common.atomic import write_atomic
from kubeletpy_common.cgroups import CgroupError, Hierarchy

_FILE = "made-cgroups.json"


def note_missing(hierarchy: Hierarchy, root: str, directory: Path) -> None:
    """Write down which cgroups of the path ``root`` do not exist yet, before they are made.

    Raises:
        OSError: the note cannot be written below ``directory``.
    """
    path = PurePosixPath("/", root)
    chain = [str(one) for one in (path, *path.parents) if str(one) != "/"]
    missing = [one for one in chain if not hierarchy.cgroup(one).exists()]
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
