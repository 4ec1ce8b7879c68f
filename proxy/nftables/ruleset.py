"""Tables, chains, rules, sets and their elements: as text, and as messages of nf_tables."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..model.portal import Family
from .fields import DataType, Field, Key, data, native, note, show_key
from .statements import Statement, verdict
from .wire import (
    NESTED,
    NFPROTO,
    Flags,
    Kind,
    Message,
    attribute,
    attributes,
    generic,
    nest,
    number,
    number64,
    parse,
    string,
    text_of,
)

_COMMENT_SIZE = 127
"""Characters of a comment; with the NUL that is what nft prints."""

_ELEMENT_LIST_SIZE = 48_000
"""Bytes of elements in one message; an attribute has less than 64 KiB."""

_SET_INTERVAL = 0x4
_SET_MAP = 0x8
_SET_TIMEOUT = 0x10
_SET_DYNAMIC = 0x20
_INTERVAL_END = 1
_DYNAMIC_SIZE = 65_535


class Element(NamedTuple):
    """A member of a set; a tuple, since a cluster has hundreds of thousands.

    Attributes:
        verdict: what a verdict map has for it: a word and a chain.
        value: what another map has for it.
        interval_end: the first value after an interval.
        expires_ms: what is left of its time; 0 for the set's time-out.
    """

    key: bytes
    verdict: tuple[str, str] | None = None
    value: bytes = b""
    comment: str = ""
    interval_end: bool = False
    expires_ms: int = 0


@dataclass(frozen=True, slots=True)
class SetSpec:
    """A set, or a map if it has a value.

    Attributes:
        key: what it is looked up by.
        value: what its values would be in a packet; nothing for a set and for a verdict map.
        timeout: seconds after which packets' elements go; makes it dynamic.
        interval: elements are bounds of intervals.
    """

    name: str
    key: Key
    value: tuple[Field, ...] = ()
    is_verdict_map: bool = False
    timeout: int = 0
    interval: bool = False
    comment: str = ""

    @property
    def by_typeof(self) -> bool:
        """Whether a field of the key has no type of its own."""
        return Field.INDEX in self.key.fields

    def value_types(self, family: Family) -> tuple[DataType, ...]:
        """Return the types of the parts of a value."""
        if self.is_verdict_map:
            return (DataType.VERDICT,)
        return tuple(each.type(family) for each in self.value)


@dataclass(frozen=True, slots=True)
class Rule:
    """Statements, one after the other."""

    statements: tuple[Statement, ...]
    comment: str = ""

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        words = " ".join(each.text(family) for each in self.statements)
        return f'{words} comment "{self.comment}"' if self.comment else words


@dataclass(frozen=True, slots=True)
class Hook:
    """Where packets enter a base chain; ``number`` is the kernel's of ``place``."""

    type: str
    place: str
    priority: int

    @property
    def number(self) -> int:
        """NF_INET_*."""
        return ("prerouting", "input", "forward", "output", "postrouting").index(self.place)


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain with all of its rules."""

    name: str
    rules: tuple[Rule, ...] = ()
    hook: Hook | None = None
    comment: str = ""


@dataclass(slots=True)
class Table:
    """A whole table, for its text."""

    name: str
    family: Family
    comment: str
    sets: dict[str, SetSpec] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)
    elements: dict[str, list[Element]] = field(default_factory=dict)

    def text(self) -> str:
        """Return it as ``nft -f`` reads it."""
        family = "ip" if self.family is Family.V4 else "ip6"
        lines = [f"table {family} {self.name} {{", f'\tcomment "{self.comment}"', ""]
        for spec in self.sets.values():
            lines += _set_lines(spec, self.family, self.elements.get(spec.name, ()))
        for chain in self.chains.values():
            lines += _chain_lines(chain, self.family)
        lines.append("}")
        return "\n".join(lines) + "\n"


def _set_lines(spec: SetSpec, family: Family, elements: Sequence[Element]) -> Iterator[str]:
    is_map = bool(spec.value) or spec.is_verdict_map
    yield f"\t{'map' if is_map else 'set'} {spec.name} {{"
    if spec.by_typeof:
        value = "verdict" if spec.is_verdict_map else Key(spec.value).text(family)
        yield f"\t\ttypeof {spec.key.text(family)} : {value}"
    else:
        types = " . ".join(each.word for each in spec.key.types(family))
        value = " . ".join(each.word for each in spec.value_types(family))
        yield f"\t\ttype {types}{' : ' + value if is_map else ''}"
    if spec.timeout:
        yield f"\t\tsize {_DYNAMIC_SIZE}"
        yield "\t\tflags dynamic,timeout"
        yield f"\t\ttimeout {spec.timeout}s"
    if spec.interval:
        yield "\t\tflags interval"
    if spec.comment:
        yield f'\t\tcomment "{spec.comment}"'
    words = _element_words(spec, family, elements)
    if words:
        yield "\t\telements = {"
        yield ",\n".join(f"\t\t\t{each}" for each in words)
        yield "\t\t}"
    yield "\t}"
    yield ""


def _element_words(spec: SetSpec, family: Family, elements: Sequence[Element]) -> list[str]:
    types = spec.key.types(family)
    if not spec.interval:
        return [element_text(each, types, spec.value_types(family)) for each in elements]
    words = []
    for start, end in intervals(elements, types[0].width):
        first = types[0].show(start)
        words.append(first if start == end else f"{first}-{types[0].show(end)}")
    return words


def intervals(elements: Sequence[Element], width: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield first and last of each interval that ``elements`` bound."""
    start: bytes | None = None
    for each in elements:
        if not each.interval_end:
            start = each.key
        elif start is not None:
            last = int.from_bytes(each.key, "big") - 1
            yield start, last.to_bytes(width, "big")
            start = None
    if start is not None:
        yield start, b"\xff" * width


