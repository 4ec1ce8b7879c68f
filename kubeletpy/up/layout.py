"""Where ``kubeletpy up`` keeps its things."""

from __future__ import annotations

import contextlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from kubeletpy.up.errors import UpError

DATA = Path("/var/lib/kubeletpy/up")
RUN = Path("/run/kubeletpy/up")
REGISTRY_PORT = 5000
API_PORT = 6443
_MARK = ".kubeletpy-up"
_MOUNTINFO = Path("/proc/self/mountinfo")
_MAX_SOCKET_PATH = 107  # sun_path of unix(7), without its final NUL


@dataclass(frozen=True)
class Layout:
    """The directories of one node.

    Attributes:
        data: what survives a reboot: images, volumes, logs of daemons and pods.
        run: what does not: sockets, pid files, state of running pods, manifests.
    """

    data: Path
    run: Path

    @property
    def socket(self) -> Path:
        """The runtime's CRI socket."""
        return self.run / "runtime.sock"

    @property
    def manifests(self) -> Path:
        """The directory whose files the kubelet runs as static pods."""
        return self.run / "manifests"

    @property
    def api_data(self) -> Path:
        """The API server's store, authorities and keys."""
        return self.data / "apiserver"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, which the API server writes."""
        return self.run / "kubeconfig"

    @property
    def logs(self) -> Path:
        """The daemons' log files."""
        return self.data / "logs"

    @property
    def pod_logs(self) -> Path:
        """The containers' log files."""
        return self.data / "pod-logs"

    @property
    def lock(self) -> Path:
        """Locked by the ``up`` that uses these directories."""
        return self.run / "lock"

    def check(self) -> None:
        """Refuse directories that we could not use, or that hold what is not ours.

        Both are removed with all they contain in the end, so they must be new, empty, or ours.

        Raises:
            UpError: a directory is unfit; the message says which and why.
        """
        for path in (self.data, self.run):
            if not path.is_absolute():
                raise UpError(f"{path} is not an absolute path")
            if path.exists() and not path.is_dir():
                raise UpError(f"{path} is not a directory")
            if path.is_dir() and any(path.iterdir()) and not (path / _MARK).exists():
                raise UpError(
                    f"{path} holds files that `kubeletpy up` did not make; choose a new or empty "
                    "directory, for it is removed with all it holds in the end"
                )
        if len(str(self.socket)) > _MAX_SOCKET_PATH:
            raise UpError(
                f"the path {self.socket} is too long for a socket ({_MAX_SOCKET_PATH} bytes)"
            )

    def make(self) -> None:
        """Make all directories, closed to other users."""
        for path in (self.data, self.run):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (path / _MARK).touch()
        for path in (self.logs, self.manifests):
            path.mkdir(mode=0o700, exist_ok=True)

    def remove_run(self) -> None:
        """Remove the run directory, and its parent if that is ours and empty.

        Raises:
            UpError: something is still mounted in it, so nothing is removed.
        """
        _remove(self.run)

    def remove_data(self) -> None:
        """Remove the data directory, and its parent if that is ours and empty.

        Raises:
            UpError: something is still mounted in it, so nothing is removed.
        """
        _remove(self.data)


def mounts_below(directory: Path) -> list[str]:
    """Return the mount points in ``directory``, by proc_pid_mountinfo(5)."""
    prefix = f"{directory}".rstrip("/") + "/"
    points = [_unescaped(line.split()[4]) for line in _MOUNTINFO.read_text().splitlines()]
    return [point for point in points if point.startswith(prefix) and point != prefix]


def _unescaped(text: str) -> str:
    """Undo the octal escapes by which mountinfo writes blanks and the like."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _remove(directory: Path) -> None:
    if not (directory / _MARK).exists():
        return
    mounted = mounts_below(directory)
    if mounted:
        # What is mounted may be a volume: its content is not ours to delete.
        raise UpError(f"{directory} is not removed, because {', '.join(mounted)} is still mounted")
    shutil.rmtree(directory)
    with contextlib.suppress(OSError):
        if directory in (DATA, RUN):
            directory.parent.rmdir()
