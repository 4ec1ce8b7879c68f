"""The rules of one family in nftables mode: what is wanted goes to the kernel over netlink.

A full sync puts a new table in force, see ``nftables.tables``. Established flows do not notice:
their translation is in conntrack. A partial sync is one transaction on the table in force. Nothing
is ever listed but the names of tables and, on a full sync, the clients of services with affinity,
which the new table takes over.
"""

from __future__ import annotations

from collections.abc import Callable

from ..backend import RuleOptions, Synced, SyncError, Wanted
from . import layout, transaction
from .affinity import remembered
from .layout import PEER_TABLE, TABLES
from .ledger import Ledger, PortalError
from .socket import Refused
from .tables import WITHOUT_NFTABLES, Plan, TablePair, explained


class NftablesBackend:
    """The rules of one family in nftables mode.

    Raises:
        OSError: there is no netlink socket for rules.
    """

    def __init__(self, options: RuleOptions) -> None:
        self._options = options
        self._tables = TablePair(
            Plan(
                options.family, TABLES, layout.TABLE_COMMENT, tuple(layout.base_chains()),
                layout.FIRST_HOOK, (PEER_TABLE,), layout.SHARED_SETS,
            )
        )  # fmt: skip
        self._ledger = Ledger(options)
        self._trusted = False
        self._rules = 0

    @property
    def table(self) -> str:
        """The name of the table in force; "" before the first sync."""
        return self._tables.name

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
        size = self._tables.alter(changes)
        if size is None:
            return None
        self._rules += changes.rules
        self._trusted = True
        return Synced(False, len(wanted.changed), size, self._counts())

    def _replace(self, wanted: Wanted) -> Synced:
        self._trusted = False
        contents = self._ledger.fill(wanted.portals)
        size = self._tables.replace(
            contents,
            lambda current: remembered(
                self._tables.socket, current, self._options.family, contents.sets
            ),
        )
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
        """Whether the table in force is the one that the last sync left, as far as is cheap."""
        return self._tables.intact()

    def watch(self, doubt: Callable[[str], None]) -> Callable[[], None] | None:
        """Call ``doubt`` when somebody else changes our table; see `Backend.watch`."""
        return self._tables.watch(doubt)

    def cleanup(self) -> None:
        """Remove our tables and the Go kube-proxy's.

        Raises:
            SyncError: the kernel refused.
        """
        try:
            self._tables.remove()
        except Refused as error:
            raise SyncError(f"rules of {self._options.family.name} stay: {error}") from error
        except OSError as error:
            if error.errno not in WITHOUT_NFTABLES:
                raise SyncError(
                    f"rules of {self._options.family.name} stay: {explained(error)}"
                ) from error
        self._trusted = False

    def close(self) -> None:
        """Close the sockets; rules stay."""
        self._tables.close()

    def _counts(self) -> dict[str, int]:
        return {"kubeletpy-proxy": self._rules}
