"""A layer's bytes on their way to the tar reader: decompressed, hashed, and bounded.

Nothing here ever holds more than a chunk in memory, whatever the compressed bytes claim.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import BinaryIO, Final, Protocol

import zstandard

from runtime.images.digests import Hash, algorithm_of, hasher
from runtime.images.errors import DigestMismatch, MalformedImage, UnsafeLayer
from runtime.unpacker.limits import UnpackLimits

CHUNK: Final = 256 * 1024
READ_AHEAD: Final = 32 * 1024
"""Bytes that the tar reader asks for at a time, needed or not."""

# zstd's specification recommends to accept windows up to 8 MiB; `zstd --long` writes 128 MiB.
_MAX_ZSTD_WINDOW: Final = 128 << 20


class Reader(Protocol):
    """A source of bytes; ``read`` returns at most what was asked, empty at the end."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes."""


class GzipReader:
    """Inflates gzip, members one after the other, with bounded output (RFC 1952)."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._inflate = zlib.decompressobj(wbits=31)
        self._pending = b""
        self._started = False

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` inflated bytes.

        Raises:
            zlib.error: it is no gzip, or damaged.
            EOFError: it ends in the middle of a member.
        """
        while True:
            if self._inflate.eof:
                self._next_member()
            if not self._pending:
                self._pending = self._source.read(CHUNK)
            if not self._pending:
                if self._started:
                    raise EOFError("the gzip stream ends early")
                return b""
            self._started = True
            data = self._inflate.decompress(self._pending, size)
            self._pending = self._inflate.unconsumed_tail
            if self._inflate.eof:
                self._pending = self._inflate.unused_data
            if data:
                return data

    def _next_member(self) -> None:
        # gzip(1) ignores zeros behind the last member; some writers pad to a block with them.
        self._pending = self._pending.lstrip(b"\0")
        while not self._pending and (chunk := self._source.read(CHUNK)):
            self._pending = chunk.lstrip(b"\0")
        self._inflate = zlib.decompressobj(wbits=31)
        self._started = False


def _zstd(source: BinaryIO) -> Reader:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW)
    return _ZstdReader(decompressor.stream_reader(source, CHUNK, read_across_frames=True))


class _ZstdReader:
    """Keeps zstandard's reader to this module's protocol."""

    def __init__(self, inner: zstandard.ZstdDecompressionReader) -> None:
        self._inner = inner

    def read(self, size: int, /) -> bytes:
        return self._inner.read(size)


_READERS: Final[dict[str, Callable[[BinaryIO], Reader]]] = {
    "gzip": GzipReader,
    "zstd": _zstd,
    "none": lambda source: source,
}


class LayerStream:
    """The uncompressed bytes of a layer, counted and hashed.

    Bytes are read for entries' contents, or for headers. The tar reader keeps whole headers in
    memory, so between :meth:`begin_header` and :meth:`end_header` only so many bytes are handed
    out: a PAX record, a long name or a sparse map of gigabytes ends there.
    """

    def __init__(
        self,
        source: BinaryIO,
        compression: str,
        diff_id: str,
        limits: UnpackLimits,
    ) -> None:
        """Prepare.

        Args:
            source: the blob.
            compression: ``gzip``, ``zstd`` or ``none``.
            diff_id: the digest that all uncompressed bytes together must have.
            limits: bounds.
        """
        self._reader = _READERS[compression](source)
        self._compression = compression
        self._limits = limits
        self._diff_id = diff_id
        self._hash: Hash = hasher(diff_id)
        self.count = 0
        self._header_end: int | None = None

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes.

        Raises:
            MalformedImage: the compressed bytes are damaged.
            UnsafeLayer: a bound was exceeded.
        """
        try:
            data = self._reader.read(CHUNK if size < 0 else min(size, CHUNK))
        except (zlib.error, zstandard.ZstdError, EOFError) as error:
            raise MalformedImage(f"cannot decompress its {self._compression}: {error}") from None
        self._hash.update(data)
        self.count += len(data)
        if self.count > self._limits.max_bytes:
            raise UnsafeLayer(
                f"it unpacks to more than the limit of {self._limits.max_bytes} bytes"
            )
        if self._header_end is not None and self.count > self._header_end:
            raise UnsafeLayer(
                "the headers before an entry exceed the limit of "
                f"{self._limits.max_header_bytes} bytes"
            )
        return data

    def begin_header(self) -> None:
        """From here on bytes are read for headers."""
        self._header_end = self.count + self._limits.max_header_bytes + READ_AHEAD

    def end_header(self) -> None:
        """From here on bytes are read for an entry's content."""
        self._header_end = None

    def finish(self) -> None:
        """Read to the end, for what follows the archive belongs to the digest; and verify it.

        Raises:
            MalformedImage, UnsafeLayer: as :meth:`read`.
            DigestMismatch: the bytes are not those that the image config promised.
        """
        self.end_header()
        while self.read(CHUNK):
            pass
        found = f"{algorithm_of(self._diff_id)}:{self._hash.hexdigest()}"
        if found != self._diff_id:
            raise DigestMismatch(
                f"its uncompressed bytes have the digest {found}, the image config says "
                f"{self._diff_id}"
            )
