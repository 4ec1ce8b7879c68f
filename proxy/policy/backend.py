"""The table of policies of one family: what the ledger says goes to the kernel over netlink."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..backend import SyncError
from ..model.portal import Family
from ..nftables.ledger import Changes, Contents
from ..nftables.ruleset import Table
from ..nftables.socket import Refused
from ..nftables.tables import WITHOUT_NFTABLES, Plan, TablePair, explained
from . import layout

_REMEDY = "network policies need one that has it"


class PolicyTable:
    """The table of one family. Its methods block; one thread at a time calls them.

    Raises:
        OSError: there is no netlink socket for rules.
    """

    def __init__(self, family: Family) -> None:
        self.family = family
        self._tables = TablePair(
            Plan(
                family, layout.TABLES, layout.TABLE_COMMENT, layout.base_chains(family),
                layout.FIRST_HOOK, (), layout.SHARED_SETS,
            )
        )  # fmt: skip

    def alter(self, changes: Changes) -> bool:
        """Change the table; False if that is so much that it had better be made anew.

        Raises:
            SyncError: the kernel refused something, which the message names; nothing was changed.
        """
        try:
            return self._tables.alter(changes) is not None
        except (Refused, OSError) as error:
            raise self._failed(error) from error

    def replace(self, contents: Contents) -> int:
        """Put a table of these contents in force, in one step; return the bytes that took.

        Raises:
            SyncError: the kernel refused something, which the message names; the old table stays.
        """
        try:
            return self._tables.replace(replace(contents, elements=dict(contents.elements)))
        except (Refused, OSError) as error:
            raise self._failed(error) from error

    def intact(self) -> bool:
        """Whether the table is the one that was left, as far as can be told cheaply."""
        return self._tables.intact()

    def watch(
        self, doubt: Callable[[str], None], lost: Callable[[], None]
    ) -> Callable[[], None] | None:
        """Call ``doubt`` or ``lost`` when others change rules; see `TablePair.watch`."""
        return self._tables.watch(doubt, lost)

    def cleanup(self) -> None:
        """Remove the tables; nothing of others is touched.

        Raises:
            SyncError: the kernel refused.
        """
        try:
            self._tables.remove()
        except (Refused, OSError) as error:
            if isinstance(error, OSError) and error.errno in WITHOUT_NFTABLES:
                return
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the sockets; rules stay."""
        self._tables.close()

    def _failed(self, error: Exception) -> SyncError:
        text = explained(error, _REMEDY) if isinstance(error, OSError) else str(error)
        return SyncError(f"network policies of {self.family.name}: {text}")


def as_text(family: Family, contents: Contents) -> str:
    """Return a table of these contents as ``nft -f`` reads it."""
    chains = {each.name: each for each in layout.base_chains(family)}
    chains.update((name, contents.chains[name]) for name in sorted(contents.chains))
    table = Table(layout.TABLES[0], family, layout.TABLE_COMMENT, chains=chains)
    for name in sorted(contents.sets):
        table.sets[name] = contents.sets[name]
        table.elements[name] = sorted(contents.elements.get(name, ()))
    return table.text()
