"""Static pods: the files of a directory, watched by inotify.

As the Go kubelet, it reads every file of the directory whose name does not begin with a dot, one
pod a file, in the order of names; if two files give one pod the later one is refused. A path that
does not exist holds no pods, and is waited for.

A file that is no valid pod is told once, and the last good version of its pod goes on. (The Go
kubelet does so until its next full look at the directory, up to 20 s later, which drops the pod;
a slip of the pen shall not stop a pod here.) A file is not read while somebody writes it, unless
the writer pauses for longer than five seconds.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from asyncinotify import Event, Inotify, Mask

from kubeletpy.api.fields import DUPLICATE, FieldError
from kubeletpy.api.pod import Pod
from kubeletpy_common.documents import LARGEST_MANIFEST

from .static_pods import ManifestError, StaticPod, static_pod
from .updates import PodUpdates, SourceError, diff, pod_key

_Signature = tuple[int, int, int, int]
_WRITE_PAUSE = 5.0
_BATCH = 0.02
"""Events within 20 ms (an editor's rename dance) give one look."""

_WATCHED = (
    Mask.CLOSE_WRITE
    | Mask.MOVED_TO
    | Mask.MOVED_FROM
    | Mask.DELETE
    | Mask.CREATE
    | Mask.MODIFY
    | Mask.ATTRIB
    | Mask.DELETE_SELF
    | Mask.MOVE_SELF
)
_ARRIVALS = Mask.CREATE | Mask.MOVED_TO | Mask.DELETE_SELF | Mask.MOVE_SELF
_GONE = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.IGNORED | Mask.UNMOUNT


@dataclass(frozen=True, slots=True)
class _File:
    """What is known of one file: its last good pod, and what is wrong with it now."""

    signature: _Signature
    good: StaticPod | None = None
    error: SourceError | None = None


class StaticPodSource:
    """The pods of ``--pod-manifest-path``; iterate over it for PodUpdates.

    The kernel's queue of events is the only queue (bounded; when it overflows, all is looked at
    again): while the consumer works, changes add up and come as one update.

    Args:
        path: a directory, or one file.
        node_name: the node's name.
    """

    def __init__(self, path: Path | str, node_name: str) -> None:
        self.path = Path(os.path.abspath(path))
        self._node = node_name
        self._files: dict[str, _File] = {}
        self._pods: dict[str, Pod] = {}
        self._told: dict[str, SourceError] = {}
        self._being_written: dict[str, float] = {}

    async def __aiter__(self) -> AsyncIterator[PodUpdates]:
        first = True
        while True:
            with self._inotify() as inotify:
                watched = self._watch(inotify)
                # What appeared before the watch was set is watched itself, in the next round.
                lost = self._outgrown(watched)
                while not lost:
                    updates = await asyncio.to_thread(self.look)
                    if updates or first:
                        first = False
                        yield updates
                    lost = await self._changed(inotify, watched)

    def look(self) -> PodUpdates:
        """Read what changed since the last look, and return the difference (blocking)."""
        errors: dict[str, SourceError] = {}
        try:
            present = self._present()
        except OSError as error:
            # Not to be seen is not the same as gone: the pods stay.
            errors[str(self.path)] = SourceError(str(self.path), f"cannot be read: {error}")
            present = None
        if present is not None:
            self._files = {name: self._read(name, present[name]) for name in sorted(present)}
        found, duplicates = _pods_of(self._files)
        errors |= {name: file.error for name, file in self._files.items() if file.error}
        errors |= duplicates
        news = tuple(error for key, error in errors.items() if self._told.get(key) != error)
        self._told = errors
        after = {key: each.pod for key, each in found.items()}
        updates = diff(self._pods, after)
        self._pods = after
        fresh = [*updates.added, *(change.new for change in updates.changed)]
        hints = tuple(
            (pod_key(pod), found[pod_key(pod)].hints) for pod in fresh if found[pod_key(pod)].hints
        )
        return replace(updates, errors=news, hints=hints)

    def _present(self) -> dict[str, _Signature]:
        """Return the files to look at by path, with what tells a change of them."""
        try:
            status = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return {}
        if not stat.S_ISDIR(status.st_mode):
            names = [self.path]
        else:
            with os.scandir(self.path) as entries:
                names = [Path(entry.path) for entry in entries if not entry.name.startswith(".")]
        present = {}
        for name in names:
            try:
                status = name.stat()
            except OSError:
                # Removed meanwhile, or a link to nowhere.
                continue
            if not stat.S_ISDIR(status.st_mode):
                present[str(name)] = _signature(status)
        return present

    def _read(self, name: str, signature: _Signature) -> _File:
        known = self._files.get(name)
        if os.path.basename(name) in self._being_written:
            return known or _File((0, 0, 0, 0))
        if known is not None and known.signature == signature:
            return known
        good = known.good if known else None
        try:
            data, signature = _read_bounded(name)
            pod = static_pod(data, file=name, node_name=self._node, seen=datetime.now(UTC))
        except (ManifestError, OSError) as error:
            fields = error.fields if isinstance(error, ManifestError) else ()
            kept = pod_key(good.pod) if good else ""
            return _File(signature, good, SourceError(name, str(error), fields, kept))
        if good is not None and diff({"": good.pod}, {"": pod.pod}).changed == ():
            pod = good
        return _File(signature, pod)

    def _inotify(self) -> Inotify:
        try:
            return Inotify()
        except OSError as error:
            raise OSError(
                error.errno,
                f"static pods {self.path} cannot be watched: {error.strerror}: raise the sysctl "
                "fs.inotify.max_user_instances, or end programs that hold such instances",
            ) from error

    def _watch(self, inotify: Inotify) -> Path:
        """Watch the directory, or what has to appear before it; return what is watched."""
        directory = self.path
        while True:
            mask = _WATCHED if directory in (self.path, self.path.parent) else _ARRIVALS
            try:
                if directory.is_dir():
                    inotify.add_watch(directory, mask | Mask.ONLYDIR)
                    return directory
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"{directory} cannot be watched for static pods: {error.strerror}: if it is "
                    "out of watches, raise the sysctl fs.inotify.max_user_watches",
                ) from error
            if directory == directory.parent:
                raise FileNotFoundError(f"static pods {self.path}: no directory above it exists")
            directory = directory.parent

    async def _changed(self, inotify: Inotify, watched: Path) -> bool:
        """Wait for a change worth a look; return whether something else is to be watched now."""
        deadline: float | None = None
        if self._being_written:
            deadline = min(self._being_written.values()) + _WRITE_PAUSE
        while True:
            wait = None if deadline is None else max(deadline - time.monotonic(), 0)
            try:
                event = await asyncio.wait_for(inotify.get(), wait)
            except TimeoutError:
                self._settle()
                return self._outgrown(watched)
            if event.mask & _GONE:
                self._being_written.clear()
                return True
            if self._note(event, watched):
                deadline = min(deadline or float("inf"), time.monotonic() + _BATCH)
            elif deadline is None and self._being_written:
                deadline = time.monotonic() + _WRITE_PAUSE

    def _note(self, event: Event, watched: Path) -> bool:
        """Take note of an event; return whether it is worth a look."""
        if event.mask & Mask.Q_OVERFLOW:
            self._being_written.clear()
            return True
        name = str(event.name) if event.name is not None else ""
        if watched != self.path:
            # In the place of a path that is a file, or of a directory yet to come.
            relevant = self.path.parts[len(watched.parts)] == name
        else:
            relevant = bool(name) and not name.startswith(".")
        if not relevant:
            return False
        being_written = event.mask & Mask.MODIFY or (
            event.mask & Mask.CREATE and _is_plain(watched / name)
        )
        if being_written:
            self._being_written[name] = time.monotonic()
            return False
        self._being_written.pop(name, None)
        return True

    def _settle(self) -> None:
        oldest = time.monotonic() - _WRITE_PAUSE
        self._being_written = {
            name: since for name, since in self._being_written.items() if since > oldest
        }

    def _outgrown(self, watched: Path) -> bool:
        """Whether the path, or a directory nearer to it, has come to exist."""
        return watched != self.path and (
            self.path.is_dir() or (watched / self.path.parts[len(watched.parts)]).is_dir()
        )


