"""A query to its answer, wherever that comes from."""

from __future__ import annotations

import secrets
import struct
from typing import Final

import dns.exception
import dns.message
import dns.name

from . import wire
from .cache import Foreign
from .forwarding import Forwarder, ForwardError, TooManyError
from .wire import Answer, Query
from .zone import Alias, Zone

KNOWN: Final = 20_000
"""Answers about the cluster that are remembered until something changes."""
_DEEPEST: Final = 8
"""Names that stand for others, one after the other."""
OTHERS: Final = "."


class Resolver:
    """Answers queries.

    Args:
        zone: names of the cluster.
        forwarder: for other names; None: they are refused.

    Attributes:
        loop_name: a name that nobody has; if we are asked for it, we ask ourselves.
        loops: whether we were.
    """

    def __init__(self, zone: Zone, forwarder: Forwarder | None) -> None:
        self.zone = zone
        self.forwarder = forwarder
        self.domain = ".".join(zone.labels) + "."
        self.loop_name = wire.name_wire(secrets.token_hex(12), "loop", "invalid")
        self.loops = False
        self._known: dict[bytes, tuple[Answer | None, str]] = {}
        self._turn = 0

    def forget(self) -> None:
        """Take note that something of the cluster changed."""
        self._known.clear()
        self.zone.serial = (self.zone.serial + 1) & 0xFFFFFFFF or 1

    def at_once(self, query: Query, limit: int) -> tuple[bytes | None, int, str]:
        """Return the answer if it is known; else None, and others are to be asked.

        Returns:
            The message, how it went, and the zone.
        """
        known = self._known.get(query.key)
        if known is None:
            known = self._find(query)
        answer, zone = known
        if answer is not None:
            self._turn += 1
            return wire.compose(query, answer, limit, self._turn), answer.rcode, zone
        if zone == OTHERS and self.forwarder is not None:
            found = self.forwarder.known(query)
            if found is not None:
                return found[0].render(query, limit, found[1]), found[0].rcode, zone
        return None, 0, zone

    def _find(self, query: Query) -> tuple[Answer | None, str]:
        if query.version:
            return Answer(wire.BADVERS, authoritative=False), OTHERS
        if query.klass != wire.IN or query.kind in (wire.AXFR, wire.IXFR):
            return Answer(wire.REFUSED, authoritative=False), OTHERS
        if query.name.lower() == self.loop_name:
            self.loops = True
            return Answer(wire.REFUSED, authoritative=False), OTHERS
        labels = wire.labels(query.name)
        found = self.zone.answer(labels, query.kind)
        if found is None:
            if self.forwarder is None:
                return Answer(wire.REFUSED, authoritative=False), OTHERS
            return None, OTHERS
        zone = self.domain if labels[-1:] != ["arpa"] else f"{'.'.join(labels[-2:])}."
        if isinstance(found, Alias):
            return None, zone
        if len(self._known) < KNOWN:
            self._known[query.key] = (found, zone)
        return found, zone

    async def later(self, query: Query, limit: int, *, tcp: bool) -> tuple[bytes, int]:
        """Return the answer of others, and how it went."""
        found = self.zone.answer(wire.labels(query.name), query.kind)
        try:
            if isinstance(found, Alias):
                answer = await self._follow(found, query, tcp=tcp)
                return wire.compose(query, answer, limit), answer.rcode
            foreign = await self._ask(query, tcp=tcp)
            return foreign.render(query, limit), foreign.rcode
        except TooManyError:
            failed = Answer(wire.REFUSED, authoritative=False)
        except ForwardError:
            failed = Answer(wire.SERVFAIL, authoritative=False)
        return wire.compose(query, failed, limit), failed.rcode

    async def _ask(self, query: Query, *, tcp: bool) -> Foreign:
        if self.forwarder is None:
            raise ForwardError("nobody is asked")
        known = self.forwarder.known(query)
        if known is not None:
            return known[0]
        if self.loops:
            raise ForwardError("those whom we ask ask us")
        return await self.forwarder.ask(query, tcp=tcp)

    async def _follow(self, alias: Alias, query: Query, *, tcp: bool) -> Answer:
        """Return the record of an alias, and those of the name that it stands for."""
        records = [alias.record]
        target = alias.target
        for _ in range(_DEEPEST):
            try:
                name = dns.name.from_text(target).to_wire() or b""
            except dns.exception.DNSException:
                return Answer(wire.SERVFAIL, tuple(records))
            asked = _asked(name, query)
            labels = wire.labels(name)
            found = self.zone.answer(labels, query.kind)
            if isinstance(found, Alias):
                records.append(name + found.record[len(wire.SELF) :])
                target = found.target
                continue
            if found is not None:
                own = [name + one[len(wire.SELF) :] for one in found.records]
                return Answer(wire.NOERROR, (*records, *own))
            try:
                foreign = await self._ask(asked, tcp=tcp)
            except ForwardError:
                # The alias is known, though not what it leads to.
                return Answer(wire.NOERROR, tuple(records))
            return Answer(foreign.rcode, (*records, *_plain(foreign, asked)))
        return Answer(wire.SERVFAIL, tuple(records))


def _asked(name: bytes, query: Query) -> Query:
    """Return the query for another name."""
    tail = query.question[-4:]
    return Query(
        query.ident, query.flags | 0x0100, name + tail, name, name.lower() + tail, query.kind,
        query.klass, wire.TCP_SIZE, edns=False, dnssec=query.dnssec,
    )  # fmt: skip


def _plain(foreign: Foreign, query: Query) -> list[bytes]:
    """Return the records of an answer, none of whose names points to another."""
    try:
        message = dns.message.from_wire(foreign.render(query, wire.TCP_SIZE))
    except (dns.exception.DNSException, ValueError, struct.error):
        return []
    found: list[bytes] = []
    for rrset in message.answer:
        owner = rrset.name.to_wire() or b""
        found += [
            wire.record(owner, int(rrset.rdtype), rrset.ttl, one.to_wire() or b"") for one in rrset
        ]  # fmt: skip
    return found


async def probe_loop(resolver: Resolver) -> None:
    """Ask for a name that nobody has: whether the question comes back to us."""
    if resolver.forwarder is None:
        return
    question = resolver.loop_name + struct.pack(">2H", wire.HINFO, wire.IN)
    query = Query(
        secrets.randbits(16), 0x0100, question, resolver.loop_name, question, wire.HINFO, wire.IN
    )
    try:
        await resolver.forwarder.ask(query, tcp=False)
    except ForwardError:
        return
