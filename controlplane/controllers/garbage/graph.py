"""Who owns whom, kept in memory (pure)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

FOREGROUND: Final = "foregroundDeletion"
"""Finalizer of what goes once its dependents are gone."""
ORPHAN: Final = "orphan"
"""Finalizer of what goes once its dependents have forgotten it."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A reference to an owner.

    Attributes:
        api_version: of it.
        kind: of it.
        name: of it.
        uid: of it.
        blocks: ``blockOwnerDeletion``: an owner that is deleted in the foreground waits for it.
    """

    api_version: str
    kind: str
    name: str
    uid: str
    blocks: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """An object, as far as its owners and its deletion go.

    Attributes:
        key: of its place, unlike all others.
        uid: of it.
        owners: that it names.
        deleting: its deletion is asked for.
        finalizers: that hold it.
    """

    key: str
    uid: str
    owners: tuple[Owner, ...] = ()
    deleting: bool = False
    finalizers: tuple[str, ...] = ()

    @property
    def waits(self) -> bool:
        """It is deleted in the foreground: once its dependents are gone."""
        return self.deleting and FOREGROUND in self.finalizers

    @property
    def orphans(self) -> bool:
        """It goes once its dependents have forgotten it."""
        return self.deleting and ORPHAN in self.finalizers


class Graph:
    """All objects, by uid and by owner."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._uids: dict[str, str] = {}
        self._dependents: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, uid: str) -> Node | None:
        """Return an object, None if there is none of this uid."""
        return self._nodes.get(uid)

    def dependents(self, uid: str) -> list[Node]:
        """Return the objects that name this one as an owner."""
        return [self._nodes[one] for one in self._dependents.get(uid, ())]

    def owned_by_kinds(self, kinds: Collection[tuple[str, str]]) -> list[str]:
        """Return the uids of objects with an owner of one of these kinds: (apiVersion, kind)."""
        return [
            node.uid
            for node in self._nodes.values()
            if any((owner.api_version, owner.kind) in kinds for owner in node.owners)
        ]

    def change(self, key: str, node: Node | None) -> list[str]:
        """Take in what is at a key now; None: nothing.

        Returns:
            the uids of the objects that are to be looked at because of it.
        """
        before = self._nodes.get(self._uids.get(key, ""))
        if before is not None and (node is None or node.uid != before.uid):
            look = self._remove(before)
            return look if node is None else [*look, *self._put(None, node)]
        return [] if node is None else self._put(before, node)

    def _remove(self, node: Node) -> list[str]:
        del self._nodes[node.uid], self._uids[node.key]
        for owner in node.owners:
            self._forget(owner.uid, node.uid)
        waiting = [o.uid for o in node.owners if self._is_waiting(o.uid)]
        return [*self._dependents.get(node.uid, ()), *waiting]

    def _put(self, before: Node | None, node: Node) -> list[str]:
        self._nodes[node.uid] = node
        self._uids[node.key] = node.uid
        old = before.owners if before is not None else ()
        look: list[str] = []
        if before is None or old != node.owners:
            now = {owner.uid for owner in node.owners}
            for owner in old:
                if owner.uid not in now:
                    self._forget(owner.uid, node.uid)
            for uid in now:
                self._dependents.setdefault(uid, {})[node.uid] = None
            if node.owners:
                look.append(node.uid)
            # A reference that is gone or blocks no longer may be what an owner has waited for.
            look += [o.uid for o in old if o not in node.owners and self._is_waiting(o.uid)]
        if node.waits and not (before is not None and before.waits):
            look += [node.uid, *self._dependents.get(node.uid, ())]
        if node.orphans and not (before is not None and before.orphans):
            look.append(node.uid)
        return look

    def _forget(self, owner: str, dependent: str) -> None:
        known = self._dependents.get(owner)
        if known is not None:
            known.pop(dependent, None)
            if not known:
                del self._dependents[owner]

    def _is_waiting(self, uid: str) -> bool:
        node = self._nodes.get(uid)
        return node is not None and node.waits
