"""The statements that rules are made of: each is a text and the kernel's expressions for it."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Protocol

from ..model.portal import Family
from .fields import (
    PREFIX,
    PROTOCOLS,
    Field,
    Key,
    address_offset,
    data,
    expression,
    pack_address,
    payload,
)
from .wire import attribute, nest, number, string

_ACCUMULATOR = 1
_VERDICT_REGISTER = 0
_EQUAL = 0
_DIFFERENT = 1
_AT_MOST = 3
_AT_LEAST = 5
_META_MARK = 3
_META_INTERFACE_NAME = 6
_META_L4PROTO = 16
_INTERFACE_NAME_SIZE = 16
_CT_STATE = 0
_CT_STATUS = 2
_STATE_ESTABLISHED = 1 << 1
_STATE_RELATED = 1 << 2
_STATE_NEW = 1 << 3
_STATUS_DESTINATION_NAT = 1 << 5
_FIB_SOURCE = 1
_FIB_DESTINATION = 2
_FIB_ADDRESS_TYPE = 3
_LOCAL = 2
_DESTINATION_NAT = 1
_RANDOM_FULLY = 1 << 4
_ICMPV6 = 58
_UPDATE = 1
_ALL = 0xFFFFFFFF

_VERDICTS = {"drop": 0, "accept": 1, "jump": -3, "goto": -4, "return": -5}
_PORT_UNREACHABLE = {Family.V4: 3, Family.V6: 4}


class Statement(Protocol):
    """A part of a rule."""

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""

    def encode(self, family: Family) -> bytes:
        """Return the kernel's expressions for it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a packet: ``drop``, ``return``, or ``goto`` and ``jump`` with a chain."""

    word: str
    chain: str = ""

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        return f"{self.word} {self.chain}".rstrip()

    def encode(self, family: Family) -> bytes:
        """Return the expressions for it."""
        return expression(
            "immediate", number(1, _VERDICT_REGISTER), nest(2, verdict(self.word, self.chain))
        )


def verdict(word: str, chain: str = "") -> bytes:
    """Return the attribute NFTA_DATA_VERDICT for a verdict."""
    target = (string(2, chain),) if chain else ()
    return nest(2, number(1, _VERDICTS[word]), *target)


@dataclass(frozen=True, slots=True)
class InSet:
    """The key is, or is not, in a set."""

    key: Key
    name: str
    negated: bool = False

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        return f"{self.key.text(family)} {'!= ' if self.negated else ''}@{self.name}"

    def encode(self, family: Family) -> bytes:
        """Return the expressions for it."""
        flags = (number(5, 1),) if self.negated else ()
        lookup = expression("lookup", number(2, _ACCUMULATOR), string(1, self.name), *flags)
        return self.key.load(family) + lookup


@dataclass(frozen=True, slots=True)
class VerdictMap:
    """The verdict that a map has for the key; without one the next rule is tried."""

    key: Key
    name: str
    modulus: int = 1

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        return f"{self.key.text(family, self.modulus)} vmap @{self.name}"

    def encode(self, family: Family) -> bytes:
        """Return the expressions for it."""
        return self.key.load(family, self.modulus) + expression(
            "lookup",
            number(2, _ACCUMULATOR),
            number(3, _VERDICT_REGISTER),
            string(1, self.name),
        )


@dataclass(frozen=True, slots=True)
class TranslateByMap:
    """The destination becomes the endpoint that a map has for the key, whose index is random."""

    key: Key
    name: str
    modulus: int

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        key = self.key.text(family, self.modulus)
        return f"dnat {PREFIX[family]} to {key} map @{self.name}"

    def encode(self, family: Family) -> bytes:
        """Return the expressions for it."""
        port_register = 9 if family is Family.V4 else 2
        return (
            self.key.load(family, self.modulus)
            + expression(
                "lookup", number(2, _ACCUMULATOR), number(3, _ACCUMULATOR), string(1, self.name)
            )
            + _translate(family, number(5, port_register))
        )


@dataclass(frozen=True, slots=True)
class TranslateTo:
    """The destination becomes one endpoint."""

    protocol: str
    ip: str
    port: int

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        address = self.ip if family is Family.V4 else f"[{self.ip}]"
        return f"meta l4proto {self.protocol} dnat to {address}:{self.port}"

    def encode(self, family: Family) -> bytes:
        """Return the expressions for it."""
        return (
            _load_meta(_META_L4PROTO)
            + _compare(_EQUAL, bytes((PROTOCOLS[self.protocol],)))
            + _immediate(1, pack_address(self.ip, family))
            + _immediate(2, struct.pack(">H", self.port))
            + _translate(family, number(5, 2), number(7, 2))
        )


