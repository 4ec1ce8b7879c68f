"""Unpacks one layer: its blob becomes a directory that overlayfs can mount.

Runs in a thread; nothing of it may run on the event loop.
"""

from __future__ import annotations

import errno
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

from runtime.images.content import disk_errors
from runtime.images.errors import ImageError, MalformedImage, UnsafeLayer
from runtime.images.layer_writer import LayerWriter, PendingLink, shown
from runtime.images.settings import UnpackLimits
from runtime.images.tarstream import READ_AHEAD, LayerStream

_BLOCK: Final = 512
_NAMES_AT_FAULT: Final = frozenset(
    {errno.ENAMETOOLONG, errno.ELOOP, errno.EXDEV, errno.ENOTDIR, errno.EMLINK, errno.E2BIG,
     errno.EINVAL, errno.ERANGE, errno.ENOTEMPTY, errno.EISDIR, errno.EEXIST}
)  # fmt: skip
"""Refusals of the kernel that speak of the entry, not of the disk."""

_PARSER_ERRORS = (tarfile.TarError, RecursionError, ValueError, ArithmeticError, LookupError)
"""What tarfile raises for archives that were made to confuse it."""


@dataclass(frozen=True)
class Layer:
    """A blob and what its uncompressed bytes must be."""

    blob: Path
    digest: str
    compression: str
    diff_id: str


@dataclass(frozen=True)
class Unpacked:
    """What needs the lower layers, and what the layer says of them."""

    implied: tuple[bytes, ...]
    pending: tuple[PendingLink, ...]
    opaque_root: bool


class _Header(tarfile.TarInfo):
    """Makes tarfile report a damaged header; it would take one for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        if not buf:
            # An archive of no bytes, or without its two final zero blocks: Go reads it, too.
            buf = bytes(_BLOCK)
        if len(buf) != _BLOCK:
            raise MalformedImage("its archive ends in the middle of a header")
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError:
            if buf.count(0) == _BLOCK:
                raise
            raise MalformedImage("its archive has a damaged header") from None


def unpack(
    layer: Layer, directory: Path, limits: UnpackLimits, check: Callable[[], None]
) -> Unpacked:
    """Unpack ``layer`` into the empty ``directory``, verifying its diff id on the way.

    Args:
        layer: what to unpack.
        directory: the layer's root to be; on failure the caller removes it.
        limits: bounds.
        check: called often; whatever it raises ends the work.

    Raises:
        UnsafeLayer: an entry reaches out of the root, or a bound was exceeded.
        MalformedImage: the blob is damaged.
        DigestMismatch: the uncompressed bytes are not what the image config promised.
        NoSpace, StoreError: the disk is full or failed.
    """
    what = f"layer {layer.digest}"
    with disk_errors(f"unpacking {what}", directory):
        try:
            return _unpack(layer, directory, limits, check)
        except ImageError as error:
            raise type(error)(f"{what}: {error}") from None
        except _PARSER_ERRORS as error:
            raise MalformedImage(f"{what}: its archive is damaged: {error}") from None


def _unpack(
    layer: Layer, directory: Path, limits: UnpackLimits, check: Callable[[], None]
) -> Unpacked:
    root_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(root_fd, 0o755)
        writer = LayerWriter(root_fd, limits)
        try:
            with open(layer.blob, "rb", buffering=0) as blob:
                stream = LayerStream(blob, layer.compression, layer.diff_id, limits, check)
                _apply_all(stream, writer)
                stream.finish()
            writer.set_times()
        finally:
            writer.tree.close()
        implied = tuple(sorted(writer.tree.implied.values()))
        return Unpacked(implied, tuple(writer.pending), writer.opaque_root)
    finally:
        os.close(root_fd)


def _apply_all(stream: LayerStream, writer: LayerWriter) -> None:
    stream.begin_header()
    with tarfile.open(
        fileobj=cast(IO[bytes], stream), mode="r|", bufsize=READ_AHEAD, tarinfo=_Header,
        encoding="utf-8", errors="surrogateescape",
    ) as archive:  # fmt: skip
        while (info := archive.next()) is not None:
            # tarfile remembers every member: a million of them would fill the memory.
            archive.members = []  # type: ignore[attr-defined]
            stream.end_header()
            try:
                writer.apply(archive, info)
            except OSError as error:
                if error.errno in _NAMES_AT_FAULT:
                    raise UnsafeLayer(f"entry {shown(info.name)}: {error}") from error
                raise
            stream.begin_header()
