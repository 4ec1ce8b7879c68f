"""Messages of DNS as bytes: queries are read, answers are put together (pure).

Source: RFC 1035; RFC 6891 (EDNS); RFC 8482 (queries for ANY).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.flags
import dns.message

A: Final = 1
NS: Final = 2
CNAME: Final = 5
SOA: Final = 6
PTR: Final = 12
HINFO: Final = 13
TXT: Final = 16
AAAA: Final = 28
SRV: Final = 33
OPT: Final = 41
AXFR: Final = 252
IXFR: Final = 251
ANY: Final = 255
IN: Final = 1

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5
BADVERS: Final = 16

PLAIN_SIZE: Final = 512
"""Bytes of an answer by UDP to who says nothing else (RFC 1035, 2.3.4)."""
PAYLOAD: Final = 1232
"""Bytes of an answer by UDP that no network has to take to pieces (DNS flag day 2020)."""
TCP_SIZE: Final = 65535
SELF: Final = b"\xc0\x0c"
"""Owner of a record: the name that was asked for, which begins after the header."""

_HEADER: Final = struct.Struct(">6H")
_TAIL: Final = struct.Struct(">2H")
_OPT: Final = struct.Struct(">BHHBBHH")
_RECORD: Final = struct.Struct(">HHIH")
_RESPONSE: Final = 0x8000
_AUTHORITATIVE: Final = 0x0400
_TRUNCATED: Final = 0x0200
_AVAILABLE: Final = 0x0080
_KEPT: Final = 0x0110  # RD and CD are given back as they came
_DO: Final = 0x8000
_LONGEST_NAME: Final = 255
_LONGEST_LABEL: Final = 63


class MalformedError(ValueError):
    """A message that is no query that could be answered.

    Attributes:
        answer: what is said to that; empty: nothing.
    """

    def __init__(self, text: str, answer: bytes = b"") -> None:
        super().__init__(text)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Query:
    """A question.

    Attributes:
        ident: of the message.
        flags: of it.
        question: name, type and class, as they came.
        name: the name as it came, in wire format.
        key: name in lower case, type and class: the same for the same question.
        kind: type that is asked for.
        klass: class.
        size: bytes that the answer may have by UDP.
        edns: whether the query has EDNS, so that the answer must.
        dnssec: whether DNSSEC's records are wanted.
        version: of EDNS.
    """

    ident: int
    flags: int
    question: bytes
    name: bytes
    key: bytes
    kind: int
    klass: int
    size: int = PLAIN_SIZE
    edns: bool = False
    dnssec: bool = False
    version: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to a question; records are in wire format.

    Attributes:
        rcode: how it went.
        records, authority, additional: the sections.
        authoritative: whether we say so ourselves.
    """

    rcode: int = NOERROR
    records: tuple[bytes, ...] = ()
    authority: tuple[bytes, ...] = ()
    additional: tuple[bytes, ...] = ()
    authoritative: bool = True


def parse(data: bytes) -> Query:
    """Return the question of a message.

    Raises:
        MalformedError: it is none, or not one alone.
    """
    if len(data) < _HEADER.size:
        raise MalformedError("shorter than a header")
    ident, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _RESPONSE:
        raise MalformedError("an answer, not a query")
    if flags & 0x7800:
        raise MalformedError("not a query by opcode", _bare(ident, flags, NOTIMP))
    if questions != 1 or answers or authorities:
        raise MalformedError("not one question alone", _bare(ident, flags, FORMERR))
    try:
        end = _end_of_name(data, _HEADER.size)
        kind, klass = _TAIL.unpack_from(data, end)
    except (IndexError, struct.error, ValueError) as error:
        raise MalformedError(f"no question: {error}", _bare(ident, flags, FORMERR)) from None
    name = data[_HEADER.size : end]
    question = data[_HEADER.size : end + 4]
    # Lengths of labels are less than any letter: lower() leaves them alone.
    key = name.lower() + question[-4:]
    if not additional:
        return Query(ident, flags, question, name, key, kind, klass)
    size, edns, dnssec, version = _edns(data, end + 4, additional, ident, flags)
    return Query(ident, flags, question, name, key, kind, klass, size, edns, dnssec, version)


