"""Two tables of a name each, of which one is in force: filled, changed, swapped, watched.

A full change fills the table that is not in force, in transactions of bounded size, and swaps the
two in a last one: until then, and if anything fails, the old rules stay. A partial change is one
transaction on the table in force.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..backend import SyncError
from ..model.portal import Family
from . import transaction
from .ledger import Changes, Contents
from .ruleset import Chain, Element, Encoder, SetSpec
from .socket import Refused, RuleSocket
from .watch import Watch
from .wire import NFPROTO, Kind, Message, string, text_of

_BATCH_SIZE = 1 << 20
"""Bytes of a transaction that fills a table: others wait for the kernel's lock meanwhile."""

_PARTIAL_LIMIT = 4 << 20
"""Bytes of a partial change; a larger one is made as a full change."""

_CHAINS_GO = (6, 2)
"""The kernel from which on a chain goes together with the last element that names it."""

WITHOUT_NFTABLES = (errno.EINVAL, errno.EOPNOTSUPP)
"""What nfnetlink says of a subsystem that it does not have."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What two tables have in common.

    Attributes:
        family: of the tables.
        names: of both.
        comment: of each.
        base_chains: by which packets enter; put in last.
        hook: the name of one of them, by which a table in force is known.
        replaces: tables of others, which go when one of ours is in force.
        shared: sets that are there whatever else is.
    """

    family: Family
    names: tuple[str, str]
    comment: str
    base_chains: tuple[Chain, ...]
    hook: str
    replaces: tuple[str, ...] = ()
    shared: Mapping[str, SetSpec] | None = None


@dataclass(frozen=True, slots=True)
class _InForce:
    """The table that the last change left: what tells whether it is still the same."""

    handle: bytes
    uses: bytes
    generation: int