def element_text(
    element: Element, types: tuple[DataType, ...], value_types: tuple[DataType, ...]
) -> str:
    """Return an element as the rule language writes it."""
    words = show_key(types, element.key)
    if element.comment:
        words += f' comment "{element.comment}"'
    if element.verdict is not None:
        return f"{words} : {' '.join(element.verdict).rstrip()}"
    return f"{words} : {show_key(value_types, element.value)}" if element.value else words


def _chain_lines(chain: Chain, family: Family) -> Iterator[str]:
    yield f"\tchain {chain.name} {{"
    if chain.comment:
        yield f'\t\tcomment "{chain.comment}"'
    if chain.hook:
        hook = chain.hook
        yield f"\t\ttype {hook.type} hook {hook.place} priority {hook.priority}; policy accept;"
    for rule in chain.rules:
        yield f"\t\t{rule.text(family)}"
    yield "\t}"
    yield ""


class Encoder:
    """Makes messages about one table."""

    def __init__(self, table: str, family: Family) -> None:
        self.table = table
        self.family = family
        self._start = generic(NFPROTO[family]) + string(1, table)
        self._sets = 0

    def new_table(self, comment: str) -> Message:
        """Return the message that makes the table."""
        userdata = attribute(6, note(0, comment.encode() + b"\0"))
        body = self._start + number(2, 0) + userdata
        return Message(Kind.NEW_TABLE, body, f"add table {self.table}")

    def delete_table(self) -> Message:
        """Return the message that removes the table and all in it."""
        return Message(Kind.DELETE_TABLE, self._start, f"delete table {self.table}", Flags(0))

    def new_chain(self, chain: Chain) -> Message:
        """Return the message that makes a chain, without its rules."""
        parts = [self._start, string(3, chain.name)]
        if chain.hook:
            hook = nest(4, number(1, chain.hook.number), number(2, chain.hook.priority))
            parts += [string(7, chain.hook.type), hook]
        if chain.comment:
            parts.append(attribute(12, note(0, chain.comment.encode() + b"\0")))
        return Message(Kind.NEW_CHAIN, b"".join(parts), f"add chain {chain.name}")

    def flush_chain(self, name: str) -> Message:
        """Return the message that removes a chain's rules."""
        body = self._start + string(2, name)
        return Message(Kind.DELETE_RULE, body, f"flush chain {name}", Flags(0))

    def delete_chain(self, name: str) -> Message:
        """Return the message that removes an empty chain."""
        body = self._start + string(3, name)
        return Message(Kind.DELETE_CHAIN, body, f"delete chain {name}", Flags(0))

    def new_rule(self, chain: str, rule: Rule) -> Message:
        """Return the message that appends a rule."""
        parts = [self._start, string(2, chain)]
        parts.append(nest(4, *(each.encode(self.family) for each in rule.statements)))
        if rule.comment:
            parts.append(attribute(7, note(0, rule.comment.encode() + b"\0")))
        return Message(
            Kind.NEW_RULE,
            b"".join(parts),
            f"add rule {chain} {rule.text(self.family)}",
            Flags.CREATE | Flags.APPEND,
        )

    def new_set(self, spec: SetSpec) -> Message:
        """Return the message that makes an empty set."""
        self._sets += 1
        types = spec.key.types(self.family)
        parts = [
            self._start,
            string(2, spec.name),
            number(3, _set_flags(spec)),
            number(4, _joined(types)),
            number(5, sum(each.width for each in types)),
        ]
        if spec.is_verdict_map:
            parts += [number(6, DataType.VERDICT.number), number(7, 0)]
        elif spec.value:
            values = spec.value_types(self.family)
            parts += [number(6, _joined(values)), number(7, sum(each.width for each in values))]
        parts.append(number(10, self._sets))
        if spec.timeout:
            parts += [number64(11, spec.timeout * 1000), nest(9, number(1, _DYNAMIC_SIZE))]
        parts.append(attribute(13, _set_notes(spec, self.family)))
        return Message(Kind.NEW_SET, b"".join(parts), f"add set {spec.name}")

    def delete_set(self, name: str) -> Message:
        """Return the message that removes a set that no rule uses."""
        body = self._start + string(2, name)
        return Message(Kind.DELETE_SET, body, f"delete set {name}", Flags(0))

    def add_elements(self, spec: SetSpec, elements: Iterable[Element]) -> Iterator[Message]:
        """Yield messages that put elements into a set."""
        return self._elements(Kind.NEW_ELEMENTS, "add to", spec, elements)

    def delete_elements(self, spec: SetSpec, elements: Iterable[Element]) -> Iterator[Message]:
        """Yield messages that remove elements of a set."""
        return self._elements(Kind.DELETE_ELEMENTS, "remove from", spec, elements)

    def _elements(
        self, kind: Kind, verb: str, spec: SetSpec, elements: Iterable[Element]
    ) -> Iterator[Message]:
        head = self._start + string(2, spec.name)
        flags = Flags.CREATE if kind is Kind.NEW_ELEMENTS else Flags(0)
        types, value_types = spec.key.types(self.family), spec.value_types(self.family)

        def show(payload: bytes) -> str:
            return element_text(decode_element(payload), types, value_types)

        def message() -> Message:
            body = b"".join((head, nest(3, *parts)))
            return Message(kind, body, f"{verb} {spec.name}", flags, show)

        parts: list[bytes] = []
        size = 0
        encode = encode_key if kind is Kind.DELETE_ELEMENTS else encode_element
        for element in elements:
            encoded = encode(element)
            parts.append(encoded)
            size += len(encoded)
            if size > _ELEMENT_LIST_SIZE:
                yield message()
                parts, size = [], 0
        if parts:
            yield message()


