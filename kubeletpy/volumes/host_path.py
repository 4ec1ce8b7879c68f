"""hostPath volumes: what must be at the path, or is made there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from kubeletpy.api.volumes import HostPathVolumeSource

from .context import Context
from .errors import VolumeError
from .paths import HOST_PATH
from .plugin import MountRecord, SetUp, VolumeRequest, VolumeSource

_CHECKS: dict[str, tuple[str, Callable[[int], bool]]] = {
    "Directory": ("a directory", stat.S_ISDIR),
    "DirectoryOrCreate": ("a directory", stat.S_ISDIR),
    "File": ("a file", stat.S_ISREG),
    "FileOrCreate": ("a file", stat.S_ISREG),
    "Socket": ("a socket file", stat.S_ISSOCK),
    "CharDevice": ("a character device", stat.S_ISCHR),
    "BlockDevice": ("a block device", stat.S_ISBLK),
}


def prepare(name: str, source: HostPathVolumeSource) -> str:
    """Check the path by its type, make it where the type says so, and return it.

    Directories are made with mode 0755 (parents too), files with 0644 (no parents). Symbolic
    links on the way are the administrator's and are followed.

    Raises:
        VolumeError: it is not what the type says, or cannot be made.
    """
    kind = source.type or ""
    if not kind:
        # Without a type nothing is asked of the path, as ever since Kubernetes 1.0.
        return source.path
    noun, is_kind = _CHECKS[kind]
    try:
        mode = os.stat(source.path).st_mode
    except FileNotFoundError:
        _make(name, source.path, kind, noun)
        return source.path
    except OSError as error:
        raise VolumeError(name, f"hostPath {source.path} type check failed: {error}") from error
    if not is_kind(mode):
        raise VolumeError(name, f"hostPath type check failed: {source.path} is not {noun}")
    return source.path


def _make(name: str, path: str, kind: str, noun: str) -> None:
    try:
        if kind == "DirectoryOrCreate":
            os.makedirs(path, mode=0o755, exist_ok=True)
        elif kind == "FileOrCreate":
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        else:
            raise VolumeError(
                name, f"hostPath type check failed: {path} is not {noun}: it does not exist"
            )
    except OSError as error:
        raise VolumeError(name, f"hostPath {path} ({kind}) cannot be made: {error}") from error


def source_of(source: VolumeSource) -> HostPathVolumeSource | None:
    """Return the hostPath of a volume, inline or of a PersistentVolume; None if it has none."""
    if source.inline is not None:
        return source.inline.host_path
    of_volume = source.of_volume("hostPath")
    if of_volume is None:
        return None
    return HostPathVolumeSource(path=of_volume.get("path", ""), type=of_volume.get("type") or "")


class HostPathPlugin:
    """See `VolumePlugin`."""

    name = HOST_PATH
    mount_options = False
    follows = False

    def __init__(self, context: Context) -> None:
        self._context = context

    def supports(self, source: VolumeSource) -> bool:
        """See `VolumePlugin`."""
        return source_of(source) is not None

    def path(self, request: VolumeRequest) -> str:
        """See `VolumePlugin`."""
        source = source_of(request.source)
        assert source is not None
        return source.path

    def read_only(self, request: VolumeRequest) -> bool:
        """See `VolumePlugin`."""
        return request.read_only

    async def set_up(self, request: VolumeRequest) -> SetUp:
        """See `VolumePlugin`."""
        source = source_of(request.source)
        assert source is not None
        if ".." in source.path.split("/"):
            raise VolumeError("", f"invalid HostPath `{source.path}`: must not contain '..'")
        what = f"checking hostPath {source.path}"
        await self._context.run(request, what, lambda: prepare("", source))
        return SetUp()

    async def tear_down(self, uid: str, record: MountRecord) -> None:
        """Nothing: a path of the node is the administrator's."""
