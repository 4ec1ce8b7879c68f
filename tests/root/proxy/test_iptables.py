"""iptables mode on the kernel, each test in a network namespace of its own; no packets here."""

from __future__ import annotations

import fcntl
import os
import queue
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.backend import LocalDetector, LocalTraffic, RuleOptions, SyncError, Wanted
from proxy.iptables.backend import IptablesBackend
from proxy.iptables.tools import BackEnd, Tools, tools_for
from proxy.model.portal import Family
from tests.support.circumstances import patient
from tests.support.namespaces import in_new_network
from tests.support.portals import Portals, endpoint, network, one_of_each, portal

pytestmark = pytest.mark.root

_WAIT_SECONDS = patient(10)

BOTH = pytest.mark.parametrize("back_end", BackEnd, ids=lambda each: str(each.value))


def options(family: Family) -> RuleOptions:
    return RuleOptions(family, LocalDetector(LocalTraffic.CLUSTER_CIDR, network(family, 128)))


def programs(back_end: BackEnd, family: Family = Family.V4) -> Tools:
    tools = tools_for(family, back_end)
    assert tools, f"no programs of the {back_end.value} back end are installed"
    return tools


@contextmanager
def backend(tools: Tools) -> Iterator[IptablesBackend]:
    made = IptablesBackend(options(tools.family), tools)
    try:
        yield made
    finally:
        made.close()


def everything(portals: Portals) -> Wanted:
    return Wanted(portals, frozenset(), True)


def run(tools: Tools, words: str) -> None:
    done = subprocess.run([tools.command, *words.split()], capture_output=True, text=True)
    assert not done.returncode, done.stderr


State = dict[tuple[str, str], list[str]]


def rules(tools: Tools) -> State:
    """Return the rules of each chain, by table and chain, as the program says them."""
    found: State = {}
    table = ""
    for line in tools.saved().splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            found[table, line[1:].split()[0]] = []
        elif line.startswith("-A "):
            found[table, line.split()[1]].append(line)
    return found


def of_others(state: State) -> State:
    """Return chains that are not ours, and what in them is not."""
    told = {
        key: [rule for rule in chain if "KUBE-" not in rule]
        for key, chain in state.items()
        if not key[1].startswith("KUBE-")
    }
    # The tables that we needed stay, empty.
    return {key: chain for key, chain in told.items() if chain}


@BOTH
@pytest.mark.parametrize("family", Family)
def test_changes_make_the_same_rules_as_writing_all_anew(back_end: BackEnd, family: Family) -> None:
    tools = programs(back_end, family)
    first = one_of_each(family)
    last = dict(list(first.items())[1:])
    for number in range(40, 100):
        one = replace(portal(family, number), cluster_endpoints=(endpoint(family, number),))
        last[one.name] = one
    many = tuple(endpoint(family, number) for number in range(1, 101))
    one = replace(portal(family, 30), cluster_endpoints=tuple(sorted(many)))
    last[one.name] = one
    changed = {name for name in first.keys() | last.keys() if first.get(name) != last.get(name)}

    def in_steps() -> State:
        with backend(tools) as made:
            assert made.sync(everything(first)).full
            synced = made.sync(Wanted(last, changed, False))
            assert not synced.full
            assert made.sync(Wanted(last, changed, False)).bytes_or_messages == 0
            assert sum(synced.rules.values()) == sum(
                len(chain)
                for (table, name), chain in rules(tools).items()
                if name.startswith("KUBE-") and table != "mangle"
            )
            return rules(tools)

    def at_once() -> State:
        with backend(tools) as made:
            made.sync(everything(last))
            once = rules(tools)
            again = made.sync(everything(last))
            assert (again.full, again.bytes_or_messages) == (True, 0), "all of it was there"
            return once

    assert in_new_network(in_steps) == in_new_network(at_once)


GO_KUBE_PROXY = """\
*filter
:KUBE-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:OTHERS - [0:0]
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -j OTHERS
-A OTHERS -s 10.9.9.9/32 -j DROP
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SEP-BBBBBBBBBBBBBBBB - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -p tcp -m tcp --dport 9999 -j DNAT --to-destination 10.9.9.9
-A KUBE-SERVICES -d 10.96.0.99/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-BBBBBBBBBBBBBBBB
-A KUBE-SEP-BBBBBBBBBBBBBBBB -s 10.1.1.1/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-BBBBBBBBBBBBBBBB -p tcp -m tcp -j DNAT --to-destination 10.1.1.1:80
COMMIT
"""


@BOTH
def test_the_rules_of_a_go_kube_proxy_are_taken_over_and_those_of_others_stay(
    back_end: BackEnd,
) -> None:
    tools = programs(back_end)

    def take_over() -> None:
        tools.write(GO_KUBE_PROXY, "prepare the test")
        before = of_others(rules(tools))
        assert len(before) == 3
        with backend(tools) as made:
            made.sync(everything(one_of_each(Family.V4)))
            there = rules(tools)
            assert not {"KUBE-SVC-AAAAAAAAAAAAAAAA", "KUBE-SEP-BBBBBBBBBBBBBBBB"} & {
                chain for _, chain in there
            }
            assert sum("KUBE-SERVICES" in rule for rule in there["nat", "PREROUTING"]) == 1
            assert of_others(there) == before
            assert Path("/proc/sys/net/ipv4/conf/all/route_localnet").read_text() == "1\n"
            made.cleanup()
            assert of_others(rules(tools)) == before
            assert "KUBE-" not in tools.saved()
            assert Path("/proc/sys/net/ipv4/conf/all/route_localnet").read_text() == "0\n"

    in_new_network(take_over)


