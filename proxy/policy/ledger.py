"""What is to be in a table, and what was changed since it was last asked (pure).

Many may want the same thing: the same set for two policies, the same address in a set for two pods
that follow each other. Each is counted, and is there while somebody wants it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..nftables.ledger import Changes, Contents
from ..nftables.ruleset import Chain, Element, SetSpec


@dataclass(slots=True)
class _Set:
    """A set and how many want it; its elements, each with how many want that."""

    spec: SetSpec
    elements: dict[bytes, Element]
    wanted: dict[bytes, int]
    users: int = 1


class Ledger:
    """The contents of one table.

    Args:
        shared: sets that are always there.
    """

    def __init__(self, shared: Iterable[SetSpec]) -> None:
        self._sets: dict[str, _Set] = {each.name: _Set(each, {}, {}) for each in shared}
        self._chains: dict[str, Chain] = {}
        self._users: dict[str, int] = {}
        # As they were when somebody last asked; None for what was not there.
        self._old_sets: dict[str, SetSpec | None] = {}
        self._old_chains: dict[str, Chain | None] = {}
        self._old_elements: dict[str, dict[bytes, Element | None]] = {}

    @property
    def changed(self) -> bool:
        """Whether something may have changed since it was last asked."""
        return bool(self._old_sets or self._old_chains or self._old_elements)

    def want_set(self, spec: SetSpec, elements: Iterable[Element] = ()) -> bool:
        """Have a set; True if it was not there, and has these elements now alone."""
        found = self._sets.get(spec.name)
        if found is not None:
            found.users += 1
            return False
        self._old_sets.setdefault(spec.name, None)
        self._sets[spec.name] = _Set(spec, {}, {})
        for each in elements:
            self.put(spec.name, each)
        return True

    def leave_set(self, name: str) -> bool:
        """Want a set no more; True if nobody does, and it is gone."""
        found = self._sets[name]
        found.users -= 1
        if found.users:
            return False
        for key in tuple(found.elements):
            self._touch(name, key)
        self._old_sets.setdefault(name, found.spec)
        del self._sets[name]
        return True

    def add(self, name: str, key: bytes) -> None:
        """Want an element once more."""
        found = self._sets[name]
        count = found.wanted.get(key, 0)
        if count:
            found.wanted[key] = count + 1
            return
        found.wanted[key] = 1
        self._touch(name, key)
        found.elements[key] = Element(key)

    def remove(self, name: str, key: bytes) -> None:
        """Want an element once less."""
        found = self._sets[name]
        count = found.wanted.pop(key, 0)
        if count > 1:
            found.wanted[key] = count - 1
        elif count:
            self._touch(name, key)
            found.elements.pop(key)

    def put(self, name: str, element: Element) -> None:
        """Have an element as it is said."""
        elements = self._sets[name].elements
        if elements.get(element.key) != element:
            self._touch(name, element.key)
            elements[element.key] = element

    def drop(self, name: str, key: bytes) -> None:
        """Have no element of a key."""
        if key in self._sets[name].elements:
            self._touch(name, key)
            del self._sets[name].elements[key]

    def want_chain(self, chain: Chain) -> bool:
        """Have a chain; True if it was not there."""
        count = self._users.get(chain.name, 0)
        self._users[chain.name] = count + 1
        if not count:
            self.put_chain(chain)
        return not count

    def leave_chain(self, name: str) -> bool:
        """Want a chain no more; True if nobody does, and it is gone."""
        count = self._users[name] - 1
        if count:
            self._users[name] = count
            return False
        del self._users[name]
        self._old_chains.setdefault(name, self._chains.pop(name))
        return True

    def put_chain(self, chain: Chain) -> None:
        """Have other rules in a chain."""
        before = self._chains.get(chain.name)
        if before != chain:
            self._old_chains.setdefault(chain.name, before)
            self._chains[chain.name] = chain

    def contents(self) -> Contents:
        """Return all that is to be in the table; changes are told from now on."""
        self._forget()
        return Contents(
            {name: list(each.elements.values()) for name, each in self._sets.items()},
            {name: each.spec for name, each in self._sets.items()},
            dict(self._chains),
        )

    def take(self) -> Changes:
        """Return what is to be done since this or `contents` was last called."""
        changes = Changes()
        for name, old_chain in self._old_chains.items():
            chain = self._chains.get(name)
            if chain is None and old_chain is not None:
                changes.gone_chains.append(name)
            elif chain is not None and old_chain is None:
                changes.new_chains.append(chain)
            elif chain is not None and chain != old_chain:
                changes.other_chains.append(chain)
            changes.rules += len(chain.rules) if chain else 0
            changes.rules -= len(old_chain.rules) if old_chain else 0
        whole = set()
        for name, old_spec in self._old_sets.items():
            found = self._sets.get(name)
            if old_spec is not None and found is None:
                changes.gone_sets.append(name)
                whole.add(name)
            elif old_spec is None and found is not None:
                changes.new_sets.append((found.spec, tuple(found.elements.values())))
                whole.add(name)
            elif found is None:
                whole.add(name)
        for name in self._old_elements.keys() - whole:
            self._compare(changes, name)
        self._forget()
        return changes

    def _compare(self, changes: Changes, name: str) -> None:
        found = self._sets[name]
        for key, old in self._old_elements[name].items():
            now = found.elements.get(key)
            if now == old:
                continue
            changes.own_sets[name] = found.spec
            if old is not None:
                changes.removed.setdefault(name, []).append(old)
            if now is not None:
                changes.added.setdefault(name, []).append(now)

    def _touch(self, name: str, key: bytes) -> None:
        # What is in a set that is not in the table yet goes there with it.
        if self._old_sets.get(name, self) is not None:
            before = self._sets[name].elements.get(key)
            self._old_elements.setdefault(name, {}).setdefault(key, before)

    def _forget(self) -> None:
        self._old_sets, self._old_chains, self._old_elements = {}, {}, {}
