"""What is in the table, kept so that a change costs what it touches.

Kept are the portals themselves (the model has them anyway), who has which way in, and counters for
what several portals share. What a portal has in the table is worked out anew, before and after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..backend import RuleOptions
from ..model.portal import Portal, PortalName
from . import layout
from .layout import NODE_PORT_IPS, SHARED_SETS, Shape
from .portals import SHARED_BY_PORTALS, Entry, Parts, bounds, frontends, parts_of
from .ruleset import Chain, Element, SetSpec

Claim = tuple[int, PortalName]
"""Who wants a way in; the least has it: a Service's own cluster IP before an external IP that some
other Service says it has (CVE-2020-8554), and then by name."""


class PortalError(Exception):
    """A portal cannot be written as rules; the message names it."""


@dataclass(slots=True)
class Contents:
    """All that is in a table.

    Attributes:
        elements: by the name of their set; a set that several portals share has each once.
        sets: all, by name.
        chains: all but base chains, by name.
    """

    elements: dict[str, list[Element]] = field(default_factory=dict)
    sets: dict[str, SetSpec] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)

    @property
    def rules(self) -> int:
        """How many rules there are, base chains' aside."""
        return sum(len(each.rules) for each in self.chains.values())


@dataclass(slots=True)
class Changes:
    """What is to be done to a table, in an order that the kernel takes: see the encoder.

    Attributes:
        removed, added: elements, by the name of their set.
        gone_chains: to be emptied and removed.
        other_chains: to be emptied and filled.
        new_chains: to be made and filled.
        gone_sets, new_sets: without, and with what is in them.
        own_sets: sets of single portals that ``removed`` and ``added`` name.
        rules: by how many there are more.
    """

    removed: dict[str, list[Element]] = field(default_factory=dict)
    added: dict[str, list[Element]] = field(default_factory=dict)
    gone_chains: list[str] = field(default_factory=list)
    other_chains: list[Chain] = field(default_factory=list)
    new_chains: list[Chain] = field(default_factory=list)
    gone_sets: list[str] = field(default_factory=list)
    new_sets: list[tuple[SetSpec, tuple[Element, ...]]] = field(default_factory=list)
    own_sets: dict[str, SetSpec] = field(default_factory=dict)
    rules: int = 0


