"""What is in force, and the text that makes it what is wanted: pure, nothing is run here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

from ..backend import RuleOptions
from ..model.portal import Portal, PortalName
from . import names
from .dispatch import Entry
from .rules import (
    Host,
    Jump,
    Way,
    fixed_chains,
    jumps,
    node_port_rules,
    portal_rules,
    refused_node_port_rules,
)

TABLES = ("filter", "nat", "mangle")
"""In the order they are written: first what is refused, with the guard of 127.0.0.0/8."""

Chains = dict[str, dict[str, list[str]]]
"""Rules (without ``-A CHAIN``) by table and chain."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is on the machine, by table: chains that are ours, and jumps into them."""

    chains: Mapping[str, Set[str]] = field(default_factory=dict)
    jumps: Set[Jump] = frozenset()


@dataclass(slots=True)
class Changes:
    """What a transaction writes: chains anew, chains away, and jumps put in."""

    written: Chains = field(default_factory=lambda: {table: {} for table in TABLES})
    removed: dict[str, set[str]] = field(default_factory=lambda: {t: set() for t in TABLES})
    jumps: tuple[Jump, ...] = ()

    def text(self) -> str:
        """Return what ``iptables-restore --noflush`` is to read; "" if there is nothing to do."""
        return "".join(filter(None, map(self._table, TABLES)))

    def _table(self, table: str) -> str:
        written, removed = self.written[table], self.removed[table]
        into = [jump for jump in self.jumps if jump.table == table]
        if not (written or removed or into):
            return ""
        # iptables-nft inserts each chain into a list sorted by name, from its head: the greatest
        # first spares it a walk of the whole list for each (5,000 Services: 1 s).
        declared = sorted({*written, *removed}, reverse=True)
        lines = [f"*{table}", *(f":{chain} - [0:0]" for chain in declared)]
        # Each is put before what is there, so the last of them comes out first, as in the peer.
        lines += (f"-I {jump.source} {jump.rule}" for jump in into)
        for chain in declared:
            if rules := written.get(chain):
                start = f"-A {chain} "
                lines += [start + rule for rule in rules]
        lines += (f"-X {chain}" for chain in declared if chain in removed)
        lines.append("COMMIT\n")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Listed:
    """What a portal has: chains in ``nat`` and places in lists."""

    chains: tuple[str, ...]
    entries: tuple[tuple[Way, Entry], ...]


