"""Dispatch: many destinations, each with a rule of its own, as a tree of chains.

The peer has one list of all Services, so a new connection to the last of 5,000 is compared with
each. Here a chain that would grow over `LEAF` rules is divided by the next bits of the address (up
to four, after what all have in common), and what shares an address by protocol and bits of the
port. A packet meets a few dozen rules at most, one that is for no Service a handful, and a sync
writes the one short chain that changed. Up to `LEAF` destinations the list is as flat as the
peer's.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Final

from ..model.portal import Family, Protocol
from . import names

LEAF: Final = 32
"""Rules in a chain up to which it is not divided."""
_MOST_BITS: Final = 4
"""By which a chain is divided at once: into 16 parts."""
_PORT_BITS: Final = 16
_PROTOCOL_BITS: Final = 4
_PROTOCOLS: Final = tuple(Protocol)


@dataclass(frozen=True, slots=True)
class Entry:
    """One destination: ``key`` by `Space.key`, ``label`` to order equals by, and its rule."""

    key: int
    label: str
    rule: str


_order = attrgetter("key", "label")


@dataclass(frozen=True, slots=True)
class Space:
    """What destinations are told apart by: address, protocol, port; or the latter two.

    Attributes:
        address_bits: 32, 128, or 0 for ports alone.
        prefix: of the names of chains below the root, one of `names.PREFIXES`.
    """

    address_bits: int
    prefix: str

    @classmethod
    def of(cls, family: Family, prefix: str) -> Space:
        """Addresses of a family, with protocol and port."""
        return cls(32 if family is Family.V4 else 128, prefix)

    @property
    def bits(self) -> int:
        """Length of a key."""
        return self.address_bits + _PROTOCOL_BITS + _PORT_BITS

    def key(self, address: str, protocol: Protocol, port: int) -> int:
        """Return the destination as a number whose leading bits are the address.

        Raises:
            OSError: it is no address of the family.
        """
        number = 0
        if self.address_bits:
            family = socket.AF_INET if self.address_bits == 32 else socket.AF_INET6
            number = int.from_bytes(socket.inet_pton(family, address), "big")
        return (((number << _PROTOCOL_BITS) | _PROTOCOLS.index(protocol)) << _PORT_BITS) | port

    def tree(self, root: str, entries: Iterable[Entry]) -> dict[str, list[str]]:
        """Return rules by chain (without ``-A CHAIN``) for the root and all chains below it."""
        chains: dict[str, list[str]] = {}
        self._divide(root, sorted(entries, key=_order), 0, chains)
        return chains

    def _divide(
        self, chain: str, entries: Sequence[Entry], at: int, chains: dict[str, list[str]]
    ) -> None:
        rules = chains[chain] = []
        length = self._next_length(entries, at)
        if not length:
            rules.extend(entry.rule for entry in entries)
            return
        shift = self.bits - length
        for prefix, group in groupby(entries, key=lambda entry: entry.key >> shift):
            members = list(group)
            if len(members) == 1:
                rules.append(members[0].rule)
                continue
            match, below = self._match(prefix << shift, length)
            rules.append(f"{match} -j {below}")
            self._divide(below, members, length, chains)

    def _next_length(self, entries: Sequence[Entry], at: int) -> int:
        """How many leading bits to divide by; 0 not to divide."""
        if len(entries) <= LEAF:
            return 0
        common = self.bits - (entries[0].key ^ entries[-1].key).bit_length()
        if common >= self.bits:
            return 0  # all the same: the first wins
        # Parts of half a leaf on average: each chain costs time to load.
        step = min(_MOST_BITS, max(1, (len(entries) // (LEAF // 2)).bit_length()))
        length = max(common, at) + step
        if common < self.address_bits:
            return min(length, self.address_bits)
        if common < self.address_bits + _PROTOCOL_BITS:
            return self.address_bits + _PROTOCOL_BITS  # whole, as there is no match for its bits
        return min(length, self.bits)

    def _match(self, key: int, length: int) -> tuple[str, str]:
        """Return the match of a subtree and the name of its chain."""
        number = key >> (_PROTOCOL_BITS + _PORT_BITS)
        match, name = "", ""
        if self.address_bits:
            address = _text(number, self.address_bits)
            width = min(length, self.address_bits)
            match, name = f"-d {address}/{width}", f"{address}/{width}"
        if length > self.address_bits:
            protocol = _PROTOCOLS[(key >> _PORT_BITS) & ((1 << _PROTOCOL_BITS) - 1)].lower
            match, name = f"{match} -p {protocol}", f"{name}-{protocol}"
            free = self.bits - length
            if free < _PORT_BITS:
                low = key & ((1 << _PORT_BITS) - 1)
                high = low | ((1 << free) - 1)
                match += f" -m {protocol} --dport {low}:{high}"
                name += f"-{low}-{high}"
        name = self.prefix + name.lstrip("-")
        if len(name) > names.MAX_LENGTH:
            name = self.prefix + names.digest(name)
        return match.strip(), name


class Way(enum.Enum):
    """A list of destinations: its table, its root, and the prefix of the chains below."""

    SERVED = ("nat", names.SERVICES, names.CLUSTER)
    NODE_PORTS = ("nat", names.NODE_PORTS, names.EXTERNAL)
    REFUSED = ("filter", names.SERVICES, names.CLUSTER)
    REFUSED_OUTSIDE = ("filter", names.EXTERNAL_SERVICES, names.EXTERNAL)
    REFUSED_NODE_PORTS = ("filter", names.EXTERNAL_NODE_PORTS, names.EXTERNAL)
    RESTRICTED = ("filter", names.PROXY_FIREWALL, names.FIREWALL)
    HEALTH = ("filter", names.NODE_PORTS, names.LOCAL)

    def __init__(self, table: str, root: str, prefix: str) -> None:
        self.table = table
        self.root = root
        self.prefix = prefix

    def space(self, family: Family) -> Space:
        """How destinations of this list are told apart."""
        by_port = self in (Way.NODE_PORTS, Way.REFUSED_NODE_PORTS, Way.HEALTH)
        return Space(0, self.prefix) if by_port else Space.of(family, self.prefix)


def _text(number: int, bits: int) -> str:
    family = socket.AF_INET if bits == 32 else socket.AF_INET6
    return socket.inet_ntop(family, number.to_bytes(bits // 8, "big"))
