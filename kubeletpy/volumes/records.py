"""Which volumes of a pod are, or may be, mounted: a file in the pod's directory.

It is written before anything is mounted and outlives the kubelet, so that the next one knows what
to unmount and by whom. A file that cannot be read is set aside: what is mounted below the pod's
directory is found in the kernel's list all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from kubeletpy_common import logs
from kubeletpy_common.atomic import write_atomic

from .plugin import MountRecord

_log = logging.getLogger(__name__)
VERSION = 1


class _File(msgspec.Struct):
    version: int
    volumes: list[MountRecord]


def save(path: Path, records: Iterable[MountRecord]) -> None:
    """Write the records of a pod.

    Raises:
        OSError: they cannot be written.
    """
    write_atomic(path, msgspec.json.encode(_File(VERSION, list(records))))


def load(path: Path) -> dict[str, MountRecord]:
    """Return the records of a pod by the name of the volume; none if there is no file."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        _tell(path, error)
        return {}
    try:
        file = msgspec.json.decode(content, type=_File)
        if file.version != VERSION:
            raise ValueError(f"version {file.version} is not {VERSION}")
    except (msgspec.MsgspecError, ValueError) as error:
        _tell(path, error)
        path.replace(path.with_suffix(".corrupt"))
        return {}
    return {record.name: record for record in file.volumes}


def _tell(path: Path, error: Exception) -> None:
    logs.event(
        _log, logging.ERROR, "record of mounted volumes set aside", path=str(path),
        reason=str(error),
    )  # fmt: skip
