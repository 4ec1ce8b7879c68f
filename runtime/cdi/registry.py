"""The CDI devices of this machine: spec files, read again when they change."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from kubeletpy_proto import cri_pb2 as cri
from runtime.cdi.spec import CdiError, Edits, Spec, read_spec, split_name

_SUFFIXES = (".json", ".yaml")
_ANNOTATION = "cdi.k8s.io/"

_Stamp = tuple[int, int, int]


class CdiRegistry:
    """Finds devices in directories of spec files; may be used from any thread.

    Of several directories a later one goes before an earlier one. Two files of one directory that
    name the same device make that device unusable, and so does a file that cannot be read.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        """Use the directories, the one with the least say first; they need not exist."""
        self._directories = tuple(directories)
        self._lock = threading.Lock()
        self._files: dict[Path, tuple[_Stamp, Spec | CdiError]] = {}

    def resolve(self, names: Sequence[str]) -> Edits:
        """Return what the devices change, those of a whole file once and before its devices'.

        Raises:
            CdiError: a device is unknown or ambiguous, or a name is no fully qualified one.
        """
        if not names:
            return Edits()
        with self._lock:
            self._refresh()
            found = [self._find(name) for name in dict.fromkeys(names)]
        edits, used = Edits(), set()
        for path, spec, device_edits in found:
            if path not in used:
                used.add(path)
                edits += spec.containerEdits
            edits += device_edits
        return edits

    def _refresh(self) -> None:
        present: dict[Path, _Stamp] = {}
        for directory in self._directories:
            try:
                entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
            except (FileNotFoundError, NotADirectoryError):
                continue
            for entry in entries:
                if entry.name.endswith(_SUFFIXES) and entry.is_file():
                    facts = entry.stat()
                    present[Path(entry.path)] = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        for path in self._files.keys() - present.keys():
            del self._files[path]
        for path, stamp in present.items():
            known = self._files.get(path)
            if known is None or known[0] != stamp:
                self._files[path] = (stamp, _read(path))

    def _find(self, name: str) -> tuple[Path, Spec, Edits]:
        kind, device_name = split_name(name)
        for directory in reversed(self._directories):
            matches = [
                (path, spec, device.containerEdits)
                for path, (_, spec) in self._files.items()
                if path.parent == directory and isinstance(spec, Spec) and spec.kind == kind
                for device in spec.devices
                if device.name == device_name
            ]
            if len(matches) > 1:
                paths = ", ".join(sorted(str(path) for path, _, _ in matches))
                raise CdiError(
                    f"CDI device {name!r} is described by more than one file: {paths}; remove all "
                    "but one"
                )
            if matches:
                return matches[0]
        broken = [str(spec) for _, spec in self._files.values() if isinstance(spec, CdiError)]
        places = ", ".join(str(directory) for directory in self._directories) or "no directory"
        more = f"; and {'; '.join(broken)}" if broken else ""
        raise CdiError(f"CDI device {name!r} is unknown: no spec file in {places} has it{more}")


def requested_names(config: cri.ContainerConfig) -> list[str]:
    """Return the names of the CDI devices of a request: its field, and then its annotations.

    Annotations are how device plugins named devices before the field was there: a key that begins
    with ``cdi.k8s.io/``, and names with commas in between.

    Raises:
        CdiError: a name is empty.
    """
    names = [device.name for device in config.CDI_devices]
    names += _annotated(config.annotations)
    if not all(names):
        raise CdiError("the name of a CDI device is empty")
    return list(dict.fromkeys(names))


def _annotated(annotations: Mapping[str, str]) -> list[str]:
    keys = sorted(key for key in annotations if key.startswith(_ANNOTATION))
    return [name for key in keys for name in annotations[key].split(",")]


def _read(path: Path) -> Spec | CdiError:
    try:
        return read_spec(path)
    except CdiError as error:
        return error
