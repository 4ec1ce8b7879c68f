"""Frames of SPDY/3.1 as values, and their bytes (pure)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from kubeletpy_common.spdy.errors import SpdyError
from kubeletpy_common.spdy.headers import HeaderDecoder, HeaderEncoder, Headers

VERSION: Final = 3
MAX_CONTROL: Final = 64 << 10
"""Bytes of a control frame that are accepted."""
MAX_DATA: Final = 4 << 20
"""Bytes of a data frame that are accepted; the draft's limit is 16 MiB, clients send far less."""

FLAG_FIN: Final = 0x01
FLAG_UNIDIRECTIONAL: Final = 0x02

# RST_STREAM, section 2.6.3.
PROTOCOL_ERROR: Final = 1
INVALID_STREAM: Final = 2
REFUSED_STREAM: Final = 3
CANCEL: Final = 5

_SYN_STREAM: Final = 1
_SYN_REPLY: Final = 2
_RST_STREAM: Final = 3
_SETTINGS: Final = 4
_PING: Final = 6
_GOAWAY: Final = 7
_HEADERS: Final = 8
_WINDOW_UPDATE: Final = 9

_CONTROL_BIT: Final = 0x80000000
_ID_MASK: Final = 0x7FFFFFFF
_HEAD: Final = struct.Struct(">II")
_ONE: Final = struct.Struct(">I")
_TWO: Final = struct.Struct(">II")


@dataclass(frozen=True)
class SynStream:
    """The peer opens a stream."""

    stream_id: int
    headers: Headers = field(default_factory=dict)
    fin: bool = False
    priority: int = 0
    associated: int = 0
    unidirectional: bool = False


@dataclass(frozen=True)
class SynReply:
    """A stream is accepted."""

    stream_id: int
    headers: Headers = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True)
class HeadersFrame:
    """More headers for a stream."""

    stream_id: int
    headers: Headers = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True)
class Data:
    """Bytes of a stream."""

    stream_id: int
    data: bytes
    fin: bool = False


@dataclass(frozen=True)
class RstStream:
    """A stream ends at once, in both directions."""

    stream_id: int
    status: int


@dataclass(frozen=True)
class Settings:
    """Settings by their number; flags of single ones are dropped."""

    values: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Ping:
    """To be sent back if its number is of the other side's parity."""

    number: int


@dataclass(frozen=True)
class GoAway:
    """No more streams are wanted."""

    last_stream_id: int
    status: int = 0


@dataclass(frozen=True)
class WindowUpdate:
    """So many more bytes may be sent; stream 0 is the connection."""

    stream_id: int
    delta: int


Frame = (
    SynStream | SynReply | HeadersFrame | Data | RstStream | Settings | Ping | GoAway | WindowUpdate
)


class FrameEncoder:
    """Makes the bytes of frames, for one direction of one connection."""

    def __init__(self) -> None:
        self._headers = HeaderEncoder()

    def encode(self, frame: Frame) -> bytes:
        """Return the frame's bytes; they must be sent in the order of the calls."""
        match frame:
            case Data(stream_id, data, fin):
                return _HEAD.pack(stream_id, (FLAG_FIN * fin) << 24 | len(data)) + data
            case SynStream():
                flags = FLAG_FIN * frame.fin | FLAG_UNIDIRECTIONAL * frame.unidirectional
                body = _TWO.pack(frame.stream_id, frame.associated)
                body += bytes([frame.priority << 5, 0]) + self._headers.encode(frame.headers)
                return _control(_SYN_STREAM, body, flags)
            case SynReply(stream_id, headers, fin):
                body = _ONE.pack(stream_id) + self._headers.encode(headers)
                return _control(_SYN_REPLY, body, FLAG_FIN * fin)
            case HeadersFrame(stream_id, headers, fin):
                body = _ONE.pack(stream_id) + self._headers.encode(headers)
                return _control(_HEADERS, body, FLAG_FIN * fin)
            case RstStream(stream_id, status):
                return _control(_RST_STREAM, _TWO.pack(stream_id, status))
            case Settings(values):
                body = b"".join(_TWO.pack(key, value) for key, value in values.items())
                return _control(_SETTINGS, _ONE.pack(len(values)) + body)
            case Ping(number):
                return _control(_PING, _ONE.pack(number))
            case GoAway(last, status):
                return _control(_GOAWAY, _TWO.pack(last, status))
            case WindowUpdate(stream_id, delta):
                return _control(_WINDOW_UPDATE, _TWO.pack(stream_id, delta))


