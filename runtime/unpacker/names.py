"""Names in layers: what an entry may be called, and what its name means.

Pure functions on bytes. OCI image specification, layer.md ("Whiteouts"), for the ``.wh.`` names.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

WHITEOUT: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"
_AUFS_METADATA: Final = b".wh..wh."
MAX_PATH: Final = 4095
"""Bytes of a path: the kernel's PATH_MAX without its NUL."""

MAX_COMPONENT: Final = 255


class BadName(ValueError):
    """A name that no layer may hold; the text says why."""


class Kind(enum.Enum):
    """What an entry's name asks for."""

    ENTRY = "entry"
    WHITEOUT = "whiteout"
    OPAQUE = "opaque"
    IGNORED = "ignored"


@dataclass(frozen=True)
class Name:
    """A checked name: the directory's components, and the last one; both empty for the root."""

    kind: Kind
    parents: tuple[bytes, ...]
    last: bytes

    @property
    def parent(self) -> bytes:
        """The directory, relative to the layer's root; ``.`` for the root itself."""
        return b"/".join(self.parents) or b"."


def components(raw: bytes) -> tuple[bytes, ...]:
    """Split a path into its components, confined to the root it is meant for.

    A leading slash is dropped, as tar(1) and all peers do; so are ``.`` and empty components.

    Raises:
        BadName: a ``..``, a NUL, or more bytes than the kernel takes.
    """
    if len(raw) > MAX_PATH:
        raise BadName(f"it is longer than {MAX_PATH} bytes")
    if b"\0" in raw:
        raise BadName("it holds a NUL byte")
    parts = tuple(part for part in raw.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise BadName("it holds '..'")
    if any(len(part) > MAX_COMPONENT for part in parts):
        raise BadName(f"a component is longer than {MAX_COMPONENT} bytes")
    return parts


def classify(raw: bytes) -> Name:
    """Check the name of an entry and tell what it means.

    Raises:
        BadName: as :func:`components`; or a whiteout of nothing, or inside a whiteout.
    """
    parts = components(raw)
    if not parts:
        return Name(Kind.ENTRY, (), b"")
    parents, last = parts[:-1], parts[-1]
    if last == OPAQUE and not any(part.startswith(WHITEOUT) for part in parents):
        return Name(Kind.OPAQUE, parents, b"")
    if any(part.startswith(_AUFS_METADATA) for part in parts):
        # .wh..wh.plnk, .wh..wh.aufs, .wh..wh.orph: an aufs of old left its own files in layers.
        return Name(Kind.IGNORED, parents, last)
    if any(part.startswith(WHITEOUT) for part in parents):
        raise BadName("it lies inside a whiteout")
    if last.startswith(WHITEOUT):
        hidden = last[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise BadName("it is a whiteout of nothing")
        return Name(Kind.WHITEOUT, parents, hidden)
    return Name(Kind.ENTRY, parents, last)


def link_target(raw: bytes) -> Name:
    """Check the target of a hard link, which is a path from the layer's root.

    Raises:
        BadName: as :func:`classify`; or it is the root, or a whiteout.
    """
    name = classify(raw)
    if name.kind is not Kind.ENTRY or not name.last:
        raise BadName("its target is the root or a whiteout")
    return name


def keep_xattr(name: str) -> bool:
    """Tell whether a layer may set this extended attribute.

    ``trusted.*`` would forge overlayfs' own records, ``security.*`` other than file capabilities
    belongs to the host's policy, and ``user.overlay.*`` is overlayfs' where it runs unprivileged.
    """
    if name == "security.capability":
        return True
    return name.startswith("user.") and not name.startswith("user.overlay.") and len(name) > 5


def shown(name: bytes) -> str:
    """Return an entry's name for an error: quoted, escaped, bounded."""
    return ascii(name[:200].decode("utf-8", "surrogateescape"))
