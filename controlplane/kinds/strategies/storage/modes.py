"""How volumes can be used, and how large they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import forbidden, required, unsupported, wrong
from controlplane.kinds.quantity import parse

MODES: Final = ("Block", "Filesystem")
"""Of volumes."""

_ACCESS: Final = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX",
                  "ReadWriteOncePod": "RWOP"}  # fmt: skip


def check_access_modes(modes: Iterable[str], path: str) -> list[Cause]:
    """Return what is wrong with access modes, of which there must be one at least."""
    found = list(modes)
    if not found:
        return [required(path, "at least 1 access mode is required")]
    causes = [unsupported(path, mode, sorted(_ACCESS)) for mode in found if mode not in _ACCESS]
    known = {mode for mode in found if mode in _ACCESS}
    if "ReadWriteOncePod" in known and len(known) > 1:
        causes.append(forbidden(path, "may not use ReadWriteOncePod with other access modes"))
    return causes


def check_size(size: str, path: str) -> list[Cause]:
    """Refuse sizes that are not above 0."""
    return [] if parse(size) > 0 else [wrong(path, size, "must be greater than zero")]


def short_modes(modes: Iterable[str]) -> str:
    """Return access modes by their short names, in the order in which tables have them."""
    found = set(modes)
    return ",".join(short for mode, short in _ACCESS.items() if mode in found)
