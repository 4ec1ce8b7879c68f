"""Answers of others, for as long as they are good (pure but for the time that is given).

Source: RFC 1035, 4.1; RFC 2308 (negative answers); RFC 8767 is not done: what is too old is gone.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from . import wire

ENTRIES: Final = 10_000
LARGEST: Final = 4096
"""Bytes of an answer that is kept."""
_RECORD: Final = struct.Struct(">HHIH")


@dataclass(frozen=True, slots=True)
class Foreign:
    """An answer of another server, without its id, question and EDNS.

    Attributes:
        flags: of its header.
        counts: of records in answer, authority and additional section.
        body: the records; names in it may point into the question, whose length is ``question``.
        ttls: where in the body the times to live are.
        ttl: seconds for which all of it is good.
    """

    flags: int
    counts: tuple[int, int, int]
    body: bytes
    ttls: tuple[int, ...]
    ttl: int

    @property
    def rcode(self) -> int:
        """How it went."""
        return self.flags & 15

    @property
    def truncated(self) -> bool:
        """Whether it says that it is not all."""
        return bool(self.flags & 0x0200)

    def render(self, query: wire.Query, limit: int, age: int = 0) -> bytes:
        """Return the message for a query, at most ``limit`` bytes; too much is said, not sent."""
        flags = (self.flags & ~0x0110) | (query.flags & 0x0110)
        flags |= 0x0080
        answers, authorities, additional = self.counts
        body = self.body
        opt = b""
        if query.edns:
            opt = struct.pack(
                ">BHHIH", 0, wire.OPT, wire.PAYLOAD, 0x8000 if query.dnssec else 0, 0
            )  # fmt: skip
        if 12 + len(query.question) + len(body) + len(opt) > limit:
            flags |= 0x0200
            answers = authorities = additional = 0
            body = b""
        elif age:
            changed = bytearray(body)
            for at in self.ttls:
                left = int.from_bytes(changed[at : at + 4], "big") - age
                changed[at : at + 4] = max(left, 0).to_bytes(4, "big")
            body = bytes(changed)
        header = struct.pack(
            ">6H", query.ident, flags, 1, answers, authorities, additional + bool(opt)
        )  # fmt: skip
        return b"".join((header, query.question, body, opt))


def read(data: bytes, query: wire.Query, longest: int, longest_negative: int) -> Foreign:
    """Return the answer that a message is.

    Args:
        data: the message.
        query: that it answers; its question is repeated in the message.
        longest, longest_negative: seconds for which answers are taken as good at most.

    Raises:
        ValueError: it is no answer to that.
    """
    try:
        _, flags, questions, *counts = struct.unpack_from(">6H", data)
        end = 12 + len(query.question)
        name, rest = data[12 : end - 4], data[end - 4 : end]
        if not flags & 0x8000 or questions != 1 or name.lower() + rest != query.key:
            raise ValueError("an answer to another question")
        return _records(data, end, flags, counts, (longest, longest_negative))
    except (IndexError, struct.error) as error:
        raise ValueError(f"an answer that ends too early: {error}") from None


def _records(
    data: bytes, begin: int, flags: int, counts: list[int], longest: tuple[int, int]
) -> Foreign:
    """Walk through the records: where their times are, and which is that of EDNS."""
    at = begin
    found: list[int] = []
    times: list[int] = []
    negative: int | None = None
    opt: tuple[int, int] | None = None
    for number in range(sum(counts)):
        start = at
        at = _after_name(data, at)
        kind, _, ttl, length = _RECORD.unpack_from(data, at)
        after = at + _RECORD.size + length
        if after > len(data):
            raise ValueError("a record that is longer than its message")
        if kind == wire.OPT:
            opt = (start, after)
        else:
            found.append(at + 4 - begin)
            # RFC 2181, 8: what has the highest bit set is 0.
            times.append(ttl if ttl < 1 << 31 else 0)
            if kind == wire.SOA and counts[0] <= number < counts[0] + counts[1]:
                minimum = int.from_bytes(data[after - 4 : after], "big")
                negative = min(times[-1], minimum)
        at = after
    body = data[begin:at]
    counted = (counts[0], counts[1], counts[2])
    if opt is not None:
        if opt[1] != at:
            raise ValueError("EDNS that is not at the end")
        body = data[begin : opt[0]]
        counted = (counts[0], counts[1], counts[2] - 1)
    if counts[0]:
        ttl = min(min(times, default=0), longest[0])
    else:
        # RFC 2308, 5: a negative answer without SOA is not kept.
        ttl = 0 if negative is None else min(negative, longest[1])
    return Foreign(flags, counted, body, tuple(found), ttl)


def _after_name(data: bytes, at: int) -> int:
    while (length := data[at]) != 0:
        if length >= 0xC0:
            return at + 2
        at += length + 1
    return at + 1


class Cache:
    """The answers of others that are still good, those asked for last.

    Args:
        entries: how many at most.
    """

    def __init__(self, entries: int = ENTRIES) -> None:
        self._entries = entries
        self._kept: OrderedDict[bytes, tuple[float, Foreign]] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes, now: float) -> tuple[Foreign, int] | None:
        """Return an answer that is still good, and its age in seconds."""
        entry = self._kept.get(key)
        if entry is not None:
            came, foreign = entry
            if now - came < foreign.ttl:
                self._kept.move_to_end(key)
                self.hits += 1
                return foreign, int(now - came)
            del self._kept[key]
        self.misses += 1
        return None

    def put(self, key: bytes, foreign: Foreign, now: float) -> None:
        """Keep an answer, if it may be kept."""
        usable = foreign.rcode in (wire.NOERROR, wire.NXDOMAIN) and not foreign.truncated
        if not usable or foreign.ttl <= 0 or len(foreign.body) > LARGEST or not self._entries:
            return
        self._kept[key] = (now, foreign)
        self._kept.move_to_end(key)
        if len(self._kept) > self._entries:
            self._kept.popitem(last=False)