def encode_element(element: Element) -> bytes:
    """Return an element as an attribute of the list of a message."""
    key = element.key
    length = len(key)
    # Attributes by hand: this runs for every endpoint of a cluster.
    body = (length + 8).to_bytes(2, _ORDER) + _KEY + (length + 4).to_bytes(2, _ORDER) + _VALUE + key
    if element.verdict is not None:
        body += _verdict_data(element.verdict)
    elif element.value:
        body += data(2, element.value)
    if element.interval_end:
        body = number(3, _INTERVAL_END) + body
    if element.expires_ms:
        body += number64(5, element.expires_ms)
    if element.comment:
        body += attribute(6, note(0, element.comment.encode() + b"\0"))
    return (len(body) + 4).to_bytes(2, _ORDER) + _LIST_ELEMENT + body


def encode_key(element: Element) -> bytes:
    """Return what names an element to be removed."""
    flags = number(3, _INTERVAL_END) if element.interval_end else b""
    return nest(1, flags, data(1, element.key))


def decode_element(payload: bytes) -> Element:
    """Return the element of an attribute that `encode_element` or the kernel made."""
    found = parse(payload)
    value = b""
    decided = None
    if 2 in found:
        inside = parse(found[2])
        value = inside.get(1, b"")
        if 2 in inside:
            parts = parse(inside[2])
            code = int.from_bytes(parts[1], "big", signed=True)
            decided = (_VERDICT_WORDS.get(code, str(code)), text_of(parts.get(2, b"")))
    notes = found.get(6, b"")
    return Element(
        key=parse(found[1])[1] if 1 in found else b"",
        verdict=decided,
        value=value,
        comment=text_of(notes[2:]) if notes[:1] == b"\0" else "",
        interval_end=bool(int.from_bytes(found.get(3, b"\0"), "big") & _INTERVAL_END),
        expires_ms=int.from_bytes(found.get(5, b"\0"), "big"),
    )