class RuleSet:
    """The rules of one family as they were last written, each chain as a hash and a count."""

    def __init__(self, options: RuleOptions, host: Host) -> None:
        self._options = options
        self._host = host
        self._portals: dict[PortalName, _Listed] = {}
        self._in_force: dict[str, dict[str, tuple[int, int]]] = {table: {} for table in TABLES}
        self._below: dict[Way, set[str]] = {way: set() for way in Way}

    def forget(self) -> None:
        """Believe nothing to be in force: the next changes are all."""
        self._portals = {}
        self._in_force = {table: {} for table in TABLES}
        self._below = {way: set() for way in Way}

    @property
    def rules(self) -> dict[str, int]:
        """Rules in force in each table."""
        return {
            table: sum(count for _, count in chains.values())
            for table, chains in self._in_force.items()
            if table != "mangle"
        }

    def make_all(self, portals: Mapping[PortalName, Portal], found: Found) -> Changes:
        """Return everything, and what of ``found`` is no longer ours.

        Raises:
            OSError: an address of a portal is not of the family.
        """
        self.forget()
        changes = Changes(jumps=tuple(j for j in jumps(self._options) if j not in found.jumps))
        for table, chains in fixed_chains(self._options, self._host).items():
            changes.written[table].update(chains)
        for portal in portals.values():
            self._write_portal(portal, changes)
        for way in Way:
            self._write_list(way, changes)
        for table in TABLES:
            stale = set(found.chains.get(table, ())) - changes.written[table].keys()
            changes.removed[table] = {chain for chain in stale if names.is_ours(table, chain)}
            self._remember(table, changes.written[table])
        return changes

    def make_changed(
        self, portals: Mapping[PortalName, Portal], changed: Iterable[PortalName]
    ) -> Changes:
        """Return what to write so that the portals named are as they are wanted.

        Raises:
            OSError: an address of a portal is not of the family.
        """
        changes = Changes()
        lists: set[Way] = set()
        before: set[str] = set()
        for name in changed:
            old = self._portals.pop(name, _Listed((), ()))
            before.update(old.chains)
            if name in portals:
                self._write_portal(portals[name], changes)
            new = self._portals.get(name, _Listed((), ()))
            lists.update(way for way, _ in set(old.entries) ^ set(new.entries))
        changes.removed["nat"] = before - changes.written["nat"].keys()
        for way in lists:
            self._write_list(way, changes)
        for table in TABLES:
            self._leave_out_same(table, changes)
            self._remember(table, changes.written[table])
            for chain in changes.removed[table]:
                self._in_force[table].pop(chain, None)
        return changes

    def _write_portal(self, portal: Portal, changes: Changes) -> None:
        made = portal_rules(portal, self._options, self._host)
        changes.written["nat"].update(made.chains)
        self._portals[portal.name] = _Listed(tuple(made.chains), made.entries)

    def _write_list(self, way: Way, changes: Changes) -> None:
        """Make the tree of a list anew; chains of it that are no more are removed."""
        entries = [
            entry
            for listed in self._portals.values()
            for entered, entry in listed.entries
            if entered is way
        ]
        tree = way.space(self._options.family).tree(way.root, entries)
        if way is Way.SERVED:
            tree[way.root] += node_port_rules(self._options)
        elif way is Way.REFUSED_OUTSIDE:
            tree[way.root] += refused_node_port_rules(self._options)
        changes.written[way.table].update(tree)
        changes.removed[way.table] |= self._below[way] - tree.keys()
        self._below[way] = set(tree)

    def _leave_out_same(self, table: str, changes: Changes) -> None:
        written, in_force = changes.written[table], self._in_force[table]
        for chain in [name for name, rules in written.items() if in_force.get(name) == _sum(rules)]:
            del written[chain]

    def _remember(self, table: str, chains: Mapping[str, list[str]]) -> None:
        for chain, rules in chains.items():
            self._in_force[table][chain] = _sum(rules)


def _sum(rules: list[str]) -> tuple[int, int]:
    # Python's own hash is keyed anew in each process: nobody can prepare two texts with one sum.
    return hash("\n".join(rules)), len(rules)


def parse_saved(text: str) -> tuple[dict[str, set[str]], dict[tuple[str, str], list[list[str]]]]:
    """Read what ``iptables-save`` says: chains by table, and rules of the kernel's own chains.

    Rules are lists of words, by table and chain; of chains that users made none is kept.
    """
    chains: dict[str, set[str]] = defaultdict(set)
    rules: dict[tuple[str, str], list[list[str]]] = defaultdict(list)
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":"):
            chains[table].add(line[1:].split(" ", 1)[0])
        elif line.startswith("-A ") and not line.startswith("-A KUBE-"):
            words = split_rule(line)
            if words[1] in BUILT_IN:
                rules[table, words[1]].append(words[2:])
    return dict(chains), dict(rules)


BUILT_IN = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})
"""The kernel's own chains."""


def split_rule(line: str) -> list[str]:
    """Split a line of ``iptables-save`` into words; quoted ones stay whole."""
    import shlex  # only a full sync needs it

    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def find(text: str, options: RuleOptions) -> Found:
    """Return what of ours there is, from what ``iptables-save`` says of all tables."""
    chains, rules = parse_saved(text)
    present = {
        jump
        for jump in jumps(options)
        if any(same_rule(jump, words) for words in rules.get((jump.table, jump.source), ()))
    }
    ours = {
        table: {chain for chain in members if names.is_ours(table, chain)}
        for table, members in chains.items()
    }
    return Found(ours, present)


def same_rule(jump: Jump, words: list[str]) -> bool:
    """Whether a rule of a chain of the kernel is this jump; the order of matches tells nothing."""
    return sorted(words) == sorted(split_rule(jump.rule))