def _translate(family: Family, *ports: bytes) -> bytes:
    return expression(
        "nat",
        number(1, _DESTINATION_NAT),
        number(2, 2 if family is Family.V4 else 10),
        number(3, _ACCUMULATOR),
        *ports,
    )


@dataclass(frozen=True, slots=True)
class InNetwork:
    """An address is, or is not, in a network."""

    field: Field
    cidr: str
    negated: bool = False

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        network = ipaddress.ip_network(self.cidr, strict=False)
        shown = network.network_address if network.prefixlen == network.max_prefixlen else network
        return f"{self.field.text(family)} {'!= ' if self.negated else ''}{shown}"

    def encode(self, family: Family) -> bytes:
        """Only the bytes that the prefix covers are loaded; a mask is for the last of them."""
        network = ipaddress.ip_network(self.cidr, strict=False)
        width = network.max_prefixlen // 8
        whole = not network.prefixlen % 8 and network.prefixlen > 0
        length = network.prefixlen // 8 if whole else width
        loaded = payload(_ACCUMULATOR, 1, address_offset(self.field, family), length)
        if not whole:
            loaded += _mask(network.netmask.packed, bytes(width))
        return loaded + _compare(
            _DIFFERENT if self.negated else _EQUAL, network.network_address.packed[:length]
        )


@dataclass(frozen=True, slots=True)
class FromInterface:
    """A packet came, or did not come, by an interface, or one whose name begins with a prefix."""

    name: str
    is_prefix: bool = False
    negated: bool = False

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        star = "*" if self.is_prefix else ""
        return f'iifname {"!= " if self.negated else ""}"{self.name}{star}"'

    def encode(self, family: Family) -> bytes:
        """Return the expressions for it."""
        name = self.name.encode()
        value = name if self.is_prefix else name.ljust(_INTERFACE_NAME_SIZE, b"\0")
        operator = _DIFFERENT if self.negated else _EQUAL
        return _load_meta(_META_INTERFACE_NAME) + _compare(operator, value)


@dataclass(frozen=True, slots=True)
class NewFlow:
    """The first packet of a flow."""

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        return "ct state new"

    def encode(self, family: Family) -> bytes:
        """Return the expressions for it."""
        return _flow_has(_CT_STATE, _STATE_NEW)


@dataclass(frozen=True, slots=True)
class KnownFlow:
    """A packet of a flow that was let pass before, or an error about one."""

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        return "ct state established,related"

    def encode(self, family: Family) -> bytes:
        """Return the expressions for it."""
        return _flow_has(_CT_STATE, _STATE_ESTABLISHED | _STATE_RELATED)


@dataclass(frozen=True, slots=True)
class OfProtocol:
    """A transport protocol, and ports of it: from ``first`` to ``last``; all if both are 0."""

    protocol: str
    first: int = 0
    last: int = 0

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        if not self.last:
            return f"meta l4proto {self.protocol}"
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"meta l4proto {self.protocol} th dport {ports}"

    def encode(self, family: Family) -> bytes:
        """Return the expressions for it."""
        found = _load_meta(_META_L4PROTO) + _compare(_EQUAL, bytes((PROTOCOLS[self.protocol],)))
        if not self.last:
            return found
        found += Field.PORT.load(family, _ACCUMULATOR)
        if self.first == self.last:
            return found + _compare(_EQUAL, struct.pack(">H", self.first))
        return (
            found
            + _compare(_AT_LEAST, struct.pack(">H", self.first))
            + _compare(_AT_MOST, struct.pack(">H", self.last))
        )


@dataclass(frozen=True, slots=True)
class MessageType:
    """An ICMPv6 message whose type is from ``first`` to ``last``."""

    first: int
    last: int

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        kinds = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"meta l4proto ipv6-icmp icmpv6 type {kinds}"

    def encode(self, family: Family) -> bytes:
        """Return the expressions for it."""
        found = (
            _load_meta(_META_L4PROTO)
            + _compare(_EQUAL, bytes((_ICMPV6,)))
            + payload(_ACCUMULATOR, 2, 0, 1)
        )
        if self.first == self.last:
            return found + _compare(_EQUAL, bytes((self.first,)))
        return (
            found
            + _compare(_AT_LEAST, bytes((self.first,)))
            + _compare(_AT_MOST, bytes((self.last,)))
        )