class FrameDecoder:
    """Cuts bytes into frames, however they arrive, for one direction of one connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._headers = HeaderDecoder()

    def feed(self, data: bytes) -> list[Frame]:
        """Take more bytes, and return the frames that are complete now.

        Raises:
            SpdyError: they are no SPDY/3, or beyond the limits.
        """
        self._buffer += data
        frames: list[Frame] = []
        position = 0
        while len(self._buffer) - position >= _HEAD.size:
            first, second = _HEAD.unpack_from(self._buffer, position)
            size = second & 0xFFFFFF
            _check_size(first, size)
            end = position + _HEAD.size + size
            if len(self._buffer) < end:
                break
            body = bytes(self._buffer[position + _HEAD.size : end])
            position = end
            if not first & _CONTROL_BIT:
                frames.append(Data(first, body, bool(second >> 24 & FLAG_FIN)))
            elif (frame := self._control(first & 0xFFFF, second >> 24, body)) is not None:
                frames.append(frame)
        del self._buffer[:position]
        return frames

    def _control(self, kind: int, flags: int, body: bytes) -> Frame | None:
        try:
            return self._parse(kind, flags, body)
        except struct.error as error:
            raise SpdyError(f"control frame of type {kind} has {len(body)} bytes") from error

    def _parse(self, kind: int, flags: int, body: bytes) -> Frame | None:
        fin = bool(flags & FLAG_FIN)
        first = _ONE.unpack_from(body)[0] & _ID_MASK
        if kind == _SYN_STREAM:
            associated, priority = struct.unpack_from(">IB", body, 4)
            return SynStream(
                first,
                self._headers.decode(body[10:]),
                fin,
                priority >> 5,
                associated & _ID_MASK,
                bool(flags & FLAG_UNIDIRECTIONAL),
            )
        if kind == _SYN_REPLY:
            return SynReply(first, self._headers.decode(body[4:]), fin)
        if kind == _HEADERS:
            return HeadersFrame(first, self._headers.decode(body[4:]), fin)
        if kind == _SETTINGS:
            (count,) = _ONE.unpack_from(body)
            if len(body) != 4 + 8 * count:
                raise SpdyError(f"SETTINGS of {len(body)} bytes for {count} entries")
            entries = struct.iter_unpack(">II", body[4:])
            return Settings({key & 0xFFFFFF: value for key, value in entries})
        if kind == _PING:
            return Ping(_ONE.unpack_from(body)[0])
        second = _TWO.unpack_from(body)[1]
        if kind == _RST_STREAM:
            return RstStream(first, second)
        if kind == _GOAWAY:
            return GoAway(first, second)
        if kind == _WINDOW_UPDATE:
            return WindowUpdate(first, second & _ID_MASK)
        # Section 2.2.1: unknown control frames are ignored.
        return None


def _control(kind: int, body: bytes, flags: int = 0) -> bytes:
    return _HEAD.pack(_CONTROL_BIT | VERSION << 16 | kind, flags << 24 | len(body)) + body


def _check_size(first: int, size: int) -> None:
    if not first & _CONTROL_BIT:
        if size > MAX_DATA:
            raise SpdyError(f"data frame of {size} bytes; {MAX_DATA} at most are accepted")
        return
    if (first >> 16) & 0x7FFF != VERSION:
        raise SpdyError(f"control frame of version {(first >> 16) & 0x7FFF}, not {VERSION}")
    if size > MAX_CONTROL:
        raise SpdyError(f"control frame of {size} bytes; {MAX_CONTROL} at most are accepted")
    if size < 4:
        raise SpdyError(f"control frame of {size} bytes")
