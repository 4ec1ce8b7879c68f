"""Rules that are the same whatever the portals are: pure functions, in words of ``iptables-save``.

Those are the words in which the machine is asked what is there, so a full sync need not write what
it finds: addresses with their length, source before destination before protocol, marks and chances
as the kernel holds them.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from ..backend import RuleOptions
from ..model.portal import Family
from . import names

_MAX_COMMENT: Final = 250
"""xt_comment takes 255 bytes."""
_LOOPBACK: Final = ipaddress.ip_network("127.0.0.0/8")


@dataclass(frozen=True, slots=True)
class Host:
    """What this machine's kernel and iptables can do, and how it is set.

    Attributes:
        random_fully: ``MASQUERADE --random-fully`` is known (iptables 1.6.2).
        compares_addresses: the match ``bpf`` is there; otherwise endpoints get chains.
        tcp_liberal: ``net.netfilter.nf_conntrack_tcp_be_liberal``: invalid packets pass.
    """

    random_fully: bool = True
    compares_addresses: bool = True
    tcp_liberal: bool = False


@dataclass(frozen=True, slots=True)
class Jump:
    """How traffic comes from a chain of the kernel into ours."""

    table: str
    source: str
    rule: str
    """Without ``-A SOURCE``."""

    @property
    def target(self) -> str:
        """The chain of ours."""
        return self.rule.rsplit(" ", 1)[-1]


def comment(text: str) -> str:
    """Return the match that says something to people; ``text`` has no quotes."""
    return f'-m comment --comment "{text[:_MAX_COMMENT]}"'


def _jump(table: str, source: str, target: str, text: str, match: str = "") -> Jump:
    said = f"{comment(text)} " if text else ""
    return Jump(table, source, f"{match}{said}-j {target}")


_NEW: Final = "-m conntrack --ctstate NEW "
_VISIBLE: Final = "kubernetes externally-visible service portals"
_PORTALS: Final = "kubernetes service portals"
_BALANCER: Final = "kubernetes load balancer firewall"

JUMPS: Final = (
    _jump("filter", "INPUT", names.EXTERNAL_SERVICES, _VISIBLE, _NEW),
    _jump("filter", "FORWARD", names.EXTERNAL_SERVICES, _VISIBLE, _NEW),
    _jump("filter", "INPUT", names.NODE_PORTS, "kubernetes health check service ports"),
    _jump("filter", "FORWARD", names.SERVICES, _PORTALS, _NEW),
    _jump("filter", "OUTPUT", names.SERVICES, _PORTALS, _NEW),
    _jump("filter", "FORWARD", names.FORWARD, "kubernetes forwarding rules"),
    _jump("filter", "INPUT", names.PROXY_FIREWALL, _BALANCER, _NEW),
    _jump("filter", "OUTPUT", names.PROXY_FIREWALL, _BALANCER, _NEW),
    _jump("filter", "FORWARD", names.PROXY_FIREWALL, _BALANCER, _NEW),
    _jump("nat", "OUTPUT", names.SERVICES, _PORTALS),
    _jump("nat", "PREROUTING", names.SERVICES, _PORTALS),
    _jump("nat", "POSTROUTING", names.POSTROUTING, "kubernetes postrouting rules"),
)
"""The peer's, to the letter: it and we find each other's; each is put first in its chain."""

LOCALHOST_JUMPS: Final = (
    _jump("filter", "INPUT", names.KUBELET_FIREWALL, ""),
    _jump("filter", "OUTPUT", names.KUBELET_FIREWALL, ""),
)


def jumps(options: RuleOptions) -> tuple[Jump, ...]:
    """All jumps into our chains."""
    return JUMPS + (LOCALHOST_JUMPS if answers_on_localhost(options) else ())


def answers_on_localhost(options: RuleOptions) -> bool:
    """Whether node ports answer on 127.0.0.0/8, so that ``route_localnet`` must be on."""
    if options.family is not Family.V4 or not options.localhost_node_ports:
        return False
    return not _networks(options) or any(map(_LOOPBACK.overlaps, _networks(options)))


def _networks(options: RuleOptions) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """The CIDRs of node ports, of this family; empty for all, as it is where none is given."""
    networks = [ipaddress.ip_network(each, strict=False) for each in options.node_port_addresses]
    ours = [each for each in networks if each.version == options.family]
    return [] if any(each.prefixlen == 0 for each in ours) else ours


def masquerade_mark(options: RuleOptions) -> str:
    """Return the bit that asks for masquerading."""
    return f"{1 << options.masquerade_bit:#x}"


def fixed_chains(options: RuleOptions, host: Host) -> dict[str, dict[str, list[str]]]:
    """Return rules by table and chain that do not depend on portals."""
    canary = [comment("while this rule is there nobody has flushed the rules of kubeletpy proxy")]
    filter_chains = {names.FORWARD: _forward(options, host), names.CANARY: canary}
    if answers_on_localhost(options):
        filter_chains[names.KUBELET_FIREWALL] = [
            # CVE-2020-8558; the kubelet writes the same rule.
            f"! -s 127.0.0.0/8 -d 127.0.0.0/8 {comment('block incoming localnet connections')}"
            " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
        ]
    mark = masquerade_mark(options)
    return {
        "filter": filter_chains,
        "nat": {
            names.MARK_MASQUERADE: [f"-j MARK --set-xmark {mark}/{mark}"],
            names.POSTROUTING: _postrouting(options, host),
            names.CANARY: canary,
        },
        # No rule here: the peer's clean-up deletes this one without flushing it.
        "mangle": {names.CANARY: []},
    }


def _forward(options: RuleOptions, host: Host) -> list[str]:
    mark = masquerade_mark(options)
    rules = [
        f"{comment('kubernetes forwarding rules')} -m mark --mark {mark}/{mark} -j ACCEPT",
        f"{comment('kubernetes forwarding conntrack rule')}"
        " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ]
    if not host.tcp_liberal:
        # They would reach the client untranslated, which answers with a reset:
        # https://github.com/kubernetes/kubernetes/issues/74839
        rules.insert(0, "-m conntrack --ctstate INVALID -j DROP")
    return rules


def _postrouting(options: RuleOptions, host: Host) -> list[str]:
    mark = masquerade_mark(options)
    unmarked = f"-m mark ! --mark {mark}/{mark}"
    masquerade = "-j MASQUERADE" + (" --random-fully" if host.random_fully else "")
    rules = [
        f"{unmarked} -j RETURN",
        # Another pass through the stack must not masquerade again.
        f"-j MARK --set-xmark {mark}/0x0",
        f"{comment('kubernetes service traffic requiring SNAT')} {masquerade}",
    ]
    if host.compares_addresses:
        said = comment("service traffic from an endpoint to itself")
        match = f"-m conntrack --ctstate DNAT {hairpin_match(options.family)}"
        rules.insert(0, f"{said} {unmarked} {match} {masquerade}")
    return rules


def hairpin_match(family: Family) -> str:
    """Return the match ``source address == destination address``, for which there is no other.

    The program (classic BPF, linux/filter.h) reads from the start of the IP header.
    """
    source, destination, words = (12, 16, 1) if family is Family.V4 else (8, 24, 4)
    program: list[str] = []
    last = 4 * words + 1
    for word in range(words):
        to_last = last - (len(program) + 3) - 1
        program += [
            f"32 0 0 {source + 4 * word}",  # A = source
            "7 0 0 0",  # X = A
            f"32 0 0 {destination + 4 * word}",  # A = destination
            f"29 0 {to_last} 0",  # if A != X go to the last
        ]
    program += ["6 0 0 65535", "6 0 0 0"]  # match; no match
    return f'-m bpf --bytecode "{len(program)},{",".join(program)}"'


def node_port_rules(options: RuleOptions) -> list[str]:
    """Return the last rules of ``KUBE-SERVICES`` in ``nat``: what goes on to node ports."""
    said = comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")
    local = "-m addrtype --dst-type LOCAL"
    networks = _networks(options)
    rules: list[str] = []
    if answers_on_localhost(options):
        # The packet of a neighbour who routes 127.0.0.0/8 to us: KUBE-FIREWALL will drop it, but
        # only as long as it is not translated.
        rules.append("-d 127.0.0.0/8 -m addrtype ! --src-type LOCAL -j RETURN")
        refused = ""
    else:
        refused = "127.0.0.0/8" if options.family is Family.V4 else "::1/128"
    if not networks:
        but = f"! -d {refused} " if refused else ""
        return [*rules, f"{but}{said} {local} -j {names.NODE_PORTS}"]
    if refused:
        rules.append(f"-d {refused} -j RETURN")
    return [*rules, *(f"-d {each} {said} {local} -j {names.NODE_PORTS}" for each in networks)]


def refused_node_port_rules(options: RuleOptions) -> list[str]:
    """Return the last rules of ``KUBE-EXTERNAL-SERVICES``, if node ports are refused at all."""
    local = f"-m addrtype --dst-type LOCAL -j {names.EXTERNAL_NODE_PORTS}"
    networks = _networks(options)
    return [f"-d {each} {local}" for each in networks] if networks else [local]
