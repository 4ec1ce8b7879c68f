"""What is in force, and the text that makes it what is wanted: pure, nothing is run here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field

from ..backend import RuleOptions
from ..model.portal import Portal, PortalName
from . import names
from .dispatch import Entry, Way
from .portals import portal_rules
from .rules import Host, Jump, fixed_chains, jumps, node_port_rules, refused_node_port_rules

TABLES = ("filter", "nat", "mangle")
"""In the order they are written: first what is refused, with the guard of 127.0.0.0/8."""

Chains = dict[str, dict[str, list[str]]]
"""Rules (without ``-A CHAIN``) by table and chain."""
Sum = tuple[int, int]
"""What is kept of the rules of a chain: a hash of their text, and how many they are."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is on the machine: our chains, by table, each as hash and count; jumps into them."""

    chains: Mapping[str, Mapping[str, Sum]] = field(default_factory=dict)
    jumps: Set[Jump] = frozenset()


@dataclass(slots=True)
class Changes:
    """What a transaction writes: chains anew, chains away, and jumps put in."""

    written: Chains = field(default_factory=lambda: {table: {} for table in TABLES})
    removed: dict[str, set[str]] = field(default_factory=lambda: {t: set() for t in TABLES})
    jumps: tuple[Jump, ...] = ()

    def text(self) -> str:
        """Return what ``iptables-restore --noflush`` is to read; "" if there is nothing to do."""
        return "".join(piece for table in TABLES for piece in self._table(table))

    def drain(self) -> Iterator[str]:
        """Yield the text in pieces, and forget what was yielded: it may be large."""
        for table in TABLES:
            yield from self._table(table, forget=True)

    def _table(self, table: str, *, forget: bool = False) -> Iterator[str]:
        written, removed = self.written[table], self.removed[table]
        into = [jump for jump in self.jumps if jump.table == table]
        if not (written or removed or into):
            return
        # iptables-nft inserts each chain into a list sorted by name, from its head: the greatest
        # first spares it a walk of the whole list for each (5,000 Services: 1 s).
        declared = sorted({*written, *removed}, reverse=True)
        yield "\n".join([f"*{table}", *(f":{chain} - [0:0]" for chain in declared), ""])
        # Each is put before what is there, so the last of them comes out first, as in the peer.
        yield from (f"-I {jump.source} {jump.rule}\n" for jump in into)
        for chain in declared:
            start = f"-A {chain} "
            rules = (written.pop(chain, None) if forget else written.get(chain)) or ()
            yield "".join([f"{start}{rule}\n" for rule in rules])
        yield from (f"-X {chain}\n" for chain in declared if chain in removed)
        yield "COMMIT\n"


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
        self._in_force: dict[str, dict[str, Sum]] = {table: {} for table in TABLES}
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
        """Return what of everything is not there, and what is there and not wanted.

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
            _leave_out(changes.written[table], found.chains.get(table, {}))
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
            _leave_out(changes.written[table], self._in_force[table])
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

    def _remember(self, table: str, chains: Mapping[str, list[str]]) -> None:
        for chain, rules in chains.items():
            self._in_force[table][chain] = _sum(rules)


def _leave_out(written: dict[str, list[str]], there: Mapping[str, Sum]) -> None:
    """Do not write what is there."""
    for chain in [name for name, rules in written.items() if there.get(name) == _sum(rules)]:
        del written[chain]


def _sum(rules: list[str]) -> Sum:
    # Python's own hash is keyed anew in each process: nobody can prepare two texts with one sum.
    return hash("\n".join(rules)), len(rules)


def parse_saved(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield table, chain and rules (without ``-A CHAIN``), in the words of ``iptables-save``.

    Chains without rules come when their table ends, others where their rules are.
    """
    table, chain = "", ""
    rules: list[str] = []
    empty: set[str] = set()
    for line in text.splitlines():
        if line.startswith("-A "):
            _, name, rule = line.split(" ", 2)
            if name != chain and chain:
                yield table, chain, rules
                rules = []
            chain = name
            rules.append(rule)
            empty.discard(name)
        elif line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":"):
            empty.add(line[1:].split(" ", 1)[0])
        elif line.startswith("COMMIT"):
            if chain:
                yield table, chain, rules
            yield from ((table, name, []) for name in empty)
            chain, rules, empty = "", [], set()


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
    ours: dict[str, dict[str, Sum]] = defaultdict(dict)
    present: set[Jump] = set()
    wanted = jumps(options)
    for table, chain, rules in parse_saved(text):
        if names.is_ours(table, chain) or chain == names.KUBELET_FIREWALL:
            ours[table][chain] = _sum(rules)
        elif chain in BUILT_IN:
            told = [split_rule(rule) for rule in rules if "KUBE-" in rule]
            present.update(
                jump
                for jump in wanted
                if (jump.table, jump.source) == (table, chain)
                and any(same_rule(jump, words) for words in told)
            )
    return Found(ours, present)


def same_rule(jump: Jump, words: list[str]) -> bool:
    """Whether a rule of a chain of the kernel is this jump; the order of matches tells nothing."""
    return sorted(words) == sorted(split_rule(jump.rule))
