"""The rules of one family in nftables mode: what is wanted goes to the kernel over netlink.

A full sync fills the table that is not in force, in transactions of bounded size, and swaps the
tables in a last one: until then, and if anything fails, the old rules stay. Established flows do
not notice: their translation is in conntrack. A partial sync is one transaction on the table in
force. Nothing is ever listed but the names of tables and, on a full sync, the clients of services
with affinity, which the new table takes over.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..backend import RuleOptions, Synced, SyncError, Wanted
from . import layout, transaction
from .affinity import remembered
from .layout import PEER_TABLE, TABLES
from .ledger import Ledger, PortalError
from .ruleset import Encoder
from .socket import Refused, RuleSocket
from .watch import Watch
from .wire import NFPROTO, Kind, Message, string, text_of

_BATCH_SIZE = 1 << 20
"""Bytes of a transaction that fills a table: others wait for the kernel's lock meanwhile."""

_PARTIAL_LIMIT = 4 << 20
"""Bytes of a partial sync; a larger change is made as a full sync."""

_CHAINS_GO = (6, 2)
"""The kernel from which on a chain goes together with the last element that names it."""


_WITHOUT_NFTABLES = (errno.EINVAL, errno.EOPNOTSUPP)
"""What nfnetlink says of a subsystem that it does not have."""


@dataclass(frozen=True, slots=True)
class _InForce:
    """The table that the last sync left: what tells whether it is still the same."""

    handle: bytes
    uses: bytes
    generation: int


