"""Takes a tar apart as it arrives: nothing is sought in, nothing is kept but the current chunk.

Runs in a thread. The archive comes from anywhere: headers, names, entries and bytes are bounded.
"""

from __future__ import annotations

import posixpath
import tarfile
import zlib
from dataclasses import dataclass
from typing import IO, BinaryIO, Final, Protocol, cast

import zstandard

from runtime.images.errors import MalformedImage
from runtime.images.tar_headers import StrictHeader
from runtime.unpacker.stream import GzipReader

CHUNK: Final = 1 << 20
_READ_AHEAD: Final = 64 * 1024
_MAX_LINKS: Final = 16
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_MAX_ZSTD_WINDOW: Final = 128 << 20
_DAMAGED = (
    *(tarfile.TarError, RecursionError, ValueError, ArithmeticError, LookupError),
    *(zlib.error, zstandard.ZstdError, EOFError),
)
"""What the libraries raise for archives that are damaged, or were made to confuse them."""


@dataclass(frozen=True)
class ArchiveLimits:
    """Bounds on one archive.

    Attributes:
        max_bytes: of the archive, uncompressed.
        max_entries: files, links and directories.
        max_header_bytes: of all headers before one entry.
        max_name: characters of a name.
    """

    max_bytes: int = 256 << 30
    max_entries: int = 100_000
    max_header_bytes: int = 1 << 20
    max_name: int = 4096


class Source(Protocol):
    """Where the archive comes from."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes, none at the end."""
        ...


@dataclass(frozen=True)
class Entry:
    """One entry of the archive.

    Attributes:
        name: normalised, without a leading slash; never leads upwards.
        size: bytes of a file.
        link: what a symbolic or hard link names, as a name of the archive; empty for a file.
    """

    name: str
    size: int = 0
    link: str = ""


class _Peeked:
    """A source whose first bytes were looked at."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.head = b""
        while len(self.head) < 4 and (more := source.read(CHUNK)):
            self.head += more
        self._left = self.head

    def read(self, size: int = -1, /) -> bytes:
        if self._left:
            wanted = len(self._left) if size < 0 else size
            data, self._left = self._left[:wanted], self._left[wanted:]
            return data
        return self._source.read(size if size >= 0 else CHUNK)


def decompressed(source: Source) -> Source:
    """Return the source itself, or what is in it if it is gzip or zstd."""
    peeked = _Peeked(source)
    if peeked.head.startswith(_GZIP):
        return GzipReader(cast(BinaryIO, peeked))
    if peeked.head.startswith(_ZSTD):
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW)
        return decompressor.stream_reader(cast(BinaryIO, peeked), CHUNK, read_across_frames=True)
    return peeked


def layer_compression(head: bytes) -> str:
    """Return how a layer that begins so is compressed: ``gzip``, ``zstd`` or ``none``."""
    if head.startswith(_GZIP):
        return "gzip"
    return "zstd" if head.startswith(_ZSTD) else "none"


class _Counted:
    """The archive's bytes, counted; bounded in all and while headers are read."""

    def __init__(self, source: Source, limits: ArchiveLimits) -> None:
        self._source = source
        self._limits = limits
        self._count = 0
        self._header_end: int | None = None

    def begin_header(self) -> None:
        self._header_end = self._count + self._limits.max_header_bytes + _READ_AHEAD

    def end_header(self) -> None:
        self._header_end = None

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(CHUNK if size < 0 else min(size, CHUNK))
        self._count += len(data)
        if self._count > self._limits.max_bytes:
            raise MalformedImage(
                f"the archive has more than the limit of {self._limits.max_bytes} bytes"
            )
        if self._header_end is not None and self._count > self._header_end:
            raise MalformedImage(
                "the headers before an entry of the archive exceed the limit of "
                f"{self._limits.max_header_bytes} bytes"
            )
        return data


