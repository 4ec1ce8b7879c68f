"""What portals are in the table: its text, and what changes from one state to the next."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.backend import LocalDetector, LocalTraffic, RuleOptions
from proxy.model.portal import Family, Portal
from proxy.nftables import transaction
from proxy.nftables.fields import pack_address
from proxy.nftables.layout import SHARED_SETS
from proxy.nftables.ledger import Changes, Contents, Ledger, PortalError
from tests.support.circumstances import examples
from tests.support.portals import Portals, address, endpoint, histories, network, portal

V4 = Family.V4
OPTIONS = RuleOptions(V4, LocalDetector(LocalTraffic.CLUSTER_CIDR, "10.128.0.0/24"))
NEAR = (endpoint(V4, 200, local=True),)


def text(options: RuleOptions, *portals: Portal) -> list[str]:
    """Return the lines of the table of ``portals``."""
    contents = Ledger(options).fill({each.name: each for each in portals})
    table = transaction.as_table("t", options, contents).text()
    return [line.strip().rstrip(",") for line in table.splitlines()]


WITH_EVERYTHING = replace(
    portal(V4, 1, 2),
    node_port=30001,
    external_ips=(address(V4, 50, 1),),
    load_balancer_ips=(address(V4, 50, 2),),
)
LOCAL = replace(
    WITH_EVERYTHING,
    external_local=True,
    local_endpoints=NEAR,
    cluster_endpoints=(*NEAR, endpoint(V4, 7)),
)
STICKY = replace(portal(V4, 1, 2), affinity_seconds=60)
RESTRICTED = replace(WITH_EVERYTHING, restricted=True, source_ranges=("10.60.0.0/24",))

CASES: list[tuple[str, RuleOptions, Portal, list[str], list[str]]] = [
    (
        "a cluster IP",
        OPTIONS,
        portal(V4, 1, 2),
        [
            '10.96.0.1 . tcp . 80 comment "default/svc-1:http" : goto endpoints-2',
            "10.96.0.1 . tcp . 80 . 0 : 10.128.0.8 . 8080",
            "10.96.0.1 . tcp . 80 . 1 : 10.128.0.9 . 8080",
            "dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 "
            "map @service-endpoints",
        ],
        ["10.96.0.1 . tcp . 80 . 2", "external-"],
    ),
    (
        "nobody there",
        OPTIONS,
        replace(WITH_EVERYTHING, cluster_endpoints=(), has_endpoints=False),
        [
            '10.96.0.1 . tcp . 80 comment "default/svc-1:http" : goto reject-chain',
            '10.50.0.1 . tcp . 80 comment "default/svc-1:http" : goto reject-chain',
            '10.50.0.2 . tcp . 80 comment "default/svc-1:http" : goto reject-chain',
            'tcp . 30001 comment "default/svc-1:http" : goto reject-chain',
        ],
        ["goto endpoints", "goto external"],
    ),
    (
        "ways in from outside",
        OPTIONS,
        WITH_EVERYTHING,
        [
            '10.50.0.1 . tcp . 80 comment "default/svc-1:http" : goto external-2',
            '10.50.0.2 . tcp . 80 comment "default/svc-1:http" : goto external-2',
            'tcp . 30001 comment "default/svc-1:http" : goto nodeport-external-2',
            "meta mark set meta mark | 0x00004000",
            "tcp . 30001 . 1 : 10.128.0.9 . 8080",
        ],
        ["goto reject-chain", ": drop"],
    ),
    (
        "outside traffic stays on the node",
        OPTIONS,
        LOCAL,
        [
            '10.50.0.1 . tcp . 80 comment "default/svc-1:http" : goto external-local-2-1',
            'ip saddr 10.128.0.0/24 goto endpoints-2 comment "short-circuit pod traffic"',
            'fib saddr type local goto endpoints-2 comment "short-circuit local traffic"',
            "goto local-endpoints-1",
            "10.128.0.200 . 10.128.0.200 . tcp . 8080",
        ],
        [": drop"],
    ),
    (
        "outside traffic stays on a node without endpoints",
        OPTIONS,
        replace(LOCAL, local_endpoints=()),
        [
            '10.50.0.1 . tcp . 80 comment "default/svc-1:http" : goto external-local-2-0',
            '10.50.0.1 . tcp . 80 comment "default/svc-1:http" : drop',
            'tcp . 30001 comment "default/svc-1:http" : drop',
        ],
        ["goto local-endpoints", "goto reject-chain"],
    ),
    (
        "inside traffic stays on the node",
        OPTIONS,
        replace(portal(V4, 1), internal_local=True, local_endpoints=NEAR),
        ["10.96.0.1 . tcp . 80 . 0 : 10.128.0.200 . 8080"],
        ["10.96.0.1 . tcp . 80 . 1"],
    ),
    (
        "affinity",
        OPTIONS,
        STICKY,
        ["size 65535", "flags dynamic,timeout", "timeout 60s"],
        ["goto endpoints-"],
    ),
    (
        "source ranges",
        OPTIONS,
        RESTRICTED,
        ["10.60.0.0-10.60.0.255"],
        ['10.50.0.1 . tcp . 80 comment "default/svc-1:http" : goto firewall'],
    ),
    (
        "source ranges of everybody",
        OPTIONS,
        replace(RESTRICTED, source_ranges=("10.60.0.0/24", "0.0.0.0/0")),
        [],
        ["firewall-M", "sources-"],
    ),
    (
        "a node in the source ranges",
        replace(OPTIONS, node_ip="10.60.0.9"),
        RESTRICTED,
        ["10.60.0.0-10.60.0.255", "10.50.0.2"],
        [],
    ),
    (
        "masquerade all",
        replace(OPTIONS, masquerade_all=True),
        portal(V4, 1),
        ['ip daddr @cluster-ips meta mark set meta mark | 0x00004000 comment "masquerade all"'],
        ["ip saddr != "],
    ),
    (
        "nobody can tell what is local",
        replace(OPTIONS, local=LocalDetector()),
        LOCAL,
        ['fib saddr type local goto endpoints-2 comment "short-circuit local traffic"'],
        ["ip saddr 10", "pod traffic"],
    ),
    (
        "pods by their interface",
        replace(OPTIONS, local=LocalDetector(LocalTraffic.INTERFACE_NAME_PREFIX, "veth")),
        LOCAL,
        ['iifname "veth*" goto endpoints-2 comment "short-circuit pod traffic"'],
        ["ip saddr 10"],
    ),
    (
        "node ports at some addresses",
        replace(OPTIONS, node_port_addresses=("10.10.0.0/24",)),
        WITH_EVERYTHING,
        [
            "10.10.0.0-10.10.0.255",
            "fib daddr type local ip daddr != 127.0.0.0/8 ip daddr @nodeport-ips "
            "meta l4proto . th dport vmap @service-nodeports",
        ],
        [],
    ),
    (
        "networks of services",
        replace(OPTIONS, service_cidrs=("10.96.0.0/16",)),
        portal(V4, 1),
        [
            'ip daddr @cluster-ips reject comment "no service at this port of its address"',
            'ip daddr 10.96.0.0/16 drop comment "no service at this address"',
        ],
        [],
    ),
    (
        "another mark",
        replace(OPTIONS, masquerade_bit=3),
        WITH_EVERYTHING,
        ["meta mark set meta mark | 0x00000008"],
        ["0x00004000"],
    ),
]


@pytest.mark.parametrize(
    ("options", "wanted", "there", "absent"),
    [pytest.param(*case[1:], id=case[0]) for case in CASES],
)
def test_a_portal_as_text(
    options: RuleOptions, wanted: Portal, there: list[str], absent: list[str]
) -> None:
    lines = text(options, wanted)
    assert [line for line in there if line not in lines] == []
    assert [line for line in lines if any(each in line for each in absent)] == []


def test_affinity_asks_where_a_client_was_before_it_chooses() -> None:
    lines = text(OPTIONS, STICKY)
    (start,) = (
        n for n, line in enumerate(lines) if line.startswith("chain service-") and "/" in line
    )
    end = lines.index("}", start) if "}" in lines[start:] else len(lines)
    rules = lines[start + 1 : end]
    assert [line.split(" ")[:2] for line in rules[:2]] == [["ip", "saddr"]] * 2
    assert rules[2].startswith("numgen random mod 2 vmap @pick-service-")
    assert sum(line.startswith("update @affinity-") for line in lines) == 2


def test_a_cluster_ip_is_not_taken_by_an_external_ip() -> None:
    """CVE-2020-8554: whoever may write a Service could have the traffic of any address."""
    honest = replace(portal(V4, 2), cluster_ip="10.96.0.10")
    thief = replace(portal(V4, 1), external_ips=("10.96.0.10",))
    lines = text(OPTIONS, thief, honest)
    assert '10.96.0.10 . tcp . 80 comment "default/svc-2:http" : goto endpoints-2' in lines
    assert not any(line.startswith("10.96.0.10") and "svc-1" in line for line in lines)


def test_an_address_that_is_none_names_its_portal() -> None:
    wrong = replace(portal(V4, 1), external_ips=("fd00::1",))
    with pytest.raises(PortalError, match="default/svc-1:http"):
        Ledger(OPTIONS).fill({wrong.name: wrong})


def apply(contents: Contents, changes: Changes) -> None:
    """Do to ``contents`` what the kernel does to a table; fail where it would refuse."""
    for name, elements in changes.removed.items():
        for element in elements:
            contents.elements[name].remove(element)
    for name in changes.gone_sets:
        del contents.sets[name]
        contents.elements.pop(name, None)
    for name in changes.gone_chains:
        del contents.chains[name]
    for spec, elements_of_own in changes.new_sets:
        assert spec.name not in contents.sets
        contents.sets[spec.name] = spec
        contents.elements[spec.name] = list(elements_of_own)
    for chain in changes.new_chains:
        assert chain.name not in contents.chains
        contents.chains[chain.name] = chain
    for chain in changes.other_chains:
        assert chain.name in contents.chains
        contents.chains[chain.name] = chain
    for name, elements in changes.added.items():
        assert name in SHARED_SETS or name in changes.own_sets
        keys = {each.key for each in contents.elements.setdefault(name, [])}
        assert not keys & {each.key for each in elements}, "the kernel would say EEXIST"
        contents.elements[name] += elements


@pytest.mark.parametrize("family", Family)
@settings(deadline=None, max_examples=examples(25))
@given(data=st.data())
def test_changes_lead_to_what_a_full_sync_makes(family: Family, data: st.DataObject) -> None:
    options = RuleOptions(family, LocalDetector(LocalTraffic.CLUSTER_CIDR, network(family, 128)))
    states = data.draw(histories(family))
    ledger = Ledger(options)
    contents = ledger.fill(states[0])
    rules = contents.rules
    for before, after in itertools.pairwise(states):
        changed = {name for name in before | after if before.get(name) != after.get(name)}
        changes = ledger.change(after, changed)
        apply(contents, changes)
        rules += changes.rules
        expected = Ledger(options).fill(after)
        assert contents.chains == expected.chains
        assert contents.sets == expected.sets
        assert rules == expected.rules
        for name in contents.sets:
            assert sorted(contents.elements.get(name, [])) == sorted(
                expected.elements.get(name, [])
            ), name


@pytest.mark.parametrize("family", Family)
@settings(deadline=None, max_examples=examples(25))
@given(data=st.data())
def test_every_endpoint_is_reached_and_nothing_else(family: Family, data: st.DataObject) -> None:
    """Each target of a chain exists, and the endpoints behind a way in are the portal's."""
    options = RuleOptions(family)
    portals: Portals = data.draw(histories(family, 2))[-1]
    contents = Ledger(options).fill(portals)
    known = contents.chains.keys()
    for name, elements in contents.elements.items():
        for element in elements:
            if element.verdict and element.verdict[0] == "goto":
                assert element.verdict[1] in known, name
    ends = {
        each.value[:-4] for each in contents.elements.get("service-endpoints", []) if each.value
    }
    allowed = {
        address
        for each in portals.values()
        for address in (pack_address(end.ip, family) for end in each.all_endpoints)
    }
    assert ends <= allowed
    for element in contents.elements.get("service-ips", []):
        assert element.verdict
        target = element.verdict[1]
        if target.startswith("endpoints-"):
            count = int(target.rpartition("-")[2])
            found = [
                each
                for each in contents.elements["service-endpoints"]
                if each.key[:-4] == element.key
            ]
            assert len(found) == count
            assert len({each.value for each in found}) == count
