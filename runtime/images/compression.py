"""How a layer is compressed: by what it begins with, as peers do, rather than by its media type.

Some tools write the wrong media type; what comes out is checked against its diff id anyway.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from runtime.images.content import disk_errors

_HEAD: Final = 512
_GZIP: Final = b"\x1f\x8b"  # RFC 1952, 2.3.1
_ZSTD: Final = b"\x28\xb5\x2f\xfd"  # RFC 8878, 3.1.1
# RFC 8878, 3.1.2: frames to be skipped; the first byte's low half is anything.
_SKIPPABLE: Final = b"\x2a\x4d\x18"
_TAR_MAGIC: Final = slice(257, 262)


def compression_of(head: bytes, declared: str) -> str:
    """Return ``gzip``, ``zstd`` or ``none``.

    Args:
        head: the first bytes of the layer.
        declared: what its media type says; it counts where the bytes say nothing.
    """
    if head.startswith(_GZIP):
        return "gzip"
    if head.startswith(_ZSTD) or (head[1:4] == _SKIPPABLE and head[0] & 0xF0 == 0x50):
        return "zstd"
    return "none" if head[_TAR_MAGIC] == b"ustar" else declared


def compression_of_blob(path: Path, declared: str) -> str:
    """Return the same of a blob on the disk; blocking.

    Raises:
        StoreError: it cannot be read.
    """
    with disk_errors(f"reading {path}"), open(path, "rb", buffering=0) as file:
        return compression_of(file.read(_HEAD), declared)