@BOTH
@pytest.mark.parametrize(
    "harm",
    [
        "-t nat -F",
        "-t nat -F PREROUTING",
        "-t filter -D FORWARD 1",
        "-t mangle -X KUBE-PROXY-CANARY",
    ],
)
def test_rules_taken_away_by_others_are_missed_and_come_back(back_end: BackEnd, harm: str) -> None:
    tools = programs(back_end)

    def lose() -> None:
        portals = one_of_each(Family.V4)
        with backend(tools) as made:
            made.sync(everything(portals))
            before = rules(tools)
            assert made.intact()
            run(tools, "-t nat -N OTHERS")
            assert made.intact(), "a chain of others is no harm"
            run(tools, "-t nat -X OTHERS")
            run(tools, harm)
            assert not made.intact()
            made.sync(everything(portals))
            assert made.intact()
            assert rules(tools) == before

    in_new_network(lose)


def test_the_nft_back_end_tells_who_changed_our_rules() -> None:
    tools = programs(BackEnd.NFT)

    def listen() -> None:
        portals = one_of_each(Family.V4)
        doubts: queue.Queue[str] = queue.Queue()
        with backend(tools) as made:
            stop = made.watch(doubts.put)
            assert stop
            made.sync(everything(portals))
            name = next(iter(portals))
            made.sync(Wanted({**portals, name: replace(portals[name], port=81)}, {name}, False))
            # None of these is a harm; what is told first is the one after them.
            run(tools, "-t nat -A PREROUTING -p tcp -j ACCEPT")
            run(tools, "-t nat -D PREROUTING -p tcp -j ACCEPT")
            run(programs(BackEnd.NFT, Family.V6), "-t nat -N KUBE-SVC-OTHERFAMILY")
            run(tools, "-t nat -F KUBE-SERVICES")
            expected = "a rule of table nat was deleted from chain KUBE-SERVICES by process"
            assert doubts.get(timeout=_WAIT_SECONDS).startswith(expected)
            run(tools, "-t nat -F PREROUTING")
            expected = "a rule of table nat was deleted from chain PREROUTING by process"
            assert doubts.get(timeout=_WAIT_SECONDS).startswith(expected)
            stop()
            assert doubts.empty()

    in_new_network(listen)


def test_our_own_changes_are_none_even_if_told_before_the_pid_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tools = programs(BackEnd.NFT)

    class Late(subprocess.Popen[bytes]):
        """What returns only when the program has done all that it does."""

        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def listen() -> None:
        portals = one_of_each(Family.V4)
        doubts: queue.Queue[str] = queue.Queue()
        with backend(tools) as made:
            stop = made.watch(doubts.put)
            assert stop
            made.sync(everything(portals))
            name = next(iter(portals))
            with monkeypatch.context() as late:
                late.setattr(subprocess, "Popen", Late)
                changed = {**portals, name: replace(portals[name], port=81)}
                made.sync(Wanted(changed, {name}, False))
            run(tools, "-t nat -F PREROUTING")
            assert "chain PREROUTING" in doubts.get(timeout=_WAIT_SECONDS)

    in_new_network(listen)


def test_the_legacy_back_end_tells_nothing() -> None:
    with backend(programs(BackEnd.LEGACY)) as made:
        assert made.watch(print) is None


@BOTH
def test_a_rule_that_is_refused_is_named_and_the_last_good_ones_stay(back_end: BackEnd) -> None:
    tools = programs(back_end)

    def fail() -> None:
        good = one_of_each(Family.V4)
        name = next(iter(good))
        impossible = replace(endpoint(Family.V4, 9), port=99999)
        bad = {**good, name: replace(good[name], cluster_endpoints=(impossible,))}
        with backend(tools) as made:
            made.sync(everything(good))
            before = rules(tools)
            with pytest.raises(SyncError, match=r"line \d+ is: -A KUBE-SVC-.*:99999"):
                made.sync(Wanted(bad, {name}, False))
            assert rules(tools) == before
            assert made.sync(Wanted(good, {name}, False)).full, "what is there is not known"
            assert rules(tools) == before

    in_new_network(fail)


def test_a_lock_held_by_others_is_waited_for_and_its_holder_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lock = tmp_path / "xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(lock))
    tools = replace(programs(BackEnd.LEGACY), lock_wait=1)

    def locked(do: Callable[[], None]) -> None:
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            do()

    def wait() -> None:
        with backend(tools) as made:

            def refused() -> None:
                with pytest.raises(SyncError, match=rf"{lock} is held by process \d+ \("):
                    made.sync(everything(one_of_each(Family.V4)))

            locked(refused)
            waited = [vars(one).get("fields", {}).get("seconds") for one in caplog.records]
            assert 0.9 <= waited[-1] < _WAIT_SECONDS
            made.sync(everything(one_of_each(Family.V4)))
            assert made.intact()

    in_new_network(wait)
