"""downwardAPI volumes: fields of the pod as files."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kubeletpy.api.defaults import DEFAULT_FILE_MODE
from kubeletpy.api.pod import Pod
from kubeletpy.api.volumes import DownwardAPIVolumeSource
from kubeletpy.cri.environment import PodAddresses, field_value, resource_value
from kubeletpy.cri.node import NodeFacts
from kubeletpy.cri.security import ConfigError

from .errors import VolumeError
from .paths import DOWNWARD_API, PodPaths

_CURRENT = "..data"
_GROUP_READ = 0o040


@dataclass(frozen=True, slots=True)
class ProjectedFile:
    """Content and mode of a file."""

    content: bytes
    mode: int


def files(pod: Pod, source: DownwardAPIVolumeSource, node: NodeFacts) -> dict[str, ProjectedFile]:
    """Return the files of the volume by relative path (pure).

    Raises:
        ConfigError: a field or container cannot be resolved.
    """
    default = DEFAULT_FILE_MODE if source.default_mode is None else source.default_mode
    result = {}
    for item in source.items:
        mode = default if item.mode is None else item.mode
        text: str | None = None
        if item.field_ref is not None:
            text = field_value(pod, item.field_ref.field_path, PodAddresses())
        elif item.resource_field_ref is not None:
            every = [*pod.spec.init_containers, *pod.spec.containers]
            text = resource_value(pod, every[0], item.resource_field_ref, node)
        if text is None:
            raise ConfigError(f"downwardAPI file {item.path}: its field does not exist")
        result[os.path.normpath(item.path)] = ProjectedFile(text.encode(), mode)
    return result


def set_up(
    pod: Pod, name: str, source: DownwardAPIVolumeSource, paths: PodPaths, node: NodeFacts
) -> str:
    """Write the volume, once, and return its path.

    The layout is Kubernetes': files lie in a hidden directory, ``..data`` points at it, and a
    link for each first component points through ``..data``, so that all can change in one step.

    Raises:
        VolumeError: a field cannot be resolved, or the files cannot be written.
    """
    directory = paths.volume(DOWNWARD_API, name)
    context = pod.spec.security_context
    group = context.fs_group if context is not None else None
    try:
        content = files(pod, source, node)
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        directory.chmod(0o755)
        # What a pod's static fields say does not change while it lives.
        if not (directory / _CURRENT).is_symlink():
            _write(directory, content, group)
    except (OSError, ConfigError) as error:
        raise VolumeError(name, f"downwardAPI cannot be written: {error}") from error
    return str(directory)


def _write(directory: Path, content: Mapping[str, ProjectedFile], group: int | None) -> None:
    hidden = f"..{secrets.token_hex(8)}"
    root = directory / hidden
    root.mkdir(mode=0o755)
    root.chmod(0o755)
    for relative, file in content.items():
        target = root / relative
        for parent in reversed(target.relative_to(root).parents[:-1]):
            (root / parent).mkdir(mode=0o755, exist_ok=True)
            (root / parent).chmod(0o755)
        target.write_bytes(file.content)
        mode = file.mode
        if group is not None:
            os.chown(target, -1, group)
            mode |= _GROUP_READ
        target.chmod(mode)
    for first in sorted({relative.split("/")[0] for relative in content}):
        link = directory / first
        if not link.is_symlink():
            link.symlink_to(f"{_CURRENT}/{first}")
    temporary = directory / f"{_CURRENT}_tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(hidden)
    temporary.rename(directory / _CURRENT)
