"""Where the files of pods lie below ``--root-dir`` (pure); the Go kubelet's layout."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

EMPTY_DIR = "kubernetes.io/empty-dir"
DOWNWARD_API = "kubernetes.io/downward-api"
CONFIG_MAP = "kubernetes.io/configmap"
SECRET = "kubernetes.io/secret"
PROJECTED = "kubernetes.io/projected"
HOST_PATH = "kubernetes.io/host-path"
LOCAL = "kubernetes.io/local-volume"
NFS = "kubernetes.io/nfs"
IMAGE = "kubernetes.io/image"

_UID = re.compile(r"[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")


def escaped(plugin: str) -> str:
    """Return the name of a plugin as it names directories."""
    return plugin.replace("/", "~")


def pods_directory(root_dir: Path) -> Path:
    """Return the directory that holds one directory a pod."""
    return root_dir / "pods"


@dataclass(frozen=True, slots=True)
class PodPaths:
    """The paths of one pod.

    Raises:
        ValueError: ``uid`` cannot be the name of a directory.
    """

    root_dir: Path
    uid: str

    def __post_init__(self) -> None:
        if not _UID.fullmatch(self.uid):
            raise ValueError(f"pod uid {self.uid!r} is not fit to name a directory")

    @property
    def directory(self) -> Path:
        """All of the pod."""
        return pods_directory(self.root_dir) / self.uid

    @property
    def volumes(self) -> Path:
        """Volumes by plugin and name."""
        return self.directory / "volumes"

    @property
    def sub_paths(self) -> Path:
        """Bind mounts of paths inside volumes."""
        return self.directory / "volume-subpaths"

    @property
    def etc_hosts(self) -> Path:
        """The file that is /etc/hosts in all containers."""
        return self.directory / "etc-hosts"

    def volume(self, plugin: str, name: str) -> Path:
        """Return the directory of one volume; ``plugin`` is the name of its kind."""
        return self.volumes / escaped(plugin) / name

    def ready_marker(self, plugin: str, name: str) -> Path:
        """Return the file that says that a volume was set up."""
        return self.directory / "plugins" / escaped(plugin) / name / "ready"

    @property
    def mounts(self) -> Path:
        """The file that says which volumes are, or may be, mounted."""
        return self.directory / "volumes.json"

    def container(self, name: str) -> Path:
        """Return the directory of one container."""
        return self.directory / "containers" / name

    def termination_log(self, container: str, attempt: int) -> Path:
        """Return the file behind terminationMessagePath of one run of a container."""
        return self.container(container) / f"{attempt}.termination-log"

    def sub_path(self, volume: str, container: str, index: int) -> Path:
        """Return where a mount with a subPath is bound."""
        return self.sub_paths / volume / container / str(index)
