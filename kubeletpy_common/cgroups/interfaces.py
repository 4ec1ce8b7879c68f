"""Cgroup files as attributes: cgroupspy's descriptors, and those that it lacks.

A controller class lists its files as descriptors; reading an attribute reads the file, setting it
writes the file. cgroupspy 0.2.3 brings the class and the plain formats; what is added here:

- errors that name file, value, reason and remedy;
- file names as text: cgroupspy keeps them as bytes, which ``os.path.join`` refuses beside text;
- writes without ``O_CREAT``: in cgroupfs a missing file then is ENOENT (controller not enabled),
  not the EACCES or EPERM of a forbidden creation;
- formats of cgroup v2 (kernel: Documentation/admin-guide/cgroup-v2.rst, "Format"): value or
  ``max``, flat keyed, nested keyed; unknown or odd lines are skipped, since newer kernels add
  lines to these files.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from cgroupspy.controllers import Controller
from cgroupspy.interfaces import BaseFileInterface

from kubeletpy_common.cgroups.errors import CgroupError, missing

Read = TypeVar("Read")
Written = TypeVar("Written")

_CPU_LIST: Final = re.compile(r"(\d+(-\d+)?(,\d+(-\d+)?)*)?")


class _Node:
    """The one attribute that cgroupspy's controllers ask of a node of its tree."""

    def __init__(self, directory: Path) -> None:
        self.full_path = str(directory)


class ControlFiles(Controller):  # type: ignore[misc]  # cgroupspy has no types
    """The control files in one cgroup directory, with errors that say what to do.

    Raises (on every attribute): :class:`CgroupError`.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(_Node(directory))

    def filepath(self, filename: str | bytes) -> str:
        """Return the full path of a control file."""
        return f"{self.node.full_path}/{os.fsdecode(filename)}"

    def get_property(self, filename: str | bytes) -> str:
        """Return the content of a control file, stripped."""
        path = self.filepath(filename)
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                return file.read().strip()
        except OSError as error:
            raise CgroupError(error.errno or 0, path, "cannot read") from error

    def set_property(self, filename: str | bytes, value: object) -> None:
        """Write a control file in one call, as the kernel takes it."""
        path = self.filepath(filename)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.write(descriptor, str(value).encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            absent = error.errno == errno.ENOENT
            remedy = "enable its controller for this cgroup" if absent else ""
            action = f"cannot write {value!r}"
            raise CgroupError(error.errno or 0, path, action, remedy=remedy) from error

    def has(self, filename: str) -> bool:
        """Tell whether this kernel offers the control file here."""
        return os.path.exists(self.filepath(filename))

    def get(self, attribute: str, default: Any = None) -> Any:
        """Return the value of a descriptor, or ``default`` if its file is not there."""
        try:
            return getattr(self, attribute)
        except CgroupError as error:
            if missing(error):
                return default
            raise


class ControlFile(BaseFileInterface, Generic[Read, Written]):  # type: ignore[misc]
    """cgroupspy's descriptor with types: what reading gives, and what may be set."""

    def __get__(self, instance: ControlFiles, owner: type[ControlFiles] | None = None) -> Read:
        value: Read = super().__get__(instance, owner)
        return value

    def __set__(self, instance: ControlFiles, value: Written) -> None:
        super().__set__(instance, value)


class Text(ControlFile[str, str]):
    """The content as it is."""


class CpuList(ControlFile[str, str]):
    """A list of CPUs or memory nodes as text, ``0-3,8``.

    Text, because cgroupspy's CommaDashSetFile refuses it, and builds a set of every number.
    """

    def sanitize_set(self, value: str) -> str:
        """Refuse what is not such a list; a lone line feed empties the file."""
        if not _CPU_LIST.fullmatch(value):
            name = os.fsdecode(self.filename)
            raise CgroupError(
                errno.EINVAL, name, f"cannot write {value!r}", "not a list like 0-3,8"
            )
        return value or "\n"


class MaxInteger(ControlFile[int | None, int | None]):
    """An integer, or None for ``max``."""

    def sanitize_get(self, value: str) -> int | None:
        """Return None for ``max``."""
        return None if value == "max" else int(value)

    def sanitize_set(self, value: int | None) -> str:
        """Write None as ``max``."""
        return "max" if value is None else str(int(value))


class FlatKeyed(ControlFile[dict[str, int], None]):
    """Lines of ``key value`` as a dict of integers; other lines are skipped."""

    readonly = True

    def sanitize_get(self, value: str) -> dict[str, int]:
        """Parse the lines."""
        return parse_flat_keyed(value)


class NestedKeyed(ControlFile[dict[str, dict[str, str]], None]):
    """Lines of ``key name=value name=value`` as a dict of dicts of text."""

    readonly = True

    def sanitize_get(self, value: str) -> dict[str, dict[str, str]]:
        """Parse the lines."""
        return parse_nested_keyed(value)


class Words(ControlFile[frozenset[str], str]):
    """Space separated words as a frozenset; what is set is written as it is."""

    def sanitize_get(self, value: str) -> frozenset[str]:
        """Split the words."""
        return frozenset(value.split())


@dataclass(frozen=True)
class Bandwidth:
    """CPU time a cgroup may use: ``quota_us`` (None: no limit) in every ``period_us``."""

    quota_us: int | None
    period_us: int


UNLIMITED_BANDWIDTH = Bandwidth(None, 100_000)
"""What a new cgroup has."""


class BandwidthFile(ControlFile[Bandwidth, Bandwidth]):
    """``cpu.max`` of cgroup v2: ``quota period`` in microseconds, quota may be ``max``."""

    def sanitize_get(self, value: str) -> Bandwidth:
        """Parse the two words."""
        quota, period = value.split()
        return Bandwidth(None if quota == "max" else int(quota), int(period))

    def sanitize_set(self, value: Bandwidth) -> str:
        """Write None as ``max``."""
        return f"{'max' if value.quota_us is None else value.quota_us} {value.period_us}"


def parse_flat_keyed(text: str) -> dict[str, int]:
    """Parse lines of ``key value``; lines of another shape are skipped."""
    result = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[1].lstrip("-").isdigit():
            result[words[0]] = int(words[1])
    return result


def parse_nested_keyed(text: str) -> dict[str, dict[str, str]]:
    """Parse lines of ``key name=value ...``; words without ``=`` are skipped."""
    result = {}
    for line in text.splitlines():
        key, *words = line.split() or [""]
        if key:
            result[key] = dict(word.split("=", 1) for word in words if "=" in word)
    return result