class ArchiveReader:
    """The entries of an archive, one after the other; its methods block.

    Every method raises MalformedImage for an archive that is damaged or exceeds a bound, and what
    the source raises.
    """

    def __init__(self, source: Source, limits: ArchiveLimits) -> None:
        self._raw = source
        self._limits = limits
        self._archive: tarfile.TarFile | None = None
        self._counted: _Counted | None = None
        self._content: IO[bytes] | None = None
        self._left = 0
        self._entries = 0

    def next(self) -> Entry | None:
        """Return the next file or link; None at the end. What was not read of a file is skipped."""
        try:
            return self._next()
        except _DAMAGED as error:
            raise MalformedImage(f"the archive is damaged: {error}") from None

    def _next(self) -> Entry | None:
        archive, counted = self._opened()
        while True:
            # Skipped here: tarfile would do it while it reads the next header, which is bounded.
            while self.read(CHUNK):
                pass
            self._content = None
            counted.begin_header()
            info = archive.next()
            counted.end_header()
            # tarfile remembers every member; that would be memory without bound.
            archive.members = []  # type: ignore[attr-defined]
            if info is None:
                return None
            self._entries += 1
            if self._entries > self._limits.max_entries:
                raise MalformedImage(
                    f"the archive has more than {self._limits.max_entries} entries"
                )
            entry = self._entry(archive, info)
            if entry is not None:
                return entry

    def finish(self) -> None:
        """Take what follows the last entry: padding, and the checksum of a compressed archive."""
        _, counted = self._opened()
        try:
            while counted.read(CHUNK):
                pass
        except _DAMAGED as error:
            raise MalformedImage(f"the archive is damaged: {error}") from None

    def _opened(self) -> tuple[tarfile.TarFile, _Counted]:
        if self._archive is None or self._counted is None:
            self._counted = _Counted(decompressed(self._raw), self._limits)
            self._counted.begin_header()
            # Closed with the call that it serves: there is no file behind it.
            self._archive = tarfile.open(  # noqa: SIM115
                fileobj=cast(IO[bytes], self._counted), mode="r|", bufsize=_READ_AHEAD,
                tarinfo=StrictHeader, encoding="utf-8", errors="surrogateescape",
            )  # fmt: skip
        return self._archive, self._counted

    def _entry(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> Entry | None:
        if info.isdir():
            return None
        name = self._name(info.name)
        if info.issym():
            return Entry(name, link=self._name(posixpath.join(posixpath.dirname(name),
                                                              info.linkname)))  # fmt: skip
        if info.islnk():
            return Entry(name, link=self._name(info.linkname))
        if not info.isreg() or info.sparse is not None:
            raise MalformedImage(
                f"entry {name!r} of the archive is neither file, link nor directory"
            )
        self._content, self._left = archive.extractfile(info), info.size
        return Entry(name, size=info.size)

    def _name(self, text: str) -> str:
        if len(text) > self._limits.max_name:
            raise MalformedImage("an entry of the archive has too long a name")
        name = posixpath.normpath(text.lstrip("/"))
        if name == ".." or name.startswith("../"):
            raise MalformedImage(f"entry {text!a} of the archive leads out of it")
        return name

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes of the current file, none at its end."""
        if self._content is None:
            return b""
        try:
            data = self._content.read(min(size, self._left))
        except _DAMAGED as error:
            raise MalformedImage(f"the archive is damaged: {error}") from None
        if not data and self._left:
            raise MalformedImage("the archive ends in the middle of a file")
        self._left -= len(data)
        return data

    def document(self, entry: Entry, limit: int) -> bytes:
        """Return the whole of the current file, which is a small one."""
        if entry.size > limit:
            raise MalformedImage(f"{entry.name} has {entry.size} bytes, the limit is {limit}")
        parts = []
        while part := self.read(CHUNK):
            parts.append(part)
        return b"".join(parts)


def resolve_link(links: dict[str, str], name: str) -> str:
    """Follow links of the archive from ``name`` to a name that is none.

    Raises:
        MalformedImage: there are too many, such as a circle.
    """
    for _ in range(_MAX_LINKS):
        if name not in links:
            return name
        name = links[name]
    raise MalformedImage(f"{name!a} is a circle of links in the archive")
