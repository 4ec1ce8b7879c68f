"""Mount options of an OCI configuration, in the kernel's terms (pure)."""

from __future__ import annotations

from kubeletpy_common.linux import mounts as m
from kubeletpy_common.record import Record

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# OCI runtime specification, config.md "Linux mount options": word -> (attributes set, cleared).
_ATTRIBUTES: Final[dict[str, tuple[int, int]]] = {
    "ro": (m.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, m.MOUNT_ATTR_RDONLY),
    "nosuid": (m.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, m.MOUNT_ATTR_NOSUID),
    "nodev": (m.MOUNT_ATTR_NODEV, 0),
    "dev": (0, m.MOUNT_ATTR_NODEV),
    "noexec": (m.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, m.MOUNT_ATTR_NOEXEC),
    "nodiratime": (m.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, m.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (m.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, m.MOUNT_ATTR_NOSYMFOLLOW),
    # The access time mode is one field, not a set of bits: mount_setattr(2) wants it cleared
    # before it is set.
    "noatime": (m.MOUNT_ATTR_NOATIME, m.MOUNT_ATTR__ATIME),
    "relatime": (0, m.MOUNT_ATTR__ATIME),
    "strictatime": (m.MOUNT_ATTR_STRICTATIME, m.MOUNT_ATTR__ATIME),
}

_PROPAGATIONS: Final[dict[str, tuple[int, bool]]] = {
    "private": (m.MS_PRIVATE, False),
    "rprivate": (m.MS_PRIVATE, True),
    "slave": (m.MS_SLAVE, False),
    "rslave": (m.MS_SLAVE, True),
    "shared": (m.MS_SHARED, False),
    "rshared": (m.MS_SHARED, True),
    "unbindable": (m.MS_UNBINDABLE, False),
    "runbindable": (m.MS_UNBINDABLE, True),
}
_IGNORED: Final = frozenset({"defaults", "async", "nolazytime", "nouser"})


class MountOptions(Record):
    """What the ``options`` of one mount ask for.

    Attributes:
        bind: clone an existing tree instead of making a file system.
        recursive: with ``bind``, take the mounts below along.
        attr_set: ``MOUNT_ATTR_*`` to set on the mount itself.
        attr_clr: ``MOUNT_ATTR_*`` to clear on the mount itself.
        recursive_set: ``MOUNT_ATTR_*`` to set on all mounts of the tree (``rro``, KEP-3857).
        propagation: ``MS_PRIVATE``, ``MS_SLAVE``, ``MS_SHARED``, ``MS_UNBINDABLE``; 0: default.
        recursive_propagation: it holds for the mounts below as well.
        parameters: what is left, for the file system: key, and value unless a flag.
    """

    bind: bool = False
    recursive: bool = False
    attr_set: int = 0
    attr_clr: int = 0
    recursive_set: int = 0
    propagation: int = 0
    recursive_propagation: bool = False
    parameters: tuple[tuple[str, str | None], ...] = ()


def parse_options(words: list[str]) -> MountOptions:
    """Sort the words of an OCI mount's ``options``; a later word overrides an earlier one."""
    values: dict[str, int] = {"set": 0, "clr": 0, "rset": 0, "propagation": 0}
    bind = recursive = recursive_propagation = False
    parameters: list[tuple[str, str | None]] = []
    for word in words:
        if word in _ATTRIBUTES:
            added, cleared = _ATTRIBUTES[word]
            values["set"] = values["set"] & ~cleared & ~m.MOUNT_ATTR__ATIME | added \
                if cleared & m.MOUNT_ATTR__ATIME else values["set"] & ~cleared | added  # fmt: skip
            values["clr"] = values["clr"] & ~added | cleared
        elif word.startswith("r") and word[1:] in ("ro", "nosuid", "nodev", "noexec"):
            values["rset"] |= _ATTRIBUTES[word[1:]][0]
        elif word in _PROPAGATIONS:
            values["propagation"], recursive_propagation = _PROPAGATIONS[word]
        elif word in ("bind", "rbind"):
            bind, recursive = True, word == "rbind"
        elif word not in _IGNORED:
            key, equals, value = word.partition("=")
            parameters.append((key, value if equals else None))
    return MountOptions(
        bind=bind,
        recursive=recursive,
        attr_set=values["set"],
        attr_clr=values["clr"],
        recursive_set=values["rset"],
        propagation=values["propagation"],
        recursive_propagation=recursive_propagation,
        parameters=tuple(parameters),
    )
