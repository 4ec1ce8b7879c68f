"""Messages of nf_tables as bytes: attributes, headers, and what a dump or an error brings back.

Names are those of ``include/uapi/linux/netfilter/nf_tables.h`` without their prefixes. Numbers of
nf_tables' own attributes are big-endian, those of netlink itself are in the machine's order.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..model.portal import Family

NESTED = 0x8000
_TYPE_MASK = 0x3FFF

SUBSYSTEM = 10
"""NFNL_SUBSYS_NFTABLES."""

BATCH_BEGIN = 0x10
BATCH_END = 0x11

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port."""

_GENERIC = struct.Struct(">BBH")
"""struct nfgenmsg: family, version, resource."""

_ATTRIBUTE = struct.Struct("=HH")

_ELEMENTS = 3
"""NFTA_SET_ELEM_LIST_ELEMENTS."""

NFPROTO = {Family.V4: 2, Family.V6: 10}


class Flags(enum.IntFlag):
    """NLM_F_*: what a request asks for."""

    REQUEST = 0x1
    ACK = 0x4
    DUMP_INTERRUPTED = 0x10
    EXCLUSIVE = 0x200
    DUMP = 0x300
    CREATE = 0x400
    APPEND = 0x800


class Kind(enum.IntEnum):
    """NFT_MSG_*: what a message does, and the words for it."""

    NEW_TABLE = 0
    GET_TABLE = 1
    DELETE_TABLE = 2
    NEW_CHAIN = 3
    GET_CHAIN = 4
    DELETE_CHAIN = 5
    NEW_RULE = 6
    GET_RULE = 7
    DELETE_RULE = 8
    NEW_SET = 9
    GET_SET = 10
    DELETE_SET = 11
    NEW_ELEMENTS = 12
    GET_ELEMENTS = 13
    DELETE_ELEMENTS = 14
    NEW_GENERATION = 15
    GET_GENERATION = 16


@dataclass(frozen=True, slots=True)
class Message:
    """One change of a transaction: its bytes after the netlink header, and the words for it.

    Attributes:
        kind: what it does.
        body: family, version, and attributes.
        text: for an error: what it does, as in "add chain services".
        flags: besides REQUEST.
        element: for a message of many elements: the words for one, of its attributes.
    """

    kind: Kind
    body: bytes
    text: str
    flags: Flags = Flags.CREATE
    element: Callable[[bytes], str] | None = None

    def encode(self, sequence: int, flags: int = 0) -> bytes:
        """Return the message with its header."""
        return (
            HEADER.pack(
                HEADER.size + len(self.body),
                SUBSYSTEM << 8 | self.kind,
                Flags.REQUEST | self.flags | flags,
                sequence,
                0,
            )
            + self.body
        )

    def describe(self, offset: int | None) -> str:
        """Return the words for it; ``offset`` is where in the message the kernel found a fault."""
        if self.element is None or offset is None:
            return self.text
        list_place = _GENERIC.size
        for kind, payload in attributes(self.body, _GENERIC.size):
            if kind == _ELEMENTS:
                place = list_place + 4 + HEADER.size
                for _, each in attributes(payload):
                    size = 4 + len(each) + (-len(each) & 3)
                    if place <= offset < place + size:
                        return f"{self.text}: {self.element(each)}"
                    place += size
            list_place += 4 + len(payload) + (-len(payload) & 3)
        return self.text


def generic(family: int, resource: int = 0) -> bytes:
    """Return a struct nfgenmsg."""
    return _GENERIC.pack(family, 0, resource)


def attribute(kind: int, payload: bytes) -> bytes:
    """Return an attribute, padded."""
    length = len(payload) + 4
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length & 3)


def nest(kind: int, *attributes: bytes) -> bytes:
    """Return an attribute that is made of attributes."""
    payload = b"".join(attributes)
    return _ATTRIBUTE.pack(len(payload) + 4, kind | NESTED) + payload


def number(kind: int, value: int) -> bytes:
    """Return an attribute with an unsigned number of 32 bits."""
    return struct.pack("=HH", 8, kind) + struct.pack(">I", value & 0xFFFFFFFF)


def number64(kind: int, value: int) -> bytes:
    """Return an attribute with an unsigned number of 64 bits."""
    return struct.pack("=HH", 12, kind) + struct.pack(">Q", value)


def string(kind: int, value: str) -> bytes:
    """Return an attribute with a string that ends in NUL."""
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes | memoryview, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield number and payload of each attribute in ``data``; stops at what is malformed."""
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            return
        yield kind & _TYPE_MASK, bytes(data[offset + 4 : offset + length])
        offset += (length + 3) & ~3


def parse(data: bytes | memoryview) -> dict[int, bytes]:
    """Return the attributes of ``data`` by number."""
    return dict(attributes(data))


@dataclass(frozen=True, slots=True)
class Received:
    """A message from the kernel: header fields and what comes after the header."""

    kind: int
    flags: int
    sequence: int
    port: int
    payload: memoryview

    @property
    def attributes(self) -> dict[int, bytes]:
        """The attributes after the struct nfgenmsg, by number."""
        return parse(self.payload[_GENERIC.size :])


def messages(data: bytes) -> Iterator[Received]:
    """Yield the messages in what a socket received; stops at what is malformed."""
    view = memoryview(data)
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, sequence, port = HEADER.unpack_from(data, offset)
        if length < HEADER.size or offset + length > len(data):
            return
        yield Received(kind, flags, sequence, port, view[offset + HEADER.size : offset + length])
        offset += (length + 3) & ~3


def text_of(payload: bytes) -> str:
    """Return the string in an attribute, without its NUL."""
    return payload.rstrip(b"\0").decode("utf-8", "replace")