def _pods_of(files: dict[str, _File]) -> tuple[dict[str, StaticPod], dict[str, SourceError]]:
    """Return the pods by namespace/name; of two files with one pod the first wins."""
    pods: dict[str, StaticPod] = {}
    owners: dict[str, str] = {}
    duplicates: dict[str, SourceError] = {}
    for name in sorted(files):
        good = files[name].good
        if good is None:
            continue
        for field, key in (
            ("metadata.name", pod_key(good.pod)),
            ("metadata.uid", good.pod.metadata.uid),
        ):
            if key in owners:
                value = f'"{key}"'
                error = FieldError(field, DUPLICATE, value, f"{owners[key]} has it already")
                duplicates[f"{name} duplicate"] = SourceError(name, str(error), (error,))
                break
        else:
            pods[pod_key(good.pod)] = good
            owners[pod_key(good.pod)] = owners[good.pod.metadata.uid] = name
    return pods, duplicates


def _is_plain(path: Path) -> bool:
    """Whether a new entry is a file that its maker still has to write and close.

    Links, symbolic or hard, are complete when they appear, and nobody closes them.
    """
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _signature(status: os.stat_result) -> _Signature:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read_bounded(name: str) -> tuple[bytes, _Signature]:
    # A FIFO would block the open: O_NONBLOCK opens it, and it is refused below.
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ManifestError("not a regular file")
        return file.read(LARGEST_MANIFEST + 1), _signature(status)
