"""Checksums of state files as the Go kubelet computes them, so that each reads the other's.

Go hashes (FNV-1a, 32 bits) the text of a value with the types of its fields, maps in the order of
their keys; `struct`, `mapping` and `sequence` write that text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_BASIS, _PRIME = 2166136261, 16777619


def checksum(text: str) -> int:
    """Return the hash of a text."""
    value = _BASIS
    for byte in text.encode():
        value = (value ^ byte) * _PRIME & 0xFFFFFFFF
    return value


def struct(*fields: tuple[str, str, str]) -> str:
    """Return a struct: name, type in Go and text of each field; no type for pointers' content."""
    return "{" + " ".join(f"{name}:({kind}){text}" for name, kind, text in fields) + "}"


def mapping(entries: Mapping[str, str] | Mapping[int, str]) -> str:
    """Return a map; integers are ordered as such."""
    return "map[" + " ".join(f"{key}:{text}" for key, text in sorted(entries.items())) + "]"


def sequence(items: Iterable[object]) -> str:
    """Return a slice."""
    return "[" + " ".join(str(item) for item in items) + "]"
