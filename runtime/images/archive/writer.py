"""Writes an archive part by part; every blob is verified on its way out.

Runs in a thread; nothing is held in memory but the current chunk.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import zstandard

from runtime.images.archive.reader import CHUNK, Source, decompressed
from runtime.images.content import disk_errors
from runtime.images.digests import algorithm_of, hasher
from runtime.images.errors import DigestMismatch, MalformedImage, StoreError

_BLOCK: Final = 512
_END: Final = bytes(2 * _BLOCK)


@dataclass(frozen=True)
class Part:
    """A file of the archive to be.

    Attributes:
        name: in the archive.
        size: bytes.
        digest: what its bytes have to have; empty for those given in ``data``.
        blob: where they are read.
        expand: the blob is compressed and goes out uncompressed.
        data: the bytes themselves, for small documents.
    """

    name: str
    size: int
    digest: str = ""
    blob: Path | None = None
    expand: bool = False
    data: bytes = b""


def header(part: Part) -> bytes:
    """Return the tar header; the same for the same content, whenever and by whomever it is made."""
    info = tarfile.TarInfo(part.name)
    info.size, info.mode, info.mtime = part.size, 0o644, 0
    return info.tobuf(tarfile.PAX_FORMAT)


def archive_bytes(parts: Sequence[Part]) -> int:
    """Return the bytes of the whole archive."""
    return sum(len(header(part)) + part.size + _padding(part.size) for part in parts) + len(_END)


def _padding(size: int) -> int:
    return -size % _BLOCK


def write(parts: Sequence[Part]) -> Generator[bytes, None, None]:
    """Yield the archive in chunks.

    Raises:
        DigestMismatch: the disk's copy of a blob is damaged.
        StoreError: it cannot be read.
    """
    for part in parts:
        yield header(part)
        yield from content(part)
        if padding := _padding(part.size):
            yield bytes(padding)
    yield _END


def content(part: Part) -> Iterator[bytes]:
    """Yield the bytes of one file, verified at their end.

    Raises:
        DigestMismatch, StoreError: as :func:`write`.
    """
    if part.blob is None:
        yield part.data
        return
    found, size = hasher(part.digest), 0
    with disk_errors(f"reading blob {part.blob.name}"), open(part.blob, "rb") as file:
        for chunk in _chunks(file, expand=part.expand):
            found.update(chunk)
            size += len(chunk)
            yield chunk
    digest = f"{algorithm_of(part.digest)}:{found.hexdigest()}"
    if digest != part.digest or size != part.size:
        raise DigestMismatch(
            f"blob {part.blob.name} of the store is damaged: {size} bytes of digest {digest}, "
            f"expected {part.size} of {part.digest}; remove the image and pull it again"
        )


def _chunks(file: BinaryIO, *, expand: bool) -> Iterator[bytes]:
    source: Source = decompressed(file) if expand else file
    try:
        while chunk := source.read(CHUNK):
            yield chunk
    except (zlib.error, zstandard.ZstdError, EOFError) as error:
        raise MalformedImage(f"a layer in the store cannot be decompressed: {error}") from None


def expanded_size(path: Path, limit: int) -> int:
    """Return the bytes of a compressed blob once it is decompressed; by doing so.

    Raises:
        MalformedImage: it is damaged, or larger than ``limit``.
        StoreError: it cannot be read.
    """
    size = 0
    with disk_errors(f"reading blob {path.name}"), open(path, "rb") as file:
        for chunk in _chunks(file, expand=True):
            size += len(chunk)
            if size > limit:
                raise StoreError(f"layer {path.name} has more than {limit} bytes unpacked")
    return size
