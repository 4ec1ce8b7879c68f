"""What the tests of unpacking share."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

OPAQUE = "trusted.overlay.opaque"
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""cap_net_bind_service=ep, as the kernel stores it (struct vfs_cap_data, revision 2)."""

Unpack = Callable[..., Path]


def info(kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo()
    made.type = kind
    for key, value in fields.items():
        setattr(made, key, value)
    return made
