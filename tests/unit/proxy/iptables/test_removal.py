"""Clean-up takes what is a kube-proxy's, whichever, and leaves what others made."""

from __future__ import annotations

from proxy.backend import RuleOptions
from proxy.iptables.removal import removal
from proxy.iptables.rules import JUMPS, Host, jumps
from proxy.iptables.ruleset import Found, RuleSet, find
from proxy.model.portal import Family

from .interpreter import Rules
from .portals import by_name, portal

OPTIONS = RuleOptions(Family.V4)

SAVED = """\
*mangle
:PREROUTING ACCEPT [0:0]
:KUBE-PROXY-CANARY - [0:0]
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-BBBBBBBBBBBBBBBB - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "an older form" -j KUBE-SERVICES
-A CNI-HOSTPORT-DNAT -s 10.0.0.1/32 -j KUBE-MARK-MASQ
-A KUBE-SERVICES -d 10.96.0.1/32 -j KUBE-SVC-BBBBBBBBBBBBBBBB
-A KUBE-SVC-BBBBBBBBBBBBBBBB -j KUBE-SEP-AAAAAAAAAAAAAAAA
COMMIT
*filter
:INPUT ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet \
connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
COMMIT
"""


def test_what_a_go_kube_proxy_left_goes_and_what_others_made_stays() -> None:
    assert removal(SAVED).text == (
        "*mangle\n"
        ":KUBE-PROXY-CANARY - [0:0]\n"
        "-X KUBE-PROXY-CANARY\n"
        "COMMIT\n"
        "*nat\n"
        ":KUBE-SVC-BBBBBBBBBBBBBBBB - [0:0]\n"
        ":KUBE-SERVICES - [0:0]\n"
        ":KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]\n"
        '-D PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES\n'
        '-D OUTPUT -m conntrack --ctstate NEW -m comment --comment "an older form"'
        " -j KUBE-SERVICES\n"
        "-X KUBE-SVC-BBBBBBBBBBBBBBBB\n"
        "-X KUBE-SERVICES\n"
        "-X KUBE-SEP-AAAAAAAAAAAAAAAA\n"
        "COMMIT\n"
        "*filter\n"
        ":KUBE-FIREWALL - [0:0]\n"
        "-D INPUT -j KUBE-FIREWALL\n"
        "-X KUBE-FIREWALL\n"
        "COMMIT\n"
    )


def test_the_guard_of_a_kubelet_stays() -> None:
    with_kubelet = SAVED.replace(":KUBE-PROXY-CANARY", ":KUBE-KUBELET-CANARY - [0:0]\n:KUBE-X")
    for wanted in (removal(with_kubelet), removal(SAVED, guard=False)):
        assert not wanted.guard
        assert "KUBE-FIREWALL" not in wanted.text


def test_a_guard_with_rules_of_others_stays() -> None:
    added = SAVED.replace(
        "-A KUBE-FIREWALL", "-A KUBE-FIREWALL -m mark --mark 0x8000 -j DROP\n-A KUBE-FIREWALL", 1
    )
    assert not removal(added).guard


def test_nothing_is_removed_where_nothing_is() -> None:
    assert removal("*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n").text == ""
    assert removal("").text == ""


def test_a_full_sync_removes_stale_chains_and_only_those() -> None:
    found = find(SAVED, OPTIONS)
    assert {chain: count for chain, (_, count) in found.chains["nat"].items()} == {
        "KUBE-MARK-MASQ": 0,
        "KUBE-SEP-AAAAAAAAAAAAAAAA": 0,
        "KUBE-SERVICES": 1,
        "KUBE-SVC-BBBBBBBBBBBBBBBB": 1,
    }
    changes = RuleSet(OPTIONS, Host()).make_all(by_name(portal()), found)
    assert changes.removed == {
        "filter": set(),
        "nat": {"KUBE-SEP-AAAAAAAAAAAAAAAA", "KUBE-SVC-BBBBBBBBBBBBBBBB"},
        "mangle": set(),
    }
    text = changes.text()
    assert text.index(":KUBE-SEP-AAAAAAAAAAAAAAAA") < text.index("-X KUBE-SEP-AAAAAAAAAAAAAAAA")
    assert ("nat", "CNI-HOSTPORT-DNAT") not in Rules(text).chains


def test_jumps_that_are_there_are_not_put_in_again() -> None:
    found = find(SAVED, OPTIONS)
    assert {(jump.source, jump.target) for jump in found.jumps} == {
        ("PREROUTING", "KUBE-SERVICES"),
        ("INPUT", "KUBE-FIREWALL"),
    }
    text = RuleSet(OPTIONS, Host()).make_all({}, found).text()
    assert "-I PREROUTING" not in text
    assert text.count("\n-I ") == len(jumps(OPTIONS)) - 2


def test_the_order_of_matches_in_a_jump_tells_nothing() -> None:
    jump = JUMPS[0]
    line = (
        '-A INPUT -m comment --comment "kubernetes externally-visible service portals"'
        " -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES"
    )
    found = find(f"*filter\n:INPUT ACCEPT [0:0]\n{line}\nCOMMIT\n", OPTIONS)
    assert found == Found({}, {jump})


def test_what_is_there_is_not_written_again() -> None:
    portals = by_name(portal(), portal("a/b", cluster_ip="10.96.0.11"))
    everything = RuleSet(OPTIONS, Host()).make_all(portals, Found()).text()
    # As the program says it: rules are never put in, they stand.
    saved = everything.replace("\n-I ", "\n-A ")
    assert RuleSet(OPTIONS, Host()).make_all(portals, find(saved, OPTIONS)).text() == ""

    lost = "\n".join(line for line in saved.splitlines() if "10.1.1.1" not in line)
    changes = RuleSet(OPTIONS, Host()).make_all(portals, find(lost, OPTIONS))
    assert {table: set(chains) for table, chains in changes.written.items() if chains} == {
        "nat": {chain for _, chain in Rules(everything).chains if chain.startswith("KUBE-SVC-")}
    }
