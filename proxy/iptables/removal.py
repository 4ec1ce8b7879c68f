"""What removes the rules of kube-proxies from a machine: text from text, nothing is run here."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

from . import names
from .ruleset import BUILT_IN, split_rule

_GUARD = "block incoming localnet connections"


@dataclass(frozen=True, slots=True)
class Removal:
    """What to do about what ``iptables-save`` shows.

    Attributes:
        text: for ``iptables-restore --noflush``; "" if there is nothing of ours.
        guard: whether ``KUBE-FIREWALL`` goes too. It keeps neighbours from 127.0.0.0/8, so
            ``route_localnet`` must be off before.
    """

    text: str
    guard: bool


def removal(saved: str, *, guard: bool = True) -> Removal:
    """Return what removes chains of ours, of older versions and of the peer, and jumps to them.

    What others made stays, and so does a chain of ours that a chain of theirs leads to (CNI plugins
    may use ``KUBE-MARK-MASQ``), and ``KUBE-FIREWALL`` while a kubelet is there that keeps it, or if
    ``guard`` is false.
    """
    tables = _tables(saved)
    kubelet = any(mark in tables["mangle"].chains for mark in names.KUBELET_MARKS)
    guard = guard and not kubelet and tables["filter"].holds_only_guard()
    texts = []
    for name, table in tables.items():
        ours = {chain for chain in table.chains if names.is_ours(name, chain)}
        if guard and name == "filter":
            ours.add(names.KUBELET_FIREWALL)
        texts.append(table.removal(name, ours))
    return Removal("".join(texts), guard)


class _Table:
    """A table as ``iptables-save`` shows it: rules as lines, by chain."""

    def __init__(self) -> None:
        self.chains: dict[str, list[str]] = {}

    def holds_only_guard(self) -> bool:
        rules = self.chains.get(names.KUBELET_FIREWALL)
        return bool(rules) and all(_GUARD in rule for rule in rules or ())

    def removal(self, name: str, ours: set[str]) -> str:
        jumps, kept = [], set()
        for chain, rules in self.chains.items():
            if chain in ours:
                continue
            for rule in rules:
                target = _target(rule)
                if target not in ours:
                    continue
                if chain in BUILT_IN:
                    jumps.append("-D" + rule.removeprefix("-A"))
                else:
                    kept.add(target)
        gone = sorted(ours - kept, reverse=True)
        if not gone and not jumps:
            return ""
        flushed = [f":{chain} - [0:0]" for chain in gone]
        deleted = [f"-X {chain}" for chain in gone]
        return "\n".join([f"*{name}", *flushed, *jumps, *deleted, "COMMIT\n"])


def _tables(saved: str) -> defaultdict[str, _Table]:
    tables: defaultdict[str, _Table] = defaultdict(_Table)
    current = _Table()
    for line in saved.splitlines():
        if line.startswith("*"):
            current = tables[line[1:].strip()]
        elif line.startswith(":"):
            current.chains[line[1:].split(" ", 1)[0]] = []
        elif line.startswith("-A "):
            current.chains.setdefault(line.split(" ", 2)[1], []).append(line)
    return tables


def _target(rule: str) -> str:
    if " -j KUBE-" not in rule and " -g KUBE-" not in rule:
        return ""
    words = split_rule(rule)
    return next((b for a, b in pairwise(words) if a in ("-j", "-g")), "")
