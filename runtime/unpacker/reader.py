"""Reads a layer: inflates, verifies, and parses its archive, in a process that is nobody.

The bytes come from whoever made the image. A weakness in a decompressor or in the parser would give
a process that may do nothing but write to a pipe.
"""

from __future__ import annotations

import os
import resource
import signal
import tarfile
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import IO, BinaryIO, Final, cast

from kubeletpy_common.linux import processes
from runtime.images.errors import ImageError, MalformedImage, UnsafeLayer
from runtime.images.tar_headers import StrictHeader
from runtime.unpacker.entries import Entry, FrameWriter
from runtime.unpacker.limits import UnpackLimits
from runtime.unpacker.names import BadName, shown
from runtime.unpacker.stream import READ_AHEAD, LayerStream

_COPY: Final = 256 * 1024
_NOBODY: Final = 65534
_XATTR_PREFIX: Final = "SCHILY.xattr."
_MAX_SECONDS: Final = 1 << 34
_KINDS: Final = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.GNUTYPE_SPARSE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.LNKTYPE: "hardlink",
    tarfile.SYMTYPE: "symlink",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
}

_PARSER_ERRORS = (tarfile.TarError, RecursionError, ValueError, ArithmeticError, LookupError)
"""What tarfile raises for archives that were made to confuse it."""


@dataclass(frozen=True)
class Packing:
    """How a layer is packed, and what its uncompressed bytes must be."""

    compression: str
    diff_id: str
    limits: UnpackLimits


def confine(blob: int, pipe: int, max_memory: int) -> None:
    """Make this process a nobody who holds two descriptors and can open no other.

    Raises:
        OSError: the kernel refused.
    """
    processes.close_from(3, keep=(blob, pipe))
    resource.setrlimit(resource.RLIMIT_AS, (max_memory, max_memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    processes.set_no_new_privs()
    # No file can be opened and no process made from here on: both are allowed none more.
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    # A change of user clears it.
    processes.set_parent_death_signal(signal.SIGKILL)


def read_layer(blob: BinaryIO, packing: Packing, frames: FrameWriter) -> None:
    """Send all entries of a layer, and at the end whether it was sound.

    Raises:
        OSError: the writer is gone, or the blob cannot be read.
    """
    try:
        _read(blob, packing, frames)
    except ImageError as error:
        frames.fail(error)
    except MemoryError:
        frames.fail(UnsafeLayer("reading it takes more memory than the limit"))
    except _PARSER_ERRORS as error:
        frames.fail(MalformedImage(f"its archive is damaged: {error}"))
    else:
        frames.end()


def _read(blob: BinaryIO, packing: Packing, frames: FrameWriter) -> None:
    stream = LayerStream(blob, packing.compression, packing.diff_id, packing.limits)
    stream.begin_header()
    with tarfile.open(
        fileobj=cast(IO[bytes], stream), mode="r|", bufsize=READ_AHEAD, tarinfo=StrictHeader,
        encoding="utf-8", errors="surrogateescape",
    ) as archive:  # fmt: skip
        while (info := archive.next()) is not None:
            # tarfile remembers every member: a million of them would fill the memory.
            archive.members = []  # type: ignore[attr-defined]
            stream.end_header()
            _send(archive, info, frames)
            stream.begin_header()
    stream.finish()


def _send(archive: tarfile.TarFile, info: tarfile.TarInfo, frames: FrameWriter) -> None:
    entry = _entry(info)
    frames.entry(entry)
    if entry.kind != "file":
        return
    try:
        parts = entry.parts()
    except BadName as error:
        raise UnsafeLayer(f"entry {shown(entry.name)}: {error}") from None
    # Read from the archive's stream itself, where the regions of a sparse file stand one after the
    # other: tarfile's own reader would make up every zero between them.
    source = cast(IO[bytes], archive.fileobj)
    source.seek(info.offset_data)
    for _, size in parts:
        while size:
            data = source.read(min(size, _COPY))
            if not data:
                raise MalformedImage(f"entry {shown(entry.name)}: its content ends early")
            size -= len(data)
            frames.content(data)


def _entry(info: tarfile.TarInfo) -> Entry:
    regions: list[tuple[int, int]] | None = None
    if info.issparse():
        regions = getattr(info, "sparse", None) or []
    xattrs = tuple(
        (key.removeprefix(_XATTR_PREFIX), _bytes(text))
        for key, text in info.pax_headers.items()
        if key.startswith(_XATTR_PREFIX)
    )
    return Entry(
        kind=_KINDS.get(info.type, repr(info.type)),
        name=_bytes(info.name),
        mode=info.mode & 0o7777,
        uid=info.uid,
        gid=info.gid,
        time=modification_time(info),
        size=info.size,
        link=_bytes(info.linkname),
        device=(info.devmajor, info.devminor),
        xattrs=xattrs,
        regions=None if regions is None else tuple(regions),
    )


def _bytes(text: str) -> bytes:
    # tarfile decodes with "surrogateescape", so that this gives back the archive's own bytes.
    return text.encode("utf-8", "surrogateescape")


def modification_time(info: tarfile.TarInfo) -> int:
    """Return nanoseconds since 1970; PAX records keep them, tarfile's float does not."""
    text = info.pax_headers.get("mtime")
    if text is None and isinstance(info.mtime, int) and abs(info.mtime) < _MAX_SECONDS:
        return info.mtime * 1_000_000_000
    try:
        # A Decimal with a huge exponent would be written out in full by int().
        seconds = Decimal(text[:64]) if text is not None else Decimal(str(info.mtime))
        if not seconds.is_finite() or abs(seconds) >= _MAX_SECONDS:
            return 0
        return int(seconds * 1_000_000_000)
    except (InvalidOperation, ValueError):
        return 0
