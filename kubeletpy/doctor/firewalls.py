"""Firewalls: firewalld, ufw, chains that drop by policy; what of ours they would drop."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from kubeletpy.doctor import firewalld, netfilter
from kubeletpy.doctor.finding import Finding, error, fine, warning
from kubeletpy.doctor.looking import output, text
from kubeletpy.doctor.netfilter import Chain
from kubeletpy.doctor.purpose import Port, Purpose

_USER: Final = "pods, Services, other nodes"
_LEGACY: Final = "/proc/net/ip_tables_names"
# Tables of iptables, where the runtime's and the proxy's own rules are; they accept what is ours
# before the policy comes to its turn.
_SHARED: Final = frozenset({("ip", "filter"), ("ip6", "filter")})
_UFW_CONFIGURATION: Final = "/etc/ufw/ufw.conf"


@dataclass(frozen=True)
class Facts:
    """What filters packets in this network namespace.

    Attributes:
        chains: of nf_tables, those of iptables-nft among them.
        saved: rules of iptables' table filter, as iptables-save prints them; asked for only where
            ufw or a dropping policy is.
        ufw_enabled: its configuration says that it starts at boot.
        rules: of chains that drop by policy and are not iptables', as `nft list chain` prints them.
        zones: firewalld's, where it runs.
        problem: why the chains are not known.
    """

    chains: tuple[Chain, ...] = ()
    saved: str = ""
    ufw_enabled: bool = False
    rules: dict[Chain, str] = field(default_factory=dict)
    zones: firewalld.Zones | None = None
    problem: str = ""


def look(purpose: Purpose) -> list[Finding]:
    """Look at this machine."""
    return judge(gather(), purpose)


def gather() -> Facts:
    """Read the facts."""
    problem = ""
    try:
        chains = tuple(netfilter.chains())
    except OSError as reason:
        chains, problem = (), reason.strerror or str(reason)
    nft_filter = any((one.family, one.table) == ("ip", "filter") for one in chains)
    saved = ""
    if "filter" in (text(_LEGACY) or "").split():
        saved = output(["iptables-legacy-save", "-t", "filter"]) or ""
    elif nft_filter:
        saved = output(["iptables-nft-save", "-t", "filter"]) or ""
    configuration = text(_UFW_CONFIGURATION) or ""
    return Facts(
        chains=chains,
        saved=saved,
        rules={one: _listed(one) for one in chains if _foreign(one)},
        ufw_enabled="ENABLED=yes" in configuration.replace(" ", ""),
        zones=firewalld.ask() if firewalld.has_tables(chains) or not chains else None,
        problem=problem,
    )


def _listed(one: Chain) -> str:
    return output(["nft", "list", "chain", one.family, one.table, one.name]) or ""


def _foreign(one: Chain) -> bool:
    """Return whether a chain drops by policy, and is not one that our own rules are put into."""
    return (
        one.policy == "drop"
        and one.hook in ("input", "forward")
        and (one.family, one.table) not in _SHARED
    )


def judge(facts: Facts, purpose: Purpose) -> list[Finding]:
    """Return what the facts mean (pure)."""
    found = [_firewalld(facts, purpose), _ufw(facts, purpose)]
    return [*found, *_policies(facts, purpose)]


def _firewalld(facts: Facts, purpose: Purpose) -> Finding:
    if not firewalld.has_tables(facts.chains) and facts.zones is None:
        return fine("firewalld", "not active", _USER)
    ports = [port for port in purpose.ports if port.remote]
    zones = facts.zones
    if zones is None:
        zone, missing_ports, networks = "", ports, list(_networks(purpose))
        seen = "active, and its zones could not be asked"
    else:
        zone = zones.default
        missing_ports = [port for port in ports if not zones.admits(port.number, port.protocol)]
        networks = [one for one in _networks(purpose) if not zones.trusts(one)]
        seen = f"active, zone {zone} ({', '.join(zones.interfaces) or 'of all interfaces'})"
    if not missing_ports and not networks:
        return fine("firewalld", f"{seen}; it lets through all that is needed", _USER)
    drops = _dropped(missing_ports, networks)
    options = f"--zone={zone} " if zone else ""
    commands = [f"firewall-cmd --permanent --zone=trusted --add-source={one}" for one in networks]
    commands += [
        f"firewall-cmd --permanent {options}--add-port={port.number}/{port.protocol}"
        for port in missing_ports
    ]
    remedy = " && ".join([*commands, "firewall-cmd --reload"])
    return error("firewalld", f"{seen}; it drops {drops}", _USER, remedy)


def _networks(purpose: Purpose) -> tuple[str, ...]:
    # What pods send to Services has been translated before a filter sees it.
    return purpose.pod_networks


def _dropped(ports: list[Port], networks: list[str]) -> str:
    parts = [f"traffic of the pods ({', '.join(networks)})"] if networks else []
    if ports:
        listed = ", ".join(f"{port.number}/{port.protocol} ({port.user})" for port in ports)
        parts.append(f"what comes from other machines to {listed}")
    return " and ".join(parts)


def _ufw(facts: Facts, purpose: Purpose) -> Finding:
    rules = [line for line in facts.saved.splitlines() if line.startswith("-A ufw-user-")]
    active = ":ufw-user-input " in facts.saved or any(
        one.name == "ufw-user-input" for one in facts.chains
    )
    if not active:
        if facts.ufw_enabled:
            found = "not active here, but it will be from the next boot on (ENABLED=yes)"
            return warning("ufw", found, _USER, "ufw status verbose, then look again")
        return fine("ufw", "not active", _USER)
    ports = [
        port for port in purpose.ports
        if port.remote and not _admitted(rules, port.number, port.protocol)
    ]  # fmt: skip
    networks = [
        one for one in purpose.pod_networks if ":" not in one and not _source_admitted(rules, one)
    ]
    if not ports and not networks:
        return fine("ufw", "active; it lets through all that is needed", _USER)
    commands = [command for one in networks for command in (
        f"ufw allow from {one}", f"ufw route allow from {one}", f"ufw route allow to {one}"
    )]  # fmt: skip
    commands += [f"ufw allow {port.number}/{port.protocol}" for port in ports]
    found = f"active; it drops {_dropped(ports, networks)}"
    return error("ufw", found, _USER, " && ".join(commands))


def _admitted(rules: list[str], number: int, protocol: str) -> bool:
    """Return whether ufw's rules accept a port from anywhere (pure)."""
    for rule in rules:
        words = shlex.split(rule)
        if words[1] != "ufw-user-input" or words[-1] != "ACCEPT" or "-s" in words:
            continue
        told = dict(pairwise(words))
        if told.get("-p", protocol) != protocol:
            continue
        listed = told.get("--dport") or told.get("--dports")
        if listed is None or any(_within(number, one) for one in listed.split(",")):
            return True
    return False


