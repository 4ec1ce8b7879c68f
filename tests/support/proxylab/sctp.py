"""As much of SCTP (RFC 9260) as opens an association half: INIT and INIT ACK, as bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass

INIT, INIT_ACK = 1, 2
_COOKIE = 7  # State Cookie, section 3.3.3.1
_HEADER = struct.Struct("!HHII")
_INIT = struct.Struct("!BBHIIHHI")


@dataclass(frozen=True)
class Packet:
    """The first chunk of a packet, an INIT or INIT ACK."""

    source: int
    destination: int
    kind: int
    tag: int
    cookie: bytes


def init(source: int, destination: int, tag: int) -> bytes:
    """Return the packet that asks for an association."""
    return _packet(source, destination, 0, INIT, tag, b"")


def init_ack(request: Packet, cookie: bytes) -> bytes:
    """Return the answer to an INIT."""
    parameter = struct.pack("!HH", _COOKIE, 4 + len(cookie)) + cookie
    parameter += b"\0" * (-len(parameter) % 4)
    return _packet(request.destination, request.source, request.tag, INIT_ACK, 0x5EED, parameter)


def parsed(packet: bytes) -> Packet | None:
    """Return what a packet is; None for anything but INIT and INIT ACK."""
    if len(packet) < _HEADER.size + _INIT.size or packet[_HEADER.size] not in (INIT, INIT_ACK):
        return None
    source, destination, _, _ = _HEADER.unpack_from(packet)
    kind, _, _, tag, *_ = _INIT.unpack_from(packet, _HEADER.size)
    rest = packet[_HEADER.size + _INIT.size :]
    cookie = b""
    if len(rest) >= 4:
        what, length = struct.unpack_from("!HH", rest)
        cookie = rest[4:length] if what == _COOKIE else b""
    return Packet(source, destination, kind, tag, cookie)


def _packet(
    source: int, destination: int, verification: int, kind: int, tag: int, more: bytes
) -> bytes:
    chunk = _INIT.pack(kind, 0, _INIT.size + len(more), tag, 65536, 1, 1, 1) + more
    blank = _HEADER.pack(source, destination, verification, 0) + chunk
    # The checksum goes in little-endian order, RFC 9260 appendix A.
    return blank[:8] + struct.pack("<I", _crc32c(blank)) + blank[12:]


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _table()


def _crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