class TablePair:
    """The tables of a plan, in the network namespace in which this was made.

    Raises:
        OSError: there is no netlink socket for rules.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._family = NFPROTO[plan.family]
        self.socket = RuleSocket()
        self.name = ""
        """The table in force; "" before the first change."""
        self._in_force: _InForce | None = None
        self._chains_go = _kernel() >= _CHAINS_GO
        self._watch: Watch | None = None

    def alter(self, changes: Changes) -> int | None:
        """Change the table in force; return the bytes that took, None if they are too many.

        Raises:
            Refused: the kernel refused something; nothing was changed.
            OSError: the kernel could not be asked.
        """
        encoder = self._encoder(self.name)
        messages = list(
            transaction.altering(
                encoder, changes, chains_go=self._chains_go, shared=self._plan.shared
            )
        )
        size = transaction.size_of(messages)
        if size > min(_PARTIAL_LIMIT, self.socket.largest):
            return None
        if not messages:
            return 0
        self.socket.commit(messages)
        self._remember()
        return size

    def replace(
        self,
        contents: Contents,
        kept: Callable[[str], Mapping[str, list[Element]]] | None = None,
    ) -> int:
        """Put a new table in force, and remove the old one; return the bytes that took.

        Args:
            contents: of the new table.
            kept: is given the name of the table that was in force, and returns elements that are
                taken over from it.

        Raises:
            Refused: the kernel refused something; the old table stays.
            OSError: the kernel could not be asked.
        """
        names = self._plan.names
        present = self.present()
        current = self._hooked(present)
        fresh = names[1] if current == names[0] else names[0]
        if current and kept is not None:
            contents.elements.update(kept(current))
        # Left by one that ended halfway.
        left = [each for each in names if each in present and each != current]
        self._commit([self._encoder(each).delete_table() for each in left])
        encoder = self._encoder(fresh)
        size = 0
        limit = min(_BATCH_SIZE, self.socket.largest)
        messages = transaction.filling(encoder, contents, self._plan.comment)
        with self._quiet():
            try:
                for batch in transaction.batches(messages, limit):
                    size += transaction.size_of(batch)
                    self.socket.commit(batch)
                gone = (current, *self._plan.replaces)
                old = [self._encoder(each) for each in gone if each in present]
                self.socket.commit(
                    list(transaction.activation(encoder, old, self._plan.base_chains))
                )
            except (Refused, OSError):
                with contextlib.suppress(Refused, OSError):
                    self.socket.commit([encoder.delete_table()])
                raise
            self.name = fresh
            self._remember()
        return size

    def intact(self) -> bool:
        """Whether the table in force is the one that the last change left.

        That it is the same table, with as many chains and sets, is all that can be asked for
        cheaply; `watch` tells of changes inside.
        """
        if self._in_force is None:
            return False
        try:
            if self.socket.generation() == self._in_force.generation:
                return True
            before = self._in_force
            self._remember()
        except (OSError, SyncError):
            return False
        same = (before.handle, before.uses) == (self._in_force.handle, self._in_force.uses)
        if not same:
            self._in_force = None
        return same

    def watch(
        self, doubt: Callable[[str], None], lost: Callable[[], None] | None = None
    ) -> Callable[[], None] | None:
        """Call ``doubt`` when somebody else changes a table of ours; see `Backend.watch`.

        Args:
            doubt: is told who did what.
            lost: is called when so much was changed, by anybody, that not all could be heard.
        """
        try:
            watch = Watch(self._family, self.socket.port, doubt, self._plan.names, lost)
        except OSError:
            return None
        self._watch = watch

        def end() -> None:
            self._watch = None
            watch.close()

        return end

    def remove(self) -> None:
        """Remove both tables, and those that they replace.

        Raises:
            Refused: the kernel refused.
            OSError: it could not be asked, or has no nf_tables.
        """
        present = self.present()
        gone = [each for each in (*self._plan.names, *self._plan.replaces) if each in present]
        self._commit([self._encoder(each).delete_table() for each in gone])
        self.name, self._in_force = "", None

    def close(self) -> None:
        """Close the sockets; rules stay."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self.socket.close()

    def present(self) -> list[str]:
        """Return the names of all tables of the family.

        Raises:
            OSError: the kernel could not be asked.
        """
        return [text_of(each[1]) for each in self.socket.dump(Kind.GET_TABLE, self._family)]

    def _commit(self, messages: Sequence[Message]) -> None:
        if messages:
            with self._quiet():
                self.socket.commit(messages)

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """While a large change is under way, the kernel announces it to nobody here."""
        if self._watch is None:
            yield
            return
        self._watch.pause()
        try:
            yield
        finally:
            self._watch.resume()

    def _encoder(self, table: str) -> Encoder:
        return Encoder(table, self._plan.family)

    def _hooked(self, present: list[str]) -> str:
        """Return the table of ours that is in force, "" if there is none."""
        for each in self._plan.names:
            chain = (string(1, each), string(3, self._plan.hook))
            if each in present and self.socket.get(Kind.GET_CHAIN, self._family, *chain):
                return each
        return ""

    def _remember(self) -> None:
        """Keep what tells later whether the table is still this one."""
        self._in_force = None
        generation = self.socket.generation()
        found = self.socket.get(Kind.GET_TABLE, self._family, string(1, self.name))
        if found is None:
            raise SyncError(f"table {self.name} was removed by somebody else")
        self._in_force = _InForce(found.get(4, b""), found.get(3, b""), generation)


def explained(error: OSError, remedy: str = "use iptables mode") -> str:
    """Return why netlink failed, and what to do about it where that is known."""
    if error.errno in WITHOUT_NFTABLES:
        return f"this kernel has no nf_tables ({error}); {remedy}"
    if error.errno == errno.EPERM:
        return f"netlink failed: {error}; the proxy needs CAP_NET_ADMIN"
    return f"netlink failed: {error}"


def _kernel() -> tuple[int, int]:
    """Return the kernel's version."""
    major, _, rest = os.uname().release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return int(major), int(minor) if minor.isdigit() else 0
