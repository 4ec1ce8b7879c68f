"""What a namespace uses: what is stored, and what is being written right now.

Both count, or many writers at once could each find room for the last one. What is stored is read
when it is asked for; what an object counts for is computed once from each version of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Final
from weakref import WeakKeyDictionary

from controlplane.api import codec
from controlplane.api.resource import Object
from controlplane.controllers.quota.usage import (
    PODS,
    add,
    counted_kinds,
    matches_scopes,
    usage_of,
)
from controlplane.kinds.totals import Amounts
from controlplane.store.model import Item
from controlplane.store.store import Store

Kind = tuple[str, str]
"""Group and plural of a resource."""

_NONE: Final = (Decimal(0), "0")


class Ledger:
    """Usage of all namespaces.

    Args:
        store: of the objects.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: WeakKeyDictionary[Item, Amounts] = WeakKeyDictionary()
        self._writing: dict[str, dict[Reservation, None]] = {}

    def used(self, namespace: str, spec: Object, now: datetime) -> Amounts:
        """Return how much is used of what a quota counts.

        Args:
            namespace: of the quota.
            spec: of the quota.
            now: pods that should be gone by then count no more.
        """
        counted = counted_kinds(spec.get("hard", {}))
        scoped = bool(spec.get("scopes") or spec.get("scopeSelector"))
        total: Amounts = {}
        for kind, names in counted.items():
            total.update((name, _NONE) for name in names)
            for usage in self._usages(kind, namespace, spec if scoped else None, now):
                add(total, {name: usage[name] for name in names if name in usage})
        return total

    def reserve(self, kind: Kind, key: str, value: Object, usage: Amounts) -> Reservation:
        """Count an object that is about to be written at ``key``; until it is kept or dropped."""
        made = Reservation(self, kind, key, value, usage)
        self._writing.setdefault(made.prefix, {})[made] = None
        return made

    def forget(self, reservation: Reservation) -> None:
        """Count it no longer as being written."""
        writing = self._writing.get(reservation.prefix, {})
        writing.pop(reservation, None)
        if not writing:
            self._writing.pop(reservation.prefix, None)

    def _usages(
        self, kind: Kind, namespace: str, spec: Object | None, now: datetime
    ) -> Iterable[Amounts]:
        prefix = prefix_of(kind, namespace)
        written = {one.key: one for one in self._writing.get(prefix, ())}
        for item in self._store.read(prefix).items:
            one = written.pop(item.key, None)
            stored = self._usage(kind, item, now)
            value = codec.decode(item) if spec is not None else None
            if value is not None and spec is not None and not matches_scopes(kind, value, spec):
                stored = {}
            if one is not None and (spec is None or matches_scopes(kind, one.value, spec)):
                # Nobody knows yet which of the two it will be.
                stored = {
                    name: max(stored.get(name, _NONE), one.usage.get(name, _NONE))
                    for name in stored.keys() | one.usage.keys()
                }
            yield stored
        for one in written.values():
            if spec is None or matches_scopes(kind, one.value, spec):
                yield one.usage

    def _usage(self, kind: Kind, item: Item, now: datetime) -> Amounts:
        known = self._known.get(item)
        if known is None:
            value = codec.decode(item)
            known = usage_of(kind, value, now)
            # A pod on its way out stops to count at a time, without another version of it.
            if kind != PODS or "deletionTimestamp" not in value["metadata"]:
                self._known[item] = known
        return known


class Reservation:
    """An object that is being written; a claim of the registry."""

    def __init__(self, ledger: Ledger, kind: Kind, key: str, value: Object, usage: Amounts) -> None:
        self._ledger = ledger
        self.prefix = prefix_of(kind, value["metadata"]["namespace"])
        self.key = key
        self.value = value
        self.usage = usage

    def keep(self) -> None:
        """It is stored, and counts as that."""
        self._ledger.forget(self)

    def drop(self) -> None:
        """It was not written."""
        self._ledger.forget(self)


def prefix_of(kind: Kind, namespace: str) -> str:
    """Return the beginning of the keys of a kind's objects in a namespace."""
    group, plural = kind
    return f"/{group or 'core'}/{plural}/{namespace}/"