def _within(number: int, ports: str) -> bool:
    first, _, last = ports.partition(":")
    return int(first) <= number <= int(last or first)


def _source_admitted(rules: list[str], network: str) -> bool:
    """Return whether ufw's rules accept all that comes from a network (pure)."""
    wanted = ["-A", "ufw-user-input", "-s", network, "-j", "ACCEPT"]
    return any(shlex.split(rule) == wanted for rule in rules)


def _policies(facts: Facts, purpose: Purpose) -> list[Finding]:
    """Judge chains by which packets enter and that drop by policy, whoever made them."""
    if facts.problem and not facts.saved:
        said = f"nf_tables cannot be asked: {facts.problem}"
        return [fine("packet filter", said, _USER)]
    shared = {
        (one.name, one.hook)
        for one in facts.chains
        if one.policy == "drop" and (one.family, one.table) in _SHARED
    }
    if ":FORWARD DROP" in facts.saved:
        shared.add(("FORWARD", "forward"))
    if ":INPUT DROP" in facts.saved:
        shared.add(("INPUT", "input"))
    found = [
        _dropping(one, facts.rules.get(one, ""), purpose) for one in facts.chains if _foreign(one)
    ]
    found.append(_forward(shared, facts))
    if any(hook == "input" for _, hook in shared) and ":ufw-user-input " not in facts.saved:
        found.append(_input(facts, purpose))
    return found


def _forward(shared: set[tuple[str, str]], facts: Facts) -> Finding:
    if not any(hook == "forward" for _, hook in shared):
        return fine("policy of FORWARD", "accept", "pods")
    whose = " (docker's)" if ":DOCKER" in facts.saved else ""
    found = (
        f"DROP{whose}: the built-in pod network's own rules admit its pods; those of CNI plugins "
        "have to bring theirs"
    )
    return fine("policy of FORWARD", found, "pods")


def _input(facts: Facts, purpose: Purpose) -> Finding:
    ports = [port for port in purpose.ports if port.remote]
    accepts = [
        line.replace("-A INPUT", "-A ufw-user-input")
        for line in facts.saved.splitlines()
        if line.startswith("-A INPUT ")
    ]
    missing = [port for port in ports if not _admitted(accepts, port.number, port.protocol)]
    networks = [
        one for one in purpose.pod_networks if ":" not in one and not _source_admitted(accepts, one)
    ]
    name = "policy of INPUT"
    if not missing and not networks:
        return fine(name, "DROP; what is needed is let through", _USER)
    found = f"DROP: unless another rule admits it, it drops {_dropped(missing, networks)}"
    commands = [f"iptables -I INPUT -s {one} -j ACCEPT" for one in networks]
    commands += [
        f"iptables -I INPUT -p {port.protocol} --dport {port.number} -j ACCEPT" for port in missing
    ]
    return warning(name, found, _USER, " && ".join(commands))


def _dropping(one: Chain, rules: str, purpose: Purpose) -> Finding:
    """Judge a chain beside ours: each chain that drops has to accept a packet by itself."""
    where = f"{one.family} {one.table} {one.name}"
    name = f"nftables chain {where}"
    sides = ("saddr", "daddr") if one.hook == "forward" else ("saddr",)
    matches = [
        f"{'ip6' if ':' in network else 'ip'} {side} {network} accept"
        for network in purpose.pod_networks
        if one.family in ("inet", "ip6" if ":" in network else "ip")
        for side in sides
    ]
    if one.hook == "input":
        matches += [
            f"{port.protocol} dport {port.number} accept" for port in purpose.ports if port.remote
        ]
    missing = [match for match in matches if match not in rules]
    if not missing:
        return fine(name, "its policy is drop, and it accepts what is needed", _USER)
    found = f"its policy is drop: unless a rule of it accepts them, {one.hook} packets are lost"
    remedy = " && ".join(f"nft insert rule {where} {match}" for match in missing)
    kind = error if one.hook == "forward" else warning
    return kind(name, found, _USER, remedy)
