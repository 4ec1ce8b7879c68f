"""What rules do to a packet, read from the text: enough of iptables for those that we write."""

from __future__ import annotations

import ipaddress
import shlex
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cache

LOCAL = frozenset({"192.0.2.1", "127.0.0.1", "2001:db8::1", "::1"})
"""Addresses of the node."""


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection."""

    source: str
    destination: str
    protocol: str
    port: int
    interface: str = "eth0"
    marked: bool = False


@dataclass(slots=True)
class Fate:
    """How probable each end of a packet is: by DNAT's target and whether it is masqueraded."""

    ends: dict[tuple[str, bool], float] = field(default_factory=lambda: defaultdict(float))


@cache
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


def _inside(address: str, network: str) -> bool:
    return ipaddress.ip_address(address) in _network(network)


class Rules:
    """Tables as a text for ``iptables-restore`` makes them.

    ``met`` counts the rules that packets were compared with.
    """

    def __init__(self, text: str) -> None:
        self.chains: dict[tuple[str, str], list[list[str]]] = {}
        self.met = 0
        table = ""
        for line in text.splitlines():
            words = shlex.split(line)
            if line.startswith("*"):
                table = line[1:]
            elif line.startswith(":"):
                self.chains[table, line[1:].split()[0]] = []
            elif words[0] == "-A":
                self.chains[table, words[1]].append(words[2:])
            elif words[0] == "-I":
                self.chains.setdefault((table, words[1]), []).insert(0, words[2:])
            else:
                assert words[0] in ("COMMIT", "-X"), line

    def targets(self) -> set[tuple[str, str]]:
        """Every chain that a rule leads to."""
        return {
            (table, rule[rule.index("-j") + 1])
            for (table, _), rules in self.chains.items()
            for rule in rules
            if "-j" in rule and rule[rule.index("-j") + 1].startswith("KUBE-")
        }

    def walk(self, table: str, chain: str, packet: Packet) -> dict[tuple[str, bool], float]:
        """Return how probable each verdict is: a target of DNAT, DROP, REJECT, or "" for none."""
        fate = Fate()
        rest, mark = self._walk(table, chain, packet, 1.0, fate)
        if rest > 1e-9:
            fate.ends["", mark.marked] += rest
        return dict(fate.ends)

    def _walk(
        self, table: str, chain: str, packet: Packet, weight: float, fate: Fate
    ) -> tuple[float, Packet]:
        """Return what comes back from a chain: how probable it is, and the packet."""
        for rule in self.chains[table, chain]:
            self.met += 1
            chance = _matches(rule, packet)
            if not chance or "-j" not in rule:
                continue
            target = rule[rule.index("-j") + 1]
            if target == "RETURN":
                assert chance == 1.0
                return weight, packet
            if target == "DNAT":
                fate.ends[rule[rule.index("--to-destination") + 1], packet.marked] += (
                    weight * chance
                )
                weight -= weight * chance
            elif target in ("DROP", "REJECT", "ACCEPT"):
                fate.ends[target, packet.marked] += weight * chance
                weight -= weight * chance
            elif target == "MARK":
                packet = replace(packet, marked=rule[-1] != "0x4000/0x0")
            else:
                back, changed = self._walk(table, target, packet, weight * chance, fate)
                if chance == 1.0:
                    weight, packet = back, changed
                else:
                    weight = weight - weight * chance + back
            if weight <= 1e-12:
                return 0.0, packet
        return weight, packet


def _matches(rule: list[str], packet: Packet) -> float:
    """Return the probability that a rule matches."""
    at, negated, chance = 0, False, 1.0
    while at < len(rule):
        word, at = rule[at], at + 1
        if word == "!":
            negated = True
            continue
        if word in ("-m", "--comment", "--mode", "--name", "--seconds", "--mask", "--ctstate"):
            at += 1
            continue
        if word in ("--rcheck", "--reap", "--set", "--rsource"):
            if word == "--rcheck":
                return 0.0  # nobody came before
            continue
        if word == "-j":
            return chance
        value, at = rule[at], at + 1
        if word == "--probability":
            chance = float(value)
            continue
        if _holds(word, value, packet) == negated:
            return 0.0
        negated = False
    return chance


def _holds(word: str, value: str, packet: Packet) -> bool:
    match word:
        case "-s":
            return _inside(packet.source, value)
        case "-d":
            return _inside(packet.destination, value)
        case "-p":
            return packet.protocol == value
        case "-i":
            return packet.interface.startswith(value.rstrip("+"))
        case "--dport":
            low, _, high = value.partition(":")
            return int(low) <= packet.port <= int(high or low)
        case "--dst-type":
            return packet.destination in LOCAL
        case "--src-type":
            return packet.source in LOCAL
    raise AssertionError(f"no rule of ours has {word}")