class Ledger:
    """What is in the table of one family."""

    def __init__(self, options: RuleOptions) -> None:
        self._options = options
        self._portals: dict[PortalName, Portal] = {}
        self._owners: dict[bytes, Claim] = {}
        self._contenders: dict[bytes, set[Claim]] = {}
        self._shared: Counter[tuple[str, bytes]] = Counter()
        self._shapes: Counter[Shape] = Counter()

    def fill(self, portals: Mapping[PortalName, Portal]) -> Contents:
        """Begin anew with ``portals``; return all that is to be in the table.

        Raises:
            PortalError: one of them has an address that is none.
        """
        self._portals = dict(portals)
        self._owners, self._contenders = {}, {}
        self._shared, self._shapes = Counter(), Counter()
        for name, portal in portals.items():
            self._claim(name, portal)
        contents = Contents(sets=dict(SHARED_SETS))
        for chain in layout.common_chains(self._options):
            contents.chains[chain.name] = chain
        contents.elements[NODE_PORT_IPS.name] = bounds(self._options.node_port_addresses)
        for name, portal in portals.items():
            self._put(contents, self._parts(name, portal))
        for shape in self._shapes:
            contents.chains[shape.name] = shape.chain(self._options)
        return contents

    def _put(self, contents: Contents, parts: Parts) -> None:
        for set_name, elements in parts.elements.items():
            into = contents.elements.setdefault(set_name, [])
            if set_name not in SHARED_BY_PORTALS:
                into += elements
                continue
            for element in elements:
                count = self._shared[set_name, element.key]
                self._shared[set_name, element.key] = count + 1
                if not count:
                    into.append(element)
        self._shapes.update(parts.shapes)
        contents.chains.update(parts.chains)
        for set_name, (spec, elements_of_own) in parts.sets.items():
            contents.sets[set_name] = spec
            contents.elements[set_name] = list(elements_of_own)

    def change(
        self, portals: Mapping[PortalName, Portal], changed: Iterable[PortalName]
    ) -> Changes:
        """Take over ``changed`` portals; return what is to be done to the table.

        Raises:
            PortalError: one of them has an address that is none; the ledger is of no use then.
        """
        affected = set(changed)
        for name in tuple(affected):
            for portal in (self._portals.get(name), portals.get(name)):
                affected |= self._rivals(name, portal)
        before = [
            self._parts(name, self._portals[name])
            for name in sorted(affected)
            if name in self._portals
        ]
        for name in affected:
            if (old := self._portals.pop(name, None)) is not None:
                self._release(name, old)
        for name in affected:
            if (new := portals.get(name)) is not None:
                self._portals[name] = new
                self._claim(name, new)
        after = [
            self._parts(name, self._portals[name])
            for name in sorted(affected)
            if name in self._portals
        ]
        return self._difference(before, after)

    def _rivals(self, name: PortalName, portal: Portal | None) -> set[PortalName]:
        """Return portals that want a way in that ``portal`` has or wants."""
        rivals: set[PortalName] = set()
        if portal is not None:
            for key, _ in _claims(name, portal):
                claims = self._contenders.get(key)
                if claims is not None:
                    rivals.update(rival for _, rival in claims)
                elif (owner := self._owners.get(key)) is not None:
                    rivals.add(owner[1])
        return rivals

    def _claim(self, name: PortalName, portal: Portal) -> None:
        """Give a portal its ways in; of several that want the same one, the least claim has it."""
        owners = self._owners
        for key, claim in _claims(name, portal):
            owner = owners.setdefault(key, claim)
            if owner == claim:
                continue
            self._contenders.setdefault(key, {owner}).add(claim)
            owners[key] = min(owner, claim)

    def _release(self, name: PortalName, portal: Portal) -> None:
        for key, claim in _claims(name, portal):
            rivals = self._contenders.get(key)
            if rivals is not None:
                rivals.discard(claim)
                if len(rivals) == 1:
                    del self._contenders[key]
            if self._owners.get(key) == claim:
                if rivals:
                    self._owners[key] = min(rivals)
                else:
                    del self._owners[key]

    def _parts(self, name: PortalName, portal: Portal) -> Parts:
        lost: frozenset[bytes] = frozenset()
        if self._contenders:
            lost = frozenset(
                key for key, claim in _claims(name, portal) if self._owners.get(key) != claim
            )
        try:
            return parts_of(portal, self._options, lost)
        except (OSError, ValueError) as error:
            raise PortalError(f"{name} cannot be written as rules: {error}") from error

    def _difference(self, before: list[Parts], after: list[Parts]) -> Changes:
        changes = Changes()
        self._compare_chains(changes, before, after)
        self._compare_shapes(changes, before, after)
        self._compare_sets(changes, before, after)
        old, new = _elements(before), _elements(after)
        for set_name in sorted(old.keys() | new.keys()):
            _compare_elements(changes, set_name, old.get(set_name, {}), new.get(set_name, {}))
        self._compare_shared(changes, before, after)
        return changes

    def _compare_chains(self, changes: Changes, before: list[Parts], after: list[Parts]) -> None:
        old = {name: chain for parts in before for name, chain in parts.chains.items()}
        new = {name: chain for parts in after for name, chain in parts.chains.items()}
        for name, chain in new.items():
            if name not in old:
                changes.new_chains.append(chain)
            elif chain != old[name]:
                changes.other_chains.append(chain)
        changes.gone_chains += [name for name in old if name not in new]
        changes.rules += sum(len(each.rules) for each in new.values())
        changes.rules -= sum(len(each.rules) for each in old.values())

    def _compare_shapes(self, changes: Changes, before: list[Parts], after: list[Parts]) -> None:
        touched: dict[Shape, int] = {}
        for parts, step in [(each, -1) for each in before] + [(each, 1) for each in after]:
            for shape in parts.shapes:
                touched[shape] = touched.get(shape, 0) + step
        for shape, step in touched.items():
            count = self._shapes[shape]
            now = count + step
            if now:
                self._shapes[shape] = now
            else:
                del self._shapes[shape]
            if bool(now) == bool(count):
                continue
            chain = shape.chain(self._options)
            changes.rules += len(chain.rules) if now else -len(chain.rules)
            if now:
                changes.new_chains.append(chain)
            else:
                changes.gone_chains.append(chain.name)

    def _compare_sets(self, changes: Changes, before: list[Parts], after: list[Parts]) -> None:
        old = {name: each for parts in before for name, each in parts.sets.items()}
        new = {name: each for parts in after for name, each in parts.sets.items()}
        changes.gone_sets += [name for name in old if name not in new]
        for name, (spec, elements) in new.items():
            if name not in old:
                changes.new_sets.append((spec, elements))
                continue
            changes.own_sets[name] = spec
            _compare_elements(
                changes,
                name,
                {each.key: each for each in old[name][1]},
                {each.key: each for each in elements},
            )

    def _compare_shared(self, changes: Changes, before: list[Parts], after: list[Parts]) -> None:
        steps: Counter[tuple[str, bytes]] = Counter()
        for parts, step in [(each, -1) for each in before] + [(each, 1) for each in after]:
            for set_name in SHARED_BY_PORTALS:
                for element in parts.elements.get(set_name, ()):
                    steps[set_name, element.key] += step
        for (set_name, key), step in steps.items():
            count = self._shared[set_name, key]
            now = count + step
            if now:
                self._shared[set_name, key] = now
            else:
                del self._shared[set_name, key]
            if now and not count:
                changes.added.setdefault(set_name, []).append(Element(key))
            elif count and not now:
                changes.removed.setdefault(set_name, []).append(Element(key))


def _claims(name: PortalName, portal: Portal) -> list[tuple[bytes, Claim]]:
    """Return the keys of a portal's ways in, and how strong its claim to each is."""
    try:
        return [
            (each.key, (int(each.entry is not Entry.CLUSTER_IP), name))
            for each in frontends(portal)
        ]
    except (OSError, ValueError, KeyError) as error:
        raise PortalError(f"{name} cannot be written as rules: {error}") from error


def _elements(all_parts: list[Parts]) -> dict[str, dict[bytes, Element]]:
    """Return the elements that belong to one portal each, by set and key."""
    found: dict[str, dict[bytes, Element]] = {}
    for parts in all_parts:
        for set_name, elements in parts.elements.items():
            if set_name not in SHARED_BY_PORTALS:
                into = found.setdefault(set_name, {})
                into.update((each.key, each) for each in elements)
    return found


def _compare_elements(
    changes: Changes, name: str, old: dict[bytes, Element], new: dict[bytes, Element]
) -> None:
    removed = [each for key, each in old.items() if new.get(key) != each]
    added = [each for key, each in new.items() if old.get(key) != each]
    if removed:
        changes.removed.setdefault(name, []).extend(removed)
    if added:
        changes.added.setdefault(name, []).extend(added)