def elements_of(dump: Iterable[Mapping[int, bytes]]) -> Iterator[Element]:
    """Yield the elements in what a dump of a set brought."""
    for part in dump:
        for _, payload in attributes(part.get(3, b"")):
            yield decode_element(payload)


def shortened(comment: str) -> str:
    """Return a comment that nft can print."""
    return comment[:_COMMENT_SIZE]


_ORDER = sys.byteorder
_KEY = (1 | NESTED).to_bytes(2, _ORDER)
_VALUE = (1).to_bytes(2, _ORDER)
_LIST_ELEMENT = (1 | NESTED).to_bytes(2, _ORDER)
_VERDICT_WORDS = {0: "drop", 1: "accept", -3: "jump", -4: "goto", -5: "return"}
_verdicts: dict[tuple[str, str], bytes] = {}


def _verdict_data(decided: tuple[str, str]) -> bytes:
    """Return the attribute of an element's verdict; there are few different ones."""
    found = _verdicts.get(decided)
    if found is None:
        if len(_verdicts) > 10_000:
            _verdicts.clear()
        found = _verdicts[decided] = nest(2, verdict(*decided))
    return found


def _joined(types: Sequence[DataType]) -> int:
    """Return the number of a concatenation of types, as nft counts: 6 bits for each."""
    joined = 0
    for each in types:
        joined = joined << 6 | each.number
    return joined


def _set_flags(spec: SetSpec) -> int:
    flags = 0
    if spec.value or spec.is_verdict_map:
        flags |= _SET_MAP
    if spec.timeout:
        flags |= _SET_TIMEOUT | _SET_DYNAMIC
    if spec.interval:
        flags |= _SET_INTERVAL
    return flags


_HOST_ENDIAN = 1
_BIG_ENDIAN = 2
_TYPEOF_VERDICT = note(0, native(1)) + note(1, b"")
_KEY_BYTE_ORDER, _VALUE_BYTE_ORDER, _KEY_TYPEOF, _VALUE_TYPEOF, _VALUE_IS_INTERVAL, _COMMENT = (
    0,
    1,
    3,
    4,
    6,
    7,
)


def _set_notes(spec: SetSpec, family: Family) -> bytes:
    """Return what nft keeps beside a set: byte orders, ``typeof``, and the comment."""
    single = spec.key.fields[0] if len(spec.key.fields) == 1 else None
    order = 0 if single is None else _HOST_ENDIAN if single is Field.INDEX else _BIG_ENDIAN
    notes = note(_KEY_BYTE_ORDER, native(order))
    if spec.value or spec.is_verdict_map:
        notes += note(_VALUE_BYTE_ORDER, native(0))
    if spec.by_typeof:
        notes += note(_KEY_TYPEOF, single.typeof(family) if single else spec.key.typeof(family))
        value = Key(spec.value).typeof(family) if spec.value else _TYPEOF_VERDICT
        notes += note(_VALUE_TYPEOF, value) + note(_VALUE_IS_INTERVAL, native(0))
    if spec.comment:
        notes += note(_COMMENT, spec.comment.encode() + b"\0")
    return notes
