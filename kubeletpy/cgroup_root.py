"""The cgroups of a kubelet: the machine's hierarchy, and what is made of it and removed again."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path

from kubeletpy.cri.node import NodeFacts
from kubeletpy.resources.cgroups import PodCgroups
from kubeletpy.resources.install import resource_policy, with_swap
from kubeletpy.resources.layout import SYSTEMD
from kubeletpy_common import logs
from kubeletpy_common.atomic import write_atomic
from kubeletpy_common.cgroups import CgroupError, Hierarchy, detect

from .errors import StartError
from .settings import Settings

_log = logging.getLogger(__name__)
_FILE = "made-cgroups.json"


def open_hierarchy(settings: Settings) -> Hierarchy:
    """Return the machine's cgroups by the driver that is set.

    Raises:
        StartError: there are none, or the driver cannot work here.
    """
    try:
        hierarchy = detect()
        if settings.configuration.cgroup_driver != SYSTEMD:
            return hierarchy
        from kubeletpy_common.cgroups.systemd import open_systemd

        return open_systemd(hierarchy)
    except CgroupError as error:
        raise StartError(str(error)) from error


def make_pod_cgroups(settings: Settings, hierarchy: Hierarchy, facts: NodeFacts) -> PodCgroups:
    """Make the cgroups that those of the pods will be in.

    Raises:
        StartError: they cannot be made.
    """
    policy = resource_policy(settings, hierarchy, facts.memory_bytes)
    cgroups = PodCgroups(
        hierarchy, settings.cgroup_root, cpu_milli=facts.cpu_milli, policy=policy,
        driver=settings.configuration.cgroup_driver,
    )  # fmt: skip
    try:
        _note_missing(hierarchy, cgroups.layout.roots(), settings.root_dir)
        cgroups.set_up()
    except CgroupError as error:
        raise StartError(str(error)) from error
    except OSError as error:
        raise StartError(
            f"it cannot be written down which cgroups are made for --cgroup-root: {error}; "
            "make room there, or set another --root-dir"
        ) from error
    cgroups.policy = with_swap(policy, cgroups)
    return cgroups


def remove_cgroups(cgroups: PodCgroups, hierarchy: Hierarchy, directory: Path) -> bool:
    """Remove what `make_pod_cgroups` made; False, which is logged, if something is left in it."""
    try:
        cgroups.tear_down()
    except CgroupError as error:
        logs.event(_log, logging.ERROR, "cgroups are left", reason=str(error))
        return False
    _remove_made(hierarchy, directory)
    return True


def _note_missing(hierarchy: Hierarchy, roots: Iterable[str], directory: Path) -> None:
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


def _remove_made(hierarchy: Hierarchy, directory: Path) -> None:
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
