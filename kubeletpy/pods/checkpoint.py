"""What of a pod must survive a restart of the kubelet and cannot be read from the runtime.

A directory a pod, ``<root-dir>/checkpoints/<uid>/``, files written atomically:

``pod.json``     the specification that runs, so that a pod whose manifest vanished while the
                 kubelet was down is ended with its own hooks and grace.
``status.json``  the last status: start time, times of transitions, readiness, the end it came to.
``ending.json``  when the termination of the pod has to be over.
``amounts.json`` CPU and memory of containers that were resized in place, by container id.

Restart counts and back-off are kept by the containers themselves (labels and annotations).
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from kubeletpy.api.codec import DecodeError, decode, encode
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodStatus
from kubeletpy_common import logs
from kubeletpy_common.atomic import write_atomic

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
VERSION = 1
_POD = "pod.json"


@dataclass(frozen=True, slots=True)
class Saved:
    """What is known of a pod from before."""

    pod: Pod
    status: PodStatus | None = None
    ending_deadline: float | None = None
    amounts: Mapping[str, str] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of all pods under one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save_pod(self, pod: Pod) -> None:
        """Write the specification of a pod.

        Raises:
            OSError: it cannot be written.
        """
        directory = self._of(pod.metadata.uid)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write(directory / _POD, {"pod": msgspec.Raw(encode(pod))})

    def save_status(self, uid: str, status: PodStatus) -> None:
        """Write the status of a pod whose specification was written before; else do nothing.

        Raises:
            OSError: it cannot be written.
        """
        with contextlib.suppress(FileNotFoundError):
            self._write(self._of(uid) / "status.json", {"status": msgspec.Raw(encode(status))})

    def save_ending(self, uid: str, deadline: float) -> None:
        """Write until when the pod has to be gone.

        Raises:
            OSError: it cannot be written.
        """
        with contextlib.suppress(FileNotFoundError):
            self._write(self._of(uid) / "ending.json", {"deadline": deadline})

    def save_amounts(self, uid: str, amounts: Mapping[str, str]) -> None:
        """Write what containers have that were resized in place, by container id.

        Raises:
            OSError: it cannot be written.
        """
        with contextlib.suppress(FileNotFoundError):
            self._write(self._of(uid) / "amounts.json", {"amounts": dict(amounts)})

    def remove(self, uid: str) -> None:
        """Forget a pod.

        Raises:
            OSError: the files cannot be removed.
        """
        directory = self._of(uid)
        # First what makes it a pod's: whoever is killed from here on leaves a mere remainder.
        (directory / _POD).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(directory)

    def get(self, uid: str) -> Saved | None:
        """Read the checkpoint of one pod; None if there is none that can be understood.

        Raises:
            ValueError: the UID cannot name a directory.
        """
        directory = self._of(uid)
        return self._load(directory) if (directory / _POD).exists() else None

    def load(self) -> dict[str, Saved]:
        """Read all checkpoints, by pod UID; what cannot be understood is set aside."""
        found: dict[str, Saved] = {}
        if not self._directory.is_dir():
            return found
        for directory in sorted(self._directory.iterdir()):
            if not directory.is_dir() or directory.name.endswith(".corrupt"):
                continue
            if not (directory / _POD).exists():
                # Of a pod that was not written down yet, or is already forgotten.
                shutil.rmtree(directory, ignore_errors=True)
                continue
            saved = self._load(directory)
            if saved is not None:
                found[directory.name] = saved
        return found

    def _load(self, directory: Path) -> Saved | None:
        try:
            pod = decode(_read(directory / _POD)["pod"], Pod)
            if pod.metadata.uid != directory.name:
                raise ValueError(f"{_POD} is of another pod, {pod.metadata.uid!r}")
        except (OSError, ValueError, KeyError, DecodeError) as error:
            self._set_aside(directory, error)
            return None
        status = _part(directory / "status.json", lambda saved: decode(saved["status"], PodStatus))
        deadline = _part(directory / "ending.json", lambda saved: float(str(saved["deadline"])))
        return Saved(pod, status, deadline, _amounts(directory / "amounts.json"))

    def _set_aside(self, directory: Path, error: Exception) -> None:
        logs.event(
            _log, logging.ERROR, "checkpoint set aside",
            path=str(directory), reason=f"{type(error).__name__}: {error}",
        )  # fmt: skip
        aside = directory.with_name(f"{directory.name}.corrupt")
        with contextlib.suppress(OSError):
            shutil.rmtree(aside, ignore_errors=True)
            directory.rename(aside)

    def _of(self, uid: str) -> Path:
        if not uid or "/" in uid or uid in (".", ".."):
            raise ValueError(f"pod UID {uid!r} cannot name a directory")
        return self._directory / uid

    def _write(self, path: Path, content: Mapping[str, object]) -> None:
        write_atomic(path, msgspec.json.encode({"version": VERSION, **content}))


def _amounts(path: Path) -> dict[str, str]:
    try:
        found = _read(path)["amounts"]
    except (OSError, ValueError, KeyError):
        # What a container has is then taken from its annotation, and set again if it is wrong.
        return {}
    return {str(key): str(text) for key, text in found.items()} if isinstance(found, dict) else {}


def _part(path: Path, read: Callable[[dict[str, object]], _T]) -> _T | None:
    """Return what a file says of a pod; None if there is none, or a damaged one, which is told."""
    try:
        return read(_read(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, DecodeError) as error:
        logs.event(
            _log, logging.WARNING, "damaged part of a checkpoint ignored; it is written anew",
            path=str(path), reason=f"{type(error).__name__}: {error}",
        )  # fmt: skip
        return None


def _read(path: Path) -> dict[str, object]:
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise ValueError(f"{path}: not a checkpoint of version {VERSION}")
    return content
