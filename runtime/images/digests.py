"""Digests of content, as the OCI image specification writes them (descriptor.md, "Digests")."""

from __future__ import annotations

import hashlib
from typing import Protocol

from runtime.images.errors import DigestMismatch, MalformedImage
from runtime.images.reference import is_digest


class Hash(Protocol):
    """What of a hashlib object is used here."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Add ``data``."""

    def hexdigest(self) -> str:
        """Return the digest as lowercase hex digits."""


def algorithm_of(digest: str) -> str:
    """Return ``sha256`` or ``sha512``.

    Raises:
        MalformedImage: ``digest`` is not a digest of one of these.
    """
    if not is_digest(digest):
        raise MalformedImage(f"{digest[:200]!r} is not a sha256 or sha512 digest")
    return digest.partition(":")[0]


def hasher(digest: str) -> Hash:
    """Return a new hash object of the algorithm of ``digest``.

    Raises:
        MalformedImage: as :func:`algorithm_of`.
    """
    return hashlib.new(algorithm_of(digest))


def digest_bytes(data: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of ``data``."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def verify(data: bytes, digest: str, what: str) -> None:
    """Check ``data`` against ``digest``.

    Args:
        data: what arrived.
        digest: what it should be.
        what: named in the error.

    Raises:
        DigestMismatch: they differ.
    """
    found = digest_bytes(data, algorithm_of(digest))
    if found != digest:
        raise DigestMismatch(
            f"{what}: expected {digest}, got {found}; it was damaged or replaced on the way"
        )


def chain_ids(diff_ids: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Return the chain id of every layer, bottom first.

    A chain id names a layer together with all below it (OCI image specification, config.md,
    "Layer ChainID").
    """
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(digest_bytes(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)
