"""Header blocks of SPDY/3: names and values, compressed with one state for a whole connection."""

from __future__ import annotations

import struct
import zlib
from typing import Final

from kubeletpy_common.spdy.errors import SpdyError

MAX_BLOCK: Final = 64 << 10
"""Bytes of one uncompressed header block; more is a protocol error, not a reason to allocate."""

_LENGTH: Final = struct.Struct(">I")

# Draft 3.1, section 2.6.10.1: words with their lengths, then one run of text.
_WORDS: Final = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language "
    "accept-ranges age allow authorization cache-control connection content-base content-encoding "
    "content-language content-length content-location content-md5 content-range content-type date "
    "etag expect expires from host if-match if-modified-since if-none-match if-range "
    "if-unmodified-since last-modified location max-forwards pragma proxy-authenticate "
    "proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status"
).split()
_MORE_WORDS: Final = (
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
)
_TEXT: Final = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
    "401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
    "503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 "
    "Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    "application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age="
    "gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _dictionary() -> bytes:
    words = (word.encode() for word in (*_WORDS, *_MORE_WORDS))
    return b"".join(_LENGTH.pack(len(word)) + word for word in words) + _TEXT.encode()


DICTIONARY: Final = _dictionary()

Headers = dict[str, str]


class HeaderEncoder:
    """Makes header blocks; the order of calls must be that of the frames."""

    def __init__(self) -> None:
        # The best level buys nothing for a handful of short headers.
        self._compressor = zlib.compressobj(zdict=DICTIONARY)

    def encode(self, headers: Headers) -> bytes:
        """Return the compressed block; names become lower case, as the draft demands."""
        parts = [_LENGTH.pack(len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode(), value.encode()):
                parts += (_LENGTH.pack(len(text)), text)
        block = self._compressor.compress(b"".join(parts))
        return block + self._compressor.flush(zlib.Z_SYNC_FLUSH)


class HeaderDecoder:
    """Reads header blocks, in the order of their frames."""

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(zdict=DICTIONARY)

    def decode(self, block: bytes) -> Headers:
        """Return the headers, names in lower case.

        Raises:
            SpdyError: the block is corrupt or too large.
        """
        try:
            plain = self._decompressor.decompress(block, MAX_BLOCK)
        except zlib.error as error:
            raise SpdyError(f"header block cannot be decompressed: {error}") from error
        if self._decompressor.unconsumed_tail or len(plain) >= MAX_BLOCK:
            raise SpdyError(f"header block of more than {MAX_BLOCK} bytes")
        return _parse(plain)


def _parse(plain: bytes) -> Headers:
    headers: Headers = {}
    texts: list[str] = []
    try:
        (count,) = _LENGTH.unpack_from(plain)
        position = _LENGTH.size
        for _ in range(2 * count):
            (size,) = _LENGTH.unpack_from(plain, position)
            position += _LENGTH.size
            if position + size > len(plain):
                raise SpdyError("header block ends within a text")
            texts.append(plain[position : position + size].decode("utf-8", "replace"))
            position += size
    except struct.error as error:
        raise SpdyError("header block ends within a length") from error
    for name, value in zip(texts[::2], texts[1::2], strict=True):
        if not name:
            raise SpdyError("header without a name")
        headers[name.lower()] = value
    return headers
