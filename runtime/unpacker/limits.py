"""Bounds on what one layer may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class UnpackLimits:
    """Bounds on one layer, against decompression bombs.

    Attributes:
        max_bytes: unpacked bytes, the sizes of sparse files included.
        max_entries: files, directories and links.
        max_header_bytes: bytes of all headers (PAX, long names, sparse maps) before one entry.
        max_memory: address space of each of the processes that unpack it, in bytes.
    """

    max_bytes: int = 64 << 30
    max_entries: int = 4_000_000
    max_header_bytes: int = 2 << 20
    max_memory: int = 2 << 30
