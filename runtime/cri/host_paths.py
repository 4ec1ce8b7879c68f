"""Paths of the host that a container is to see: made if missing, without links, looked at."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from kubeletpy_common.linux.paths import (
    RESOLVE_BENEATH,
    RESOLVE_NO_SYMLINKS,
    make_directories_in_root,
    openat2,
)
from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.errors import InvalidRequestError
from runtime.oci.request import BindSource, TranslationError

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class MountPoint:
    """A line of /proc/self/mountinfo: where, and how mounts below it spread."""

    path: str
    shared: bool
    slave: bool


def look_at_sources(mounts: list[cri.Mount]) -> dict[str, BindSource]:
    """Return what the host paths of the mounts are, by the path given.

    A missing one is made, as a directory, as with containerd.

    Raises:
        TranslationError: a path is relative, or cannot be made or resolved.
    """
    sources: dict[str, BindSource] = {}
    points: list[MountPoint] | None = None
    for number, mount in enumerate(mounts):
        if not mount.host_path:
            # Nothing to look at; the translation says what is wrong with such a mount.
            continue
        path = _resolve(f"mounts[{number}].host_path", mount.host_path)
        if mount.propagation == cri.PROPAGATION_PRIVATE:
            sources.setdefault(mount.host_path, BindSource(path))
            continue
        if points is None:
            points = parse_mountinfo(Path("/proc/self/mountinfo").read_text("utf-8", "replace"))
        point = mount_point_of(path, points)
        sources[mount.host_path] = BindSource(path, point.shared, point.slave)
    return sources


def parse_mountinfo(text: str) -> list[MountPoint]:
    """Return the mount points of a mountinfo file, in its order (proc_pid_mountinfo(5))."""
    points = []
    for line in text.splitlines():
        before, dash, _ = line.partition(" - ")
        fields = before.split(" ")
        if dash and len(fields) >= 6:
            path = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
            tags = [field.partition(":")[0] for field in fields[6:]]
            points.append(MountPoint(path, "shared" in tags, "master" in tags))
    return points


def mount_point_of(path: str, points: list[MountPoint]) -> MountPoint:
    """Return the mount point that ``path`` lies on; of several on one path the last, on top."""
    best = MountPoint("/", False, False)
    for point in points:
        inside = path == point.path or path.startswith(point.path.rstrip("/") + "/")
        if inside and len(point.path) >= len(best.path):
            best = point
    return best


def prepare_log(directory: str, path: str) -> str:
    """Return the absolute path of a container's log, its directory made; "" for no log.

    Nothing below the pod's log directory may lead elsewhere, neither ``..`` nor a link
    (CVE-2024-5154): the shim that writes the log is root on the host.

    Raises:
        InvalidRequestError: the path leaves the directory.
        OSError: the directory cannot be made.
    """
    if not directory or not path:
        return ""
    parts = path.split("/")
    if path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise InvalidRequestError(
            f"log_path {path!r} is not a plain path below the log directory {directory!r}"
        )
    base = os.path.realpath(directory)
    os.makedirs(base, mode=0o755, exist_ok=True)
    below = os.path.dirname(path) or "."
    root = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(make_directories_in_root(root, below))
        flags = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
        os.close(openat2(root, below, os.O_PATH | os.O_DIRECTORY, 0, flags))
    except OSError as error:
        raise InvalidRequestError(
            f"log_path {path!r} below {directory!r} goes through a symbolic link: {error}"
        ) from error
    finally:
        os.close(root)
    return os.path.join(base, path)


def _resolve(what: str, path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise TranslationError(f"{what} {path!r} is not an absolute path")
    try:
        if not os.path.exists(path):
            os.makedirs(os.path.realpath(path), mode=0o755, exist_ok=True)
        return os.path.realpath(path, strict=True)
    except OSError as error:
        raise TranslationError(f"{what} {path!r} cannot be used: {error}") from error