class NftablesBackend:
    """The rules of one family in nftables mode.

    Raises:
        OSError: there is no netlink socket for rules.
    """

    def __init__(self, options: RuleOptions) -> None:
        self._options = options
        self._family = NFPROTO[options.family]
        self._socket = RuleSocket()
        self._ledger = Ledger(options)
        self._table = ""
        self._trusted = False
        self._in_force: _InForce | None = None
        self._rules = 0
        self._chains_go = _kernel() >= _CHAINS_GO
        self._watch: Watch | None = None

    @property
    def table(self) -> str:
        """The name of the table in force; "" before the first sync."""
        return self._table

    def sync(self, wanted: Wanted) -> Synced:
        """Make the kernel's rules those of ``wanted``; see the module for how.

        Raises:
            SyncError: the kernel refused something, which the message names.
        """
        full = wanted.full or not self._trusted
        try:
            if not full:
                synced = self._alter(wanted)
                if synced is not None:
                    return synced
            return self._replace(wanted)
        except (Refused, PortalError) as error:
            self._trusted = False
            raise SyncError(f"rules of {self._options.family.name}: {error}") from error
        except OSError as error:
            self._trusted = False
            raise SyncError(f"rules of {self._options.family.name}: {explained(error)}") from error

    def _alter(self, wanted: Wanted) -> Synced | None:
        """Sync what changed; None if that is so much that a new table is cheaper."""
        self._trusted = False
        changes = self._ledger.change(wanted.portals, wanted.changed)
        encoder = Encoder(self._table, self._options.family)
        messages = list(transaction.altering(encoder, changes, chains_go=self._chains_go))
        size = transaction.size_of(messages)
        if size > min(_PARTIAL_LIMIT, self._socket.largest):
            return None
        if messages:
            self._socket.commit(messages)
            self._remember()
        self._rules += changes.rules
        self._trusted = True
        return Synced(False, len(wanted.changed), size if messages else 0, self._counts())

    def _replace(self, wanted: Wanted) -> Synced:
        self._trusted = False
        contents = self._ledger.fill(wanted.portals)
        present = self._tables()
        current = self._hooked(present)
        fresh = TABLES[1] if current == TABLES[0] else TABLES[0]
        if current:
            contents.elements.update(
                remembered(self._socket, current, self._options.family, contents.sets)
            )
        # Left by a proxy that ended halfway.
        left = [each for each in TABLES if each in present and each != current]
        self._commit([self._encoder(each).delete_table() for each in left])
        encoder = self._encoder(fresh)
        size = 0
        limit = min(_BATCH_SIZE, self._socket.largest)
        with self._quiet():
            try:
                for batch in transaction.batches(transaction.filling(encoder, contents), limit):
                    size += transaction.size_of(batch)
                    self._socket.commit(batch)
                old = [self._encoder(each) for each in (current, PEER_TABLE) if each in present]
                self._socket.commit(list(transaction.activation(encoder, old)))
            except (Refused, OSError):
                with contextlib.suppress(Refused, OSError):
                    self._socket.commit([encoder.delete_table()])
                raise
            self._table = fresh
            self._remember()
        self._rules = contents.rules
        self._trusted = True
        return Synced(True, len(wanted.portals), size, self._counts())

    def plan(self, wanted: Wanted) -> str:
        """Return the table of ``wanted`` as ``nft -f`` reads it.

        Raises:
            SyncError: a portal cannot be written as rules.
        """
        try:
            contents = Ledger(self._options).fill(wanted.portals)
        except PortalError as error:
            raise SyncError(str(error)) from error
        return transaction.as_table(TABLES[0], self._options, contents).text()

    def intact(self) -> bool:
        """Whether the table in force is the one that the last sync left.

        That it is the same table, with as many chains and sets, is all that can be asked for
        cheaply; `watch` tells of changes inside.
        """
        if self._in_force is None:
            return False
        try:
            if self._socket.generation() == self._in_force.generation:
                return True
            before = self._in_force
            self._remember()
        except (OSError, SyncError):
            return False
        same = (before.handle, before.uses) == (self._in_force.handle, self._in_force.uses)
        if not same:
            self._in_force = None
        return same

    def watch(self, doubt: Callable[[str], None]) -> Callable[[], None] | None:
        """Call ``doubt`` when somebody else changes our table; see `Backend.watch`."""
        try:
            watch = Watch(self._family, self._socket.port, doubt)
        except OSError:
            return None
        self._watch = watch

        def end() -> None:
            self._watch = None
            watch.close()

        return end

    def cleanup(self) -> None:
        """Remove our tables and the Go kube-proxy's.

        Raises:
            SyncError: the kernel refused.
        """
        try:
            present = self._tables()
            gone = [each for each in (*TABLES, PEER_TABLE) if each in present]
            self._commit([self._encoder(each).delete_table() for each in gone])
        except Refused as error:
            raise SyncError(f"rules of {self._options.family.name} stay: {error}") from error
        except OSError as error:
            if error.errno not in _WITHOUT_NFTABLES:
                raise SyncError(
                    f"rules of {self._options.family.name} stay: {explained(error)}"
                ) from error
        self._trusted, self._table, self._in_force = False, "", None

    def close(self) -> None:
        """Close the sockets; rules stay."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self._socket.close()

    def _commit(self, messages: list[Message]) -> None:
        if messages:
            with self._quiet():
                self._socket.commit(messages)

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
        return Encoder(table, self._options.family)

    def _tables(self) -> list[str]:
        return [text_of(each[1]) for each in self._socket.dump(Kind.GET_TABLE, self._family)]

    def _hooked(self, present: list[str]) -> str:
        """Return the table of ours that is in force, "" if there is none."""
        for each in TABLES:
            chain = (string(1, each), string(3, layout.FIRST_HOOK))
            if each in present and self._socket.get(Kind.GET_CHAIN, self._family, *chain):
                return each
        return ""

    def _remember(self) -> None:
        """Keep what tells later whether the table is still this one."""
        self._in_force = None
        generation = self._socket.generation()
        found = self._socket.get(Kind.GET_TABLE, self._family, string(1, self._table))
        if found is None:
            raise SyncError(f"table {self._table} was removed by somebody else")
        self._in_force = _InForce(found.get(4, b""), found.get(3, b""), generation)

    def _counts(self) -> dict[str, int]:
        return {"kubeletpy-proxy": self._rules}


def explained(error: OSError) -> str:
    """Return why netlink failed, and what to do about it where that is known."""
    if error.errno in _WITHOUT_NFTABLES:
        return f"this kernel has no nf_tables ({error}); use iptables mode"
    if error.errno == errno.EPERM:
        return f"netlink failed: {error}; the proxy needs CAP_NET_ADMIN"
    return f"netlink failed: {error}"


def _kernel() -> tuple[int, int]:
    """Return the kernel's version."""
    major, _, rest = os.uname().release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return int(major), int(minor) if minor.isdigit() else 0