def _edns(
    data: bytes, offset: int, count: int, ident: int, flags: int
) -> tuple[int, bool, bool, int]:
    """Return size, presence, DO and version of EDNS."""
    if count == 1 and len(data) >= offset + _OPT.size:
        owner, kind, size, _, version, bits, length = _OPT.unpack_from(data, offset)
        if owner == 0 and kind == OPT and offset + _OPT.size + length == len(data):
            return max(size, PLAIN_SIZE), True, bool(bits & _DO), version
    try:
        message = dns.message.from_wire(data, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError) as error:
        raise MalformedError(f"cannot be read: {error}", _bare(ident, flags, FORMERR)) from None
    if message.edns < 0:
        return PLAIN_SIZE, False, False, 0
    wanted = bool(message.ednsflags & dns.flags.DO)
    return max(message.payload, PLAIN_SIZE), True, wanted, message.edns


def _end_of_name(data: bytes, offset: int) -> int:
    begin = offset
    while (length := data[offset]) != 0:
        if length > _LONGEST_LABEL:
            raise ValueError("a label of a question is longer than 63 bytes or elsewhere")
        offset += length + 1
        if offset - begin > _LONGEST_NAME:
            raise ValueError("a name is longer than 255 bytes")
    return offset + 1


def _bare(ident: int, flags: int, rcode: int) -> bytes:
    """Return an answer that does not even repeat the question."""
    return _HEADER.pack(ident, _RESPONSE | (flags & 0x7900) | rcode, 0, 0, 0, 0)


def labels(name: bytes) -> list[str]:
    """Return the labels of a name in wire format, in lower case, without the root."""
    found: list[str] = []
    offset = 0
    while length := name[offset]:
        found.append(name[offset + 1 : offset + 1 + length].decode("latin-1").lower())
        offset += length + 1
    return found


def name_wire(*parts: str) -> bytes:
    """Return a name of labels in wire format."""
    pieces = [part.encode("latin-1") for part in parts]
    return b"".join(bytes((len(piece),)) + piece for piece in pieces) + b"\0"


def record(owner: bytes, kind: int, ttl: int, data: bytes) -> bytes:
    """Return a record of class IN."""
    return owner + _RECORD.pack(kind, IN, ttl, len(data)) + data


def compose(query: Query, answer: Answer, limit: int, turn: int = 0) -> bytes:
    """Return the message that answers a query.

    Args:
        limit: bytes that it may have; records that do not fit are left out, which the message
            says, the additional ones first and silently.
        turn: by how many the records are turned, so that not all take the first of them.
    """
    records = answer.records
    if turn and len(records) > 1:
        first = turn % len(records)
        records = records[first:] + records[:first]
    flags = _RESPONSE | _AVAILABLE | (query.flags & _KEPT) | (answer.rcode & 15)
    if answer.authoritative:
        flags |= _AUTHORITATIVE
    opt = b""
    if query.edns:
        bits = _DO if query.dnssec else 0
        opt = _OPT.pack(0, OPT, PAYLOAD, answer.rcode >> 4, 0, bits, 0)
    additional, authority = answer.additional, answer.authority
    room = limit - _HEADER.size - len(query.question) - len(opt)
    size = sum(map(len, records)) + sum(map(len, authority))
    if size + sum(map(len, additional)) > room:
        additional = ()
    if size > room:
        flags |= _TRUNCATED
        records, authority = _fitting(records, room), ()
    count = len(additional) + bool(opt)
    header = _HEADER.pack(query.ident, flags, 1, len(records), len(authority), count)
    return b"".join((header, query.question, *records, *authority, *additional, opt))


def _fitting(records: tuple[bytes, ...], room: int) -> tuple[bytes, ...]:
    for count, each in enumerate(records):
        room -= len(each)
        if room < 0:
            return records[:count]
    return records


def limit_of(query: Query) -> int:
    """Return how many bytes an answer by UDP may have."""
    return min(query.size, PAYLOAD)
