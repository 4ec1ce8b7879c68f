"""nftables mode on the kernel, each test in a network namespace of its own; no packets here."""

from __future__ import annotations

import itertools
import json
import queue
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from kubeletpy_common.linux.processes import set_capabilities
from proxy.backend import LocalDetector, LocalTraffic, RuleOptions, SyncError, Wanted
from proxy.model.portal import Family
from proxy.nftables.backend import NftablesBackend
from proxy.nftables.layout import TABLES
from proxy.nftables.ruleset import Chain, Element, Encoder, Rule, elements_of
from proxy.nftables.socket import Refused, RuleSocket
from proxy.nftables.statements import Verdict
from proxy.nftables.wire import Kind, string
from tests.support.circumstances import patient
from tests.support.namespaces import in_new_network
from tests.support.portals import Portals, endpoint, network, one_of_each, portal

pytestmark = pytest.mark.root

_WAIT_SECONDS = patient(10)


def options(family: Family) -> RuleOptions:
    return RuleOptions(
        family,
        LocalDetector(LocalTraffic.CLUSTER_CIDR, network(family, 128)),
        service_cidrs=(network(family, 96),),
        node_port_addresses=(network(family, 10),),
    )


@contextmanager
def backend(chosen: RuleOptions) -> Iterator[NftablesBackend]:
    made = NftablesBackend(chosen)
    try:
        yield made
    finally:
        made.close()


def everything(portals: Portals) -> Wanted:
    return Wanted(portals, frozenset(), True)


def nft(*words: str, text: str | None = None) -> str:
    done = subprocess.run(
        ["nft", *words], input=text, capture_output=True, text=True, timeout=patient(30)
    )
    assert not done.returncode, done.stderr
    return done.stdout


def lines(listing: str) -> list[str]:
    """Return what a listing says, in an order that does not depend on who made the table."""
    apart = re.sub(r"elements = \{|\}", "\n", listing)
    return sorted(line.strip().rstrip(",") for line in apart.splitlines())


def tables(family: Family) -> list[str]:
    word = "ip" if family is Family.V4 else "ip6"
    listed = re.findall(r"table (\S+) (\S+)", nft("list", "tables"))
    return sorted(name for of, name in listed if of == word)


def as_data(family: Family) -> list[str]:
    """Return all there is, without what the kernel numbers by itself."""

    def plain(thing: Any) -> Any:
        if isinstance(thing, dict):
            left = {key: plain(each) for key, each in thing.items() if key != "handle"}
            return left | {"table": "t"} if "table" in left else left
        if isinstance(thing, list):
            # Elements of sets and endpoints of maps come in the order of a hash.
            return sorted((plain(each) for each in thing), key=json.dumps)
        return thing

    (name,) = tables(family)
    word = "ip" if family is Family.V4 else "ip6"
    whole = json.loads(nft("-j", "list", "table", word, name))["nftables"]
    rules: dict[str, list[str]] = {}
    other = []
    for each in whole[1:]:
        if "rule" in each:
            chain = each["rule"]["chain"]
            rules.setdefault(chain, []).append(json.dumps(plain(each["rule"]["expr"])))
        elif "table" not in each:
            other.append(json.dumps(plain(each)))
    return sorted(other) + sorted(f"{chain}: {found}" for chain, found in rules.items())


@pytest.mark.parametrize("family", Family)
def test_the_plan_is_what_the_kernel_has(family: Family) -> None:
    def run() -> None:
        word = "ip" if family is Family.V4 else "ip6"
        wanted = everything(one_of_each(family))
        with backend(options(family)) as made:
            made.sync(wanted)
            ours = nft("list", "table", word, made.table)
            text = made.plan(wanted)
            made.cleanup()
        assert tables(family) == []
        nft("-c", "-f", "-", text=text)
        nft("-f", "-", text=text)
        (name,) = tables(family)
        assert lines(ours) == lines(nft("list", "table", word, name))

    in_new_network(run)


def endpoints_in(table: str) -> Iterator[Element]:
    rules = RuleSocket()
    try:
        names = (string(1, table), string(2, "service-endpoints"))
        yield from elements_of(rules.dump(Kind.GET_ELEMENTS, 2, *names))
    finally:
        rules.close()


def states(family: Family) -> list[Portals]:
    """One of each kind, then each changed, some gone, some back, and all gone."""
    first = one_of_each(family)
    names = sorted(first)
    grown = {
        name: replace(
            each,
            cluster_endpoints=tuple(sorted({*each.cluster_endpoints, endpoint(family, 250)})),
            has_endpoints=True,
        )
        for name, each in first.items()
    }
    fewer = {name: grown[name] for name in names[::2]}
    other = fewer | {
        name: replace(
            first[name],
            affinity_seconds=30 if not first[name].affinity_seconds else 0,
            external_local=not first[name].external_local,
            source_ranges=(network(family, 77),),
        )
        for name in names[1::2]
    }
    return [first, grown, fewer, other, {}, first]


