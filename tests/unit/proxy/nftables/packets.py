"""Walks packets through a table in memory, as the kernel would: what may become of each?"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from proxy.backend import RuleOptions
from proxy.nftables import layout
from proxy.nftables.fields import PROTOCOLS, Field, Key, native, pack_address
from proxy.nftables.ledger import Contents
from proxy.nftables.ruleset import Chain, Element, SetSpec, intervals
from proxy.nftables.statements import (
    FromInterface,
    InNetwork,
    InSet,
    IsLocal,
    Masquerade,
    NewFlow,
    Reject,
    Remember,
    SetMark,
    Statement,
    TakeMark,
    TranslateByMap,
    Translated,
    TranslateTo,
    Verdict,
    VerdictMap,
)


@dataclass(frozen=True)
class Packet:
    """The first packet of a flow, and what was done to it."""

    source: str
    destination: str
    port: int
    protocol: str = "tcp"
    marked: bool = False
    translated: bool = False


@dataclass(frozen=True)
class Fate:
    """What became of a packet: ``end`` is "passed", "dropped" or "rejected"."""

    end: str
    destination: str = ""
    port: int = 0
    masqueraded: bool = False


_Result = tuple[str, Packet]
"""A verdict ("" for none: the next rule) and the packet after it."""


class Walk:
    """A table and the node that it is on."""

    def __init__(self, contents: Contents, options: RuleOptions, own: set[str]) -> None:
        self._chains = dict(contents.chains) | {each.name: each for each in layout.base_chains()}
        self._sets = contents.sets
        self._elements = {
            name: {each.key: each for each in found} for name, found in contents.elements.items()
        }
        self._raw = contents.elements
        self._family = options.family
        self._own = own

    def fates(self, packet: Packet) -> set[Fate]:
        """Return all that may become of a packet; chance decides between them."""
        return set(self._through(packet))

    def _through(self, packet: Packet) -> Iterator[Fate]:
        from_here = packet.source in self._own
        first = "output" if from_here else "prerouting"
        for verdict, before in self._chain(f"filter-{first}-pre-dnat", packet):
            if verdict == "drop":
                yield Fate("dropped")
                continue
            for _, after in self._chain(f"nat-{first}", before):
                yield from self._onward(after, from_here)

    def _onward(self, packet: Packet, from_here: bool) -> Iterator[Fate]:
        to_here = packet.destination in self._own
        hooks = ["output"] if from_here else ["input" if to_here else "forward"]
        if from_here and to_here:
            hooks.append("input")
        for hook in hooks:
            ((verdict, packet),) = self._chain(f"filter-{hook}", packet)
            if verdict in ("drop", "reject"):
                yield Fate("dropped" if verdict == "drop" else "rejected")
                return
        ((verdict, packet),) = self._chain("nat-postrouting", packet)
        yield Fate("passed", packet.destination, packet.port, verdict == "masquerade")

    def _chain(self, name: str, packet: Packet) -> Iterator[_Result]:
        yield from self._rules(self._chains[name], 0, packet)

    def _rules(self, chain: Chain, place: int, packet: Packet) -> Iterator[_Result]:
        if place == len(chain.rules):
            yield "", packet
            return
        for verdict, after in self._statements(chain.rules[place].statements, packet):
            if verdict:
                yield verdict, after
            else:
                yield from self._rules(chain, place + 1, after)

    def _statements(self, statements: tuple[Statement, ...], packet: Packet) -> Iterator[_Result]:
        if not statements:
            yield "", packet
            return
        for verdict, after in self._one(statements[0], packet):
            if verdict == "break":
                yield "", after
            elif verdict:
                yield verdict, after
            else:
                yield from self._statements(statements[1:], after)

    def _one(self, one: Statement, packet: Packet) -> Iterator[_Result]:
        """Yield the verdicts of a statement; "break" if the rule does not match."""
        match one:
            case Verdict():
                yield from self._follow((one.word, one.chain), packet)
            case VerdictMap():
                for key in self._keys(one.key, packet, one.modulus):
                    found = self._elements.get(one.name, {}).get(key)
                    if found is None:
                        yield "break", packet
                    else:
                        assert found.verdict is not None
                        yield from self._follow(found.verdict, packet)
            case TranslateByMap():
                for key in self._keys(one.key, packet, one.modulus):
                    found = self._elements[one.name][key]
                    yield "translated", self._translated(packet, found)
            case TranslateTo():
                yield (
                    "translated",
                    replace(packet, destination=one.ip, port=one.port, translated=True),
                )
            case SetMark():
                yield "", replace(packet, marked=True)
            case TakeMark():
                yield ("" if packet.marked else "break"), replace(packet, marked=False)
            case Masquerade():
                yield "masquerade", packet
            case Reject():
                yield "reject", packet
            case Remember() | NewFlow():
                yield "", packet
            case _:
                yield ("" if self._matches(one, packet) else "break"), packet

    def _matches(self, one: Statement, packet: Packet) -> bool:
        match one:
            case InSet():
                (key,) = self._keys(one.key, packet, 1)
                return self._contains(self._sets[one.name], key) != one.negated
            case InNetwork():
                address = packet.source if one.field is Field.SOURCE else packet.destination
                inside = ipaddress.ip_address(address) in ipaddress.ip_network(one.cidr)
                return inside != one.negated
            case IsLocal():
                address = packet.source if one.field is Field.SOURCE else packet.destination
                return address in self._own
            case Translated():
                return packet.translated
            case FromInterface():
                return False
        raise AssertionError(one)

    def _follow(self, verdict: tuple[str, str], packet: Packet) -> Iterator[_Result]:
        word, chain = verdict
        if word == "drop":
            yield "drop", packet
            return
        assert word in ("goto", "jump")
        # The only jumps are in base chains, where to come back is to try the next rule.
        for found, after in self._chain(chain, packet):
            yield found or ("" if word == "jump" else "done"), after

    def _keys(self, key: Key, packet: Packet, modulus: int) -> Iterator[bytes]:
        for index in range(modulus if Field.INDEX in key.fields else 1):
            yield b"".join(self._value(field, packet, index) for field in key.fields)

    def _value(self, field: Field, packet: Packet, index: int) -> bytes:
        if field is Field.SOURCE:
            return pack_address(packet.source, self._family)
        if field is Field.DESTINATION:
            return pack_address(packet.destination, self._family)
        if field is Field.PROTOCOL:
            return bytes((PROTOCOLS[packet.protocol], 0, 0, 0))
        if field is Field.PORT:
            return struct.pack(">Hxx", packet.port)
        return native(index)

    def _contains(self, spec: SetSpec, key: bytes) -> bool:
        if not spec.interval:
            return key in self._elements.get(spec.name, {})
        ranges = intervals(self._raw.get(spec.name, []), len(key))
        return any(first <= key <= last for first, last in ranges)

    def _translated(self, packet: Packet, found: Element) -> Packet:
        address = ipaddress.ip_address(found.value[:-4])
        (port,) = struct.unpack(">H", found.value[-4:-2])
        return replace(packet, destination=str(address), port=port, translated=True)
