"""What rules look at in a packet, and of what types the keys of sets are.

A `Field` is a word of the rule language and the kernel expressions that load it into a register.
The key of a set is made of fields; each takes a multiple of 4 bytes, as registers do.
"""

from __future__ import annotations

import enum
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ..model.portal import Family
from .wire import attribute, nest, number, string

_EXPRESSION_ELEMENT = 1
_EXPRESSION_NAME = 1
_EXPRESSION_DATA = 2

_REGISTERS_128 = 4
_FIRST_REGISTER_32 = 8

_NETWORK_HEADER = 1
_TRANSPORT_HEADER = 2
_META_L4PROTO = 16

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_PROTOCOL_WORDS = {value: word for word, value in PROTOCOLS.items()}


class DataType(enum.Enum):
    """Types of the rule language: word, number (datatype.h of nft), bytes in a register."""

    IPV4 = ("ipv4_addr", 7, 4)
    IPV6 = ("ipv6_addr", 8, 16)
    PROTOCOL = ("inet_proto", 12, 4)
    PORT = ("inet_service", 13, 4)
    INTEGER = ("integer", 4, 4)
    VERDICT = ("verdict", 0xFFFFFF00, 16)

    @property
    def word(self) -> str:
        """As it is written in ``type``."""
        return self.value[0]

    @property
    def number(self) -> int:
        """Its number in NFTA_SET_KEY_TYPE."""
        return self.value[1]

    @property
    def width(self) -> int:
        """Bytes in a key, padding included."""
        return self.value[2]

    def show(self, data: bytes) -> str:
        """Return a value in a key as the rule language writes it."""
        if self is DataType.IPV4:
            return socket.inet_ntop(socket.AF_INET, data)
        if self is DataType.IPV6:
            return socket.inet_ntop(socket.AF_INET6, data)
        if self is DataType.PROTOCOL:
            return _PROTOCOL_WORDS.get(data[0], str(data[0]))
        if self is DataType.PORT:
            return str(int.from_bytes(data[:2], "big"))
        return str(int(struct.unpack("=I", data)[0]))


class Field(enum.Enum):
    """What can be loaded of a packet."""

    SOURCE = "saddr"
    DESTINATION = "daddr"
    PROTOCOL = "meta l4proto"
    PORT = "th dport"
    INDEX = "numgen random mod"
    """A random number below the number of endpoints."""

    def text(self, family: Family, modulus: int = 1) -> str:
        """Return the field as the rule language writes it."""
        if self in (Field.SOURCE, Field.DESTINATION):
            return f"{PREFIX[family]} {self.value}"
        return f"{self.value} {modulus}" if self is Field.INDEX else self.value

    def type(self, family: Family) -> DataType:
        """Return of what type its values are."""
        if self is Field.PROTOCOL:
            return DataType.PROTOCOL
        if self is Field.PORT:
            return DataType.PORT
        if self is Field.INDEX:
            return DataType.INTEGER
        return ADDRESS[family]

    def load(self, family: Family, register: int, modulus: int = 1) -> bytes:
        """Return the expression that loads it into a register."""
        if self is Field.PROTOCOL:
            return expression("meta", number(2, _META_L4PROTO), number(1, register))
        if self is Field.PORT:
            return payload(register, _TRANSPORT_HEADER, 2, 2)
        if self is Field.INDEX:
            return expression(
                "numgen", number(1, register), number(2, modulus), number(3, 1), number(4, 0)
            )
        return payload(register, _NETWORK_HEADER, address_offset(self, family), _WIDTH[family])

    def typeof(self, family: Family) -> bytes:
        """Return what nft keeps beside a set for ``typeof``, to print it again as it was."""
        details: tuple[tuple[int, int], ...]
        if self is Field.PROTOCOL:
            kind, details = _TYPEOF_META, ((0, _META_L4PROTO),)
        elif self is Field.PORT:
            kind, details = _TYPEOF_PAYLOAD, ((0, _TYPEOF_TRANSPORT), (1, 2))
        elif self is Field.INDEX:
            kind, details = _TYPEOF_NUMGEN, ((0, 1), (1, 1), (2, 0))
        else:
            header, source = _TYPEOF_ADDRESS[family]
            kind = _TYPEOF_PAYLOAD
            details = ((0, header), (1, source + (self is Field.DESTINATION)))
        return note(0, native(kind)) + note(
            1, b"".join(note(each, native(value)) for each, value in details)
        )