@pytest.mark.parametrize("chains_stay", [False, True])
@pytest.mark.parametrize("family", Family)
def test_steps_lead_to_what_a_full_sync_makes(family: Family, chains_stay: bool) -> None:
    """Linux before 6.2 does not let a chain go together with the last element that names it.

    There, and where it is said so, chains stay behind; they are empty, and used again.
    """

    def run() -> None:
        history = states(family)
        with backend(options(family)) as made, backend(options(family)) as fresh:
            if chains_stay:
                made._tables._chains_go = False
            made.sync(everything(history[0]))
            for before, after in itertools.pairwise(history):
                changed = {name for name in before | after if before.get(name) != after.get(name)}
                done = made.sync(Wanted(after, changed, False))
                assert not done.full
                stepwise = as_data(family)
                counted = fresh.sync(everything(after))
                assert counted.full
                whole = as_data(family)
                left = [each for each in stepwise if each not in whole]
                assert [each for each in stepwise if each not in left] == whole
                # Without rules: those of a chain are entries of their own.
                assert all(each.startswith('{"chain":') for each in left)
                assert not (made._tables._chains_go and left)
                assert done.rules == counted.rules
                # The other one made a table of its own, as a second proxy would.
                made.sync(everything(after))

    in_new_network(run)


def test_a_chain_that_stayed_behind_is_used_again() -> None:
    def run() -> None:
        history = states(Family.V4)
        with backend(options(Family.V4)) as made, backend(options(Family.V4)) as fresh:
            made._tables._chains_go = False
            made.sync(everything(history[0]))
            for before, after in itertools.pairwise(history):
                changed = {name for name in before | after if before.get(name) != after.get(name)}
                assert not made.sync(Wanted(after, changed, False)).full
            stepwise = set(as_data(Family.V4))
            fresh.sync(everything(history[-1]))
            whole = set(as_data(Family.V4))
            assert whole <= stepwise
            left = stepwise - whole
            assert left
            assert all(each.startswith('{"chain":') for each in left)

    in_new_network(run)


def test_the_table_in_force_is_known_from_one_that_was_left_half_filled() -> None:
    def run() -> None:
        wanted = everything(one_of_each(Family.V4))
        with backend(options(Family.V4)) as made:
            made.sync(wanted)
            made.sync(wanted)
            assert made.table == TABLES[1]
            nft(f"add table ip {TABLES[0]}")
            nft(f"add chain ip {TABLES[0]} services")
        with backend(options(Family.V4)) as restarted:
            restarted.sync(wanted)
            # The other way round, rules would have been taken away before the new ones were there.
            assert restarted.table == TABLES[0]
            assert tables(Family.V4) == [TABLES[0]]
            nft("flush ruleset")
            nft(f"add table ip {TABLES[0]}")
            restarted.sync(wanted)
            assert tables(Family.V4) == [restarted.table]

    in_new_network(run)


def test_others_keep_what_is_theirs_and_the_peers_table_goes() -> None:
    def run() -> None:
        foreign = "table ip mine {\n chain c {\n type filter hook input priority 0;\n }\n}\n"
        nft("-f", "-", text=foreign)
        nft("add table ip kube-proxy")
        before = nft("list", "table", "ip", "mine")
        with backend(options(Family.V4)) as made:
            made.sync(everything(one_of_each(Family.V4)))
            assert tables(Family.V4) == sorted(["mine", made.table])
            nft("add table ip kube-proxy")
            made.cleanup()
            made.cleanup()
        assert tables(Family.V4) == ["mine"]
        assert nft("list", "table", "ip", "mine") == before

    in_new_network(run)


def test_a_refused_change_leaves_the_old_rules() -> None:
    def run() -> None:
        first = {each.name: each for each in [portal(Family.V4, 1)]}
        wrong = replace(portal(Family.V4, 2), cluster_ip="10.96.0.2", load_balancer_ips=("nobody",))
        with backend(options(Family.V4)) as made:
            made.sync(everything(first))
            before = as_data(Family.V4)
            with pytest.raises(SyncError, match="default/svc-2:http"):
                made.sync(Wanted(first | {wrong.name: wrong}, {wrong.name}, False))
            assert as_data(Family.V4) == before
            made.sync(everything(first))
            # Somebody takes an element away; its removal is refused then, and the kernel says so.
            key = "10.96.0.1 . tcp . 80 . 1"
            nft(f"delete element ip {made.table} service-endpoints {{ {key} }}")
            fewer = {each.name: each for each in [portal(Family.V4, 1, 1)]}
            with pytest.raises(SyncError, match=re.escape(f"remove from service-endpoints: {key}")):
                made.sync(Wanted(fewer, set(fewer), False))
            # What was asked for partially becomes a full sync, which makes all well again.
            done = made.sync(Wanted(fewer, set(fewer), False))
            assert done.full
            assert len(tables(Family.V4)) == 1

    in_new_network(run)


