"""What is in the files of configMap, secret, downwardAPI and projected volumes (pure).

Rules and messages are those of the Go kubelet 1.36 (pkg/volume/{configmap,secret,projected}).
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubeletpy.api.pod import Pod
from kubeletpy.api.volumes import DownwardAPIVolumeFile, KeyToPath
from kubeletpy.cri.environment import PodAddresses, field_value, resource_value
from kubeletpy.cri.node import NodeFacts
from kubeletpy.cri.security import ConfigError, effective

LONGEST_PATH = 4096
LONGEST_NAME = 255
_UP = ".."


class PayloadError(Exception):
    """The content of a volume cannot be made of what there is."""


class PayloadUnreachableError(PayloadError):
    """The API server could not be asked for it."""


@dataclass(frozen=True, slots=True)
class ProjectedFile:
    """Content and mode of a file.

    Attributes:
        content: all of it.
        mode: permission bits.
        owner: user id; None: root.
    """

    content: bytes
    mode: int
    owner: int | None = None


Payload = dict[str, ProjectedFile]
"""Files by their path relative to the volume."""


def values_of(kind: str, found: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the values of a ConfigMap (``data`` and ``binaryData``) or Secret by key.

    Args:
        kind: ``configmap`` or ``secret``.
        found: the object, as JSON.

    Raises:
        PayloadError: a binary value is not base64.
    """
    text = found.get("data") or {}
    binary = found.get("binaryData") or {}
    if kind == "secret":
        text, binary = {}, text
    result = {key: value.encode() for key, value in text.items()}
    for key, value in binary.items():
        try:
            result[key] = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise PayloadError(f"{kind} key {key}: its value is not base64") from error
    return result


def of_keys(
    kind: str,
    values: Mapping[str, bytes],
    items: Sequence[KeyToPath],
    default_mode: int,
    *,
    optional: bool,
) -> Payload:
    """Return the files of a ConfigMap or Secret: all keys, or those that ``items`` name.

    Raises:
        PayloadError: a key is not there and not optional.
    """
    if not items:
        return {key: ProjectedFile(value, default_mode) for key, value in values.items()}
    result = {}
    for item in items:
        if item.key not in values:
            if optional:
                continue
            if kind == "secret":
                raise PayloadError(f"references non-existent secret key: {item.key}")
            raise PayloadError(f"configmap references non-existent config key: {item.key}")
        mode = default_mode if item.mode is None else item.mode
        result[item.path] = ProjectedFile(values[item.key], mode)
    return result


def of_fields(
    pod: Pod, items: Sequence[DownwardAPIVolumeFile], default_mode: int, node: NodeFacts
) -> Payload:
    """Return the files of fields of the pod (downward API).

    Raises:
        PayloadError: a field or container does not exist.
    """
    result = {}
    for item in items:
        text: str | None = None
        try:
            if item.field_ref is not None:
                text = field_value(pod, item.field_ref.field_path, PodAddresses())
            elif item.resource_field_ref is not None:
                every = [*pod.spec.init_containers, *pod.spec.containers]
                text = resource_value(pod, every[0], item.resource_field_ref, node)
        except ConfigError as error:
            raise PayloadError(str(error)) from error
        if text is None:
            raise PayloadError(f"downwardAPI file {item.path}: its field does not exist")
        mode = default_mode if item.mode is None else item.mode
        result[item.path] = ProjectedFile(text.encode(), mode)
    return result


def of_credential(pod: Pod, path: str, content: bytes, default_mode: int) -> Payload:
    """Return the file of a token: nobody's but the pod's, where it is known who that is.

    With fsGroup the mode is opened for the group afterwards, as for all files of the volume.
    """
    user = user_of(pod)
    mode = 0o600 if user is not None or group_of(pod) is not None else default_mode
    return {path: ProjectedFile(content, mode, user)}


def user_of(pod: Pod) -> int | None:
    """Return the user as which all containers of the pod run; None if there is no such one."""
    users = {
        effective(pod, container).run_as_user
        for container in (*pod.spec.init_containers, *pod.spec.containers)
    }
    return next(iter(users)) if len(users) == 1 else None


def group_of(pod: Pod) -> int | None:
    """Return the pod's fsGroup."""
    context = pod.spec.security_context
    return context.fs_group if context is not None else None


def checked(payload: Mapping[str, ProjectedFile]) -> Payload:
    """Return the payload with normal paths; of paths that are the same the last one counts.

    Raises:
        PayloadError: a path leaves the volume, is too long, starts with ``..``, or is both a
            file and a directory.
    """
    result = {}
    for path, file in payload.items():
        _check_path(path)
        result[os.path.normpath(path)] = file
    for path in result:
        for parent in _parents(path):
            if parent in result:
                raise PayloadError(f"paths conflict: {parent} is a file, so {path} cannot be")
    return result


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _check_path(path: str) -> None:
    if not path:
        raise PayloadError('invalid path: must not be empty: ""')
    if path.startswith("/"):
        raise PayloadError(f"invalid path: must be relative path: {path}")
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise PayloadError(f"invalid path: must be less than or equal to {LONGEST_PATH} characters")
    parts = path.split("/")
    if _UP in parts:
        raise PayloadError(f"invalid path: must not contain '..': {path}")
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in parts):
        raise PayloadError(
            f"invalid path: filenames must be less than or equal to {LONGEST_NAME} characters"
        )
    if parts[0].startswith(_UP):
        raise PayloadError(f"invalid path: must not start with '..': {path}")
    if "\0" in path or os.path.normpath(path) == ".":
        raise PayloadError(f"invalid path: not the name of a file: {path!r}")