PREFIX = {Family.V4: "ip", Family.V6: "ip6"}
ADDRESS = {Family.V4: DataType.IPV4, Family.V6: DataType.IPV6}
_WIDTH = {Family.V4: 4, Family.V6: 16}
_SOURCE_OFFSET = {Family.V4: 12, Family.V6: 8}
SOCKET_FAMILY = {Family.V4: socket.AF_INET, Family.V6: socket.AF_INET6}

# Kinds of expressions, headers and their fields as nft numbers them in userdata.
_TYPEOF_PAYLOAD = 7
_TYPEOF_META = 9
_TYPEOF_CONCATENATION = 13
_TYPEOF_NUMGEN = 23
_TYPEOF_TRANSPORT = 11
_TYPEOF_ADDRESS = {Family.V4: (12, 11), Family.V6: (13, 8)}


@dataclass(frozen=True, slots=True)
class Key:
    """Fields side by side, as in ``ip daddr . meta l4proto . th dport``."""

    fields: tuple[Field, ...]

    def text(self, family: Family, modulus: int = 1) -> str:
        """Return it as the rule language writes it."""
        return " . ".join(each.text(family, modulus) for each in self.fields)

    def types(self, family: Family) -> tuple[DataType, ...]:
        """Return the types of its fields."""
        return tuple(each.type(family) for each in self.fields)

    def load(self, family: Family, modulus: int = 1) -> bytes:
        """Return the expressions that load it into registers, from the first on."""
        expressions = []
        place = 0
        for each in self.fields:
            expressions.append(each.load(family, register_at(place), modulus))
            place += each.type(family).width // 4
        return b"".join(expressions)

    def typeof(self, family: Family) -> bytes:
        """Return what nft keeps of it for ``typeof``."""
        parts = b"".join(note(place, each.typeof(family)) for place, each in enumerate(self.fields))
        return note(0, native(_TYPEOF_CONCATENATION)) + note(1, parts)


def address_offset(field: Field, family: Family) -> int:
    """Return where in the network header an address is."""
    return _SOURCE_OFFSET[family] + (_WIDTH[family] if field is Field.DESTINATION else 0)


def register_at(place: int) -> int:
    """Return the number of the register at ``place`` (in units of 32 bits), as nft counts."""
    if place % _REGISTERS_128:
        return _FIRST_REGISTER_32 + place
    return 1 + place // _REGISTERS_128


def expression(name: str, *parts: bytes) -> bytes:
    """Return an expression of a rule."""
    return nest(_EXPRESSION_ELEMENT, string(_EXPRESSION_NAME, name), nest(_EXPRESSION_DATA, *parts))


def payload(register: int, header: int, offset: int, length: int) -> bytes:
    """Return the expression that loads bytes of a header."""
    return expression(
        "payload", number(1, register), number(2, header), number(3, offset), number(4, length)
    )


def data(kind: int, value: bytes) -> bytes:
    """Return an attribute with a value for a register."""
    return nest(kind, attribute(1, value))


def pack_address(text: str, family: Family) -> bytes:
    """Return an address as it is in a packet.

    Raises:
        OSError: it is none of the family.
    """
    return socket.inet_pton(SOCKET_FAMILY[family], text)


def show_key(types: Sequence[DataType], key: bytes) -> str:
    """Return a key as the rule language writes it."""
    words = []
    place = 0
    for each in types:
        words.append(each.show(key[place : place + each.width]))
        place += each.width
    return " . ".join(words)


def note(kind: int, value: bytes) -> bytes:
    """Return a piece of userdata: number, length, value."""
    return bytes((kind, len(value))) + value


def native(value: int) -> bytes:
    """Return a number of 32 bits in the machine's order."""
    return struct.pack("=I", value)