def test_without_the_privilege_the_error_says_so() -> None:
    def run() -> None:
        with backend(options(Family.V4)) as made:
            # Rights are looked at when a message is sent: those of this thread alone go.
            set_capabilities(frozenset(), frozenset(), frozenset())
            with pytest.raises(SyncError, match="needs CAP_NET_ADMIN"):
                made.sync(everything(one_of_each(Family.V4)))
            with pytest.raises(SyncError, match=r"rules of V4 stay: .*CAP_NET_ADMIN"):
                made.cleanup()

    in_new_network(run)


def test_an_error_names_the_rule() -> None:
    def run() -> None:
        rules = RuleSocket()
        try:
            encoder = Encoder("t", Family.V4)
            changes = [
                encoder.new_table("c"),
                encoder.new_chain(Chain("here")),
                encoder.new_rule("here", Rule((Verdict("goto", "nowhere"),))),
                encoder.new_chain(Chain("there")),
            ]
            with pytest.raises(Refused, match="add rule here goto nowhere: No such file"):
                rules.commit(changes)
            assert tables(Family.V4) == []
        finally:
            rules.close()

    in_new_network(run)


def test_changes_of_others_are_heard_and_own_ones_are_not() -> None:
    def run() -> None:
        heard: queue.Queue[str] = queue.Queue()
        portals = one_of_each(Family.V4)
        with backend(options(Family.V4)) as made:
            end = made.watch(heard.put)
            assert end is not None
            made.sync(everything(portals))
            (name, each) = next(iter(portals.items()))
            made.sync(Wanted(portals | {name: replace(each, port=81)}, {name}, False))
            assert made.intact()
            # Tables of others, and those with our name in another family, are nothing to us.
            nft("add table ip mine")
            nft(f"add table ip6 {made.table}")
            assert made.intact()
            nft(f"flush chain ip {made.table} services")
            reason = heard.get(timeout=_WAIT_SECONDS)
            assert reason == f"another program changed table {made.table}: delete rule"
            assert heard.empty()
            nft("flush ruleset")
            assert "delete" in heard.get(timeout=_WAIT_SECONDS)
            assert not made.intact()
            end()
            made.sync(everything(portals))
            assert made.intact()

    in_new_network(run)


def test_a_new_table_takes_over_the_clients_of_services_with_affinity() -> None:
    def run() -> None:
        wanted = everything(one_of_each(Family.V4))
        with backend(options(Family.V4)) as made:
            made.sync(wanted)
            (name,) = re.findall(
                r"set (affinity-\S*svc-9\S*\.72/8080)", nft("list", "table", "ip", made.table)
            )
            nft(f"add element ip {made.table} {name} {{ 10.9.9.9 expires 1h }}")
            first = made.table
        with backend(options(Family.V4)) as restarted:
            restarted.sync(wanted)
            assert restarted.table != first
            kept = nft("list", "set", "ip", restarted.table, name)
            assert re.search(r"10\.9\.9\.9 expires (59m|1h)", kept)

    in_new_network(run)


def test_a_large_table_is_filled_in_parts_and_swapped_at_once() -> None:
    """Whoever looks at the rules meanwhile finds one whole table that is in force, never none."""

    def run() -> None:
        portals = {
            each.name: replace(each, cluster_ip=f"10.97.{number >> 8}.{number & 255}")
            for number, each in ((number, portal(Family.V4, 1, 5)) for number in range(3400))
            for each in [replace(each, name=replace(each.name, service=f"s-{number}"))]
        }
        with backend(options(Family.V4)) as made:
            made.sync(everything({}))
            seen: queue.Queue[str] = queue.Queue()
            end = made.watch(seen.put)
            assert end is not None
            with ThreadPoolExecutor(1) as thread:
                syncing: Future[Any] = thread.submit(made.sync, everything(portals))
                while not syncing.done():
                    listed = nft("list", "chains", "ip")
                    assert listed.count("hook prerouting priority dstnat;") == 1, listed
            end()
            done = syncing.result()
            assert done.bytes_or_messages > 1 << 20
            assert seen.empty()
            assert len(list(endpoints_in(made.table))) == 5 * len(portals)
            made.cleanup()

    in_new_network(run)
