"""Which volumes a pod uses, and where mounts lie inside each other (pure)."""

from __future__ import annotations

import os
from pathlib import Path

from kubeletpy.api.container import Container, EphemeralContainer
from kubeletpy.api.pod import Pod


def used(pod: Pod) -> set[str]:
    """Return the volumes that a container mounts; as in Go, no other one is set up."""
    spec = pod.spec
    every = (*spec.init_containers, *spec.containers, *spec.ephemeral_containers)
    return set().union(*(used_by(container) for container in every))


def used_by(container: Container | EphemeralContainer) -> set[str]:
    """Return the volumes that one container mounts."""
    names = {mount.name for mount in container.volume_mounts}
    return names | {device.name for device in container.volume_devices}


def mount_points(pod: Pod, name: str) -> list[str]:
    """Return the directories inside volume ``name`` on which containers mount other volumes.

    The runtime could not make them in a volume that containers get read-only. Of mounts inside
    each other only the outermost counts: the inner one is made in that volume.
    """
    spec = pod.spec
    found: dict[str, None] = {}
    for container in (*spec.init_containers, *spec.containers, *spec.ephemeral_containers):
        every = sorted(os.path.normpath(mount.mount_path) for mount in container.volume_mounts)
        for mount in container.volume_mounts:
            if mount.name != name:
                continue
            outer = os.path.normpath(mount.mount_path).rstrip("/") + "/"
            inside: list[str] = []
            for path in every:
                if not path.startswith(outer) or path == outer or ".." in path.split("/"):
                    continue
                if not any(path.startswith(f"{one}/") for one in inside):
                    inside.append(path)
            found.update(dict.fromkeys(path[len(outer) :] for path in inside))
    return list(found)


def make_mount_points(directory: Path, pod: Pod, name: str) -> None:
    """Make those directories.

    Raises:
        OSError: the kernel refused.
    """
    for inside in mount_points(pod, name):
        (directory / inside).mkdir(mode=0o755, parents=True, exist_ok=True)