@dataclass(frozen=True, slots=True)
class Translated:
    """A flow whose destination was translated."""

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        return "ct status dnat"

    def encode(self, family: Family) -> bytes:
        """Return the expressions for it."""
        return _flow_has(_CT_STATUS, _STATUS_DESTINATION_NAT)


@dataclass(frozen=True, slots=True)
class IsLocal:
    """An address of this node."""

    field: Field

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        return f"fib {self.field.value} type local"

    def encode(self, family: Family) -> bytes:
        """Return the expressions for it."""
        side = _FIB_SOURCE if self.field is Field.SOURCE else _FIB_DESTINATION
        found = expression(
            "fib", number(3, side), number(2, _FIB_ADDRESS_TYPE), number(1, _ACCUMULATOR)
        )
        return found + _compare(_EQUAL, struct.pack("=I", _LOCAL))


@dataclass(frozen=True, slots=True)
class SetMark:
    """Set a bit of the packet's mark."""

    mark: int

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        return f"meta mark set meta mark | {self.mark:#010x}"

    def encode(self, family: Family) -> bytes:
        """Return the expressions for it."""
        return _change_mark(_ALL & ~self.mark, self.mark)


@dataclass(frozen=True, slots=True)
class TakeMark:
    """Go on only if a bit of the packet's mark is set, and clear it."""

    mark: int

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        return (
            f"meta mark & {self.mark:#010x} != 0x00000000 "
            f"meta mark set meta mark ^ {self.mark:#010x}"
        )

    def encode(self, family: Family) -> bytes:
        """Return the expressions for it."""
        return (
            _load_meta(_META_MARK)
            + _mask(_native(self.mark), bytes(4))
            + _compare(_DIFFERENT, bytes(4))
            + _change_mark(_ALL, self.mark)
        )


@dataclass(frozen=True, slots=True)
class Masquerade:
    """The source becomes this node, with a random port."""

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        return "masquerade fully-random"

    def encode(self, family: Family) -> bytes:
        """Return the expressions for it."""
        return expression("masq", number(1, _RANDOM_FULLY))


@dataclass(frozen=True, slots=True)
class Reject:
    """ICMP port unreachable."""

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        return "reject"

    def encode(self, family: Family) -> bytes:
        """Return the expressions for it."""
        return expression("reject", number(1, 0), attribute(2, bytes((_PORT_UNREACHABLE[family],))))


@dataclass(frozen=True, slots=True)
class Remember:
    """Put the source address into a set, or start its time anew there."""

    name: str

    def text(self, family: Family) -> str:
        """Return it as the rule language writes it."""
        return f"update @{self.name} {{ {Field.SOURCE.text(family)} }}"

    def encode(self, family: Family) -> bytes:
        """Return the expressions for it."""
        return Field.SOURCE.load(family, _ACCUMULATOR) + expression(
            "dynset", number(4, _ACCUMULATOR), number(3, _UPDATE), string(1, self.name)
        )


def _load_meta(what: int) -> bytes:
    return expression("meta", number(2, what), number(1, _ACCUMULATOR))


def _flow_has(what: int, bit: int) -> bytes:
    return (
        expression("ct", number(2, what), number(1, _ACCUMULATOR))
        + _mask(_native(bit), bytes(4))
        + _compare(_DIFFERENT, bytes(4))
    )


def _change_mark(mask: int, flipped: int) -> bytes:
    return (
        _load_meta(_META_MARK)
        + _mask(_native(mask), _native(flipped))
        + expression("meta", number(2, _META_MARK), number(3, _ACCUMULATOR))
    )


def _mask(mask: bytes, flipped: bytes) -> bytes:
    """The accumulator becomes ``(accumulator & mask) ^ flipped``."""
    return expression(
        "bitwise",
        number(1, _ACCUMULATOR),
        number(2, _ACCUMULATOR),
        number(3, len(mask)),
        data(4, mask),
        data(5, flipped),
    )


def _compare(operator: int, value: bytes) -> bytes:
    return expression("cmp", number(1, _ACCUMULATOR), number(2, operator), data(3, value))


def _immediate(register: int, value: bytes) -> bytes:
    return expression("immediate", number(1, register), data(2, value))


def _native(value: int) -> bytes:
    return struct.pack("=I", value)
