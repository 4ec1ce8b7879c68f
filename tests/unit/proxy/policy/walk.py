"""Walks packets through the table of policies in memory, as the kernel would."""

from __future__ import annotations

import ipaddress
import struct

from proxy.model.portal import Family
from proxy.nftables.fields import PROTOCOLS, Field, Key, pack_address
from proxy.nftables.ledger import Contents
from proxy.nftables.ruleset import Rule, intervals
from proxy.nftables.statements import (
    InSet,
    KnownFlow,
    MessageType,
    OfProtocol,
    Statement,
    Verdict,
    VerdictMap,
)
from proxy.policy import layout
from tests.support.policies import Traffic


class Walk:
    """The table of one family."""

    def __init__(self, contents: Contents, family: Family) -> None:
        self._family = family
        self._base = layout.base_chains(family)
        self._chains = contents.chains
        self._sets = contents.sets
        self._elements = {
            name: {each.key: each for each in found} for name, found in contents.elements.items()
        }
        self._raw = contents.elements

    def passes(self, traffic: Traffic) -> bool:
        """Say whether the first packet of a connection passes all hooks."""
        for chain in self._base:
            verdict = self._chain(chain.rules, traffic)
            if verdict == "drop":
                return False
        return True

    def _chain(self, rules: tuple[Rule, ...], traffic: Traffic) -> str:
        for rule in rules:
            for statement in rule.statements:
                found = self._one(statement, traffic)
                if found is True:
                    continue
                if found is not False:
                    return str(found)
                break
        return ""

    def _one(self, one: Statement, traffic: Traffic) -> bool | str:
        """Return a verdict, or whether the next statement of the rule is looked at."""
        match one:
            case Verdict():
                return self._follow(one.word, one.chain, traffic)
            case VerdictMap():
                found = self._elements[one.name].get(self._key(one.key, traffic))
                if found is None:
                    return False
                assert found.verdict is not None
                return self._follow(*found.verdict, traffic)
            case InSet():
                return self._contains(one.name, self._key(one.key, traffic)) != one.negated
            case OfProtocol():
                if one.protocol.upper() != traffic.protocol:
                    return False
                return not one.last or one.first <= traffic.port <= one.last
            case KnownFlow() | MessageType():
                return False
        raise AssertionError(one)

    def _follow(self, word: str, chain: str, traffic: Traffic) -> bool | str:
        if word in ("accept", "drop"):
            return word
        verdict = self._chain(self._chains[chain].rules, traffic)
        assert word == "jump" or verdict, "a goto must end somewhere"
        return verdict or True

    def _key(self, key: Key, traffic: Traffic) -> bytes:
        return b"".join(self._value(field, traffic) for field in key.fields)

    def _value(self, field: Field, traffic: Traffic) -> bytes:
        if field is Field.PROTOCOL:
            return bytes((PROTOCOLS[traffic.protocol.lower()], 0, 0, 0))
        if field is Field.PORT:
            return struct.pack(">Hxx", traffic.port)
        address = traffic.source if field is Field.SOURCE else traffic.destination
        return pack_address(address, self._family)

    def _contains(self, name: str, key: bytes) -> bool:
        if not self._sets[name].interval:
            return key in self._elements.get(name, {})
        ranges = intervals(self._raw.get(name, []), len(key))
        return any(first <= key <= last for first, last in ranges)


def family_of(address: str) -> Family:
    return Family(ipaddress.ip_address(address).version)
