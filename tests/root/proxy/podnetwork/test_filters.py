"""What lets packets between pods through is there again after others took it away."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from proxy.iptables.tools import BackEnd, tools_for
from proxy.model.portal import Family
from proxy.podnetwork import filters
from tests.support.machine import Allowances
from tests.support.proxylab.mesh import PATIENCE, Cluster
from tests.support.proxylab.topology import CLUSTER_CIDRS, Namespace

pytestmark = pytest.mark.root

SAVE = "iptables-save -t filter; ip6tables-save -t filter"


@pytest.fixture(scope="module")
def node(cluster: Cluster, machine_allowances: Allowances) -> Iterator[Namespace]:
    """A node whose daemon made its rules."""
    space = cluster.spaces["n1"]
    cluster.start("n1")
    cluster.until(lambda: rules_of(space).count(" -j ") == 6, "rules of both families")
    yield space
    cluster.stop_all()


def rules_of(space: Namespace) -> str:
    lines = space.run(SAVE).splitlines()
    return "\n".join(line for line in lines if filters.CHAIN in line and line.startswith("-A"))


@pytest.mark.parametrize("culprit", [
    "iptables -F; ip6tables -F",
    "iptables -F FORWARD",
    f"ip6tables -F {filters.CHAIN}",
    # One commit: between two commands the rules may be back, and their chain in use.
    "printf '*filter\\nCOMMIT\\n' | iptables-restore",
    "nft flush ruleset",
    "nft delete table ip6 filter",
    f"iptables -D {filters.CHAIN} 1",
])  # fmt: skip
def test_rules_are_made_again_at_once(cluster: Cluster, node: Namespace, culprit: str) -> None:
    before = rules_of(node)
    node.run(culprit)
    cluster.until(lambda: rules_of(node) == before, culprit)


def test_who_takes_them_away_all_the_time_is_told_and_not_chased(
    cluster: Cluster, node: Namespace
) -> None:
    before = rules_of(node)
    node.run("for i in $(seq 40); do iptables -F FORWARD; done")
    cluster.until(lambda: rules_of(node) == before, "rules after all")
    said = cluster.daemons["n1"].text()
    assert "somebody else took away rules" in said
    assert said.count("somebody else took away rules") < 40


def test_rules_of_others_do_not_disturb(cluster: Cluster, node: Namespace) -> None:
    rules, before = rules_of(node), cluster.daemons["n1"].text()
    node.run(
        "iptables -N OTHERS; iptables -A FORWARD -j OTHERS; iptables -A OTHERS -j DROP;"
        "iptables -F OTHERS; iptables -D FORWARD -j OTHERS; iptables -X OTHERS;"
        f"iptables -F {filters.CHAIN}"
    )
    cluster.until(lambda: rules_of(node) == rules, "what was taken away last")
    said = cluster.daemons["n1"].text()[len(before) :]
    assert said.count("somebody else took away rules") == 1


def test_the_legacy_back_end_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells nobody; the size of its table is what changes."""
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))
    space = Namespace()
    tools = tools_for(Family.V4, BackEnd.LEGACY)
    assert tools is not None, "iptables-legacy belongs to Debian's iptables"
    monkeypatch.setattr(filters, "detect", lambda family: tools)
    kept = filters.Filters(Family.V4, [ip_network(CLUSTER_CIDRS[4])], look_seconds=0.02)

    def disturb() -> None:
        for _ in range(3):
            until_whole()
            space.run(f"{tools.command} -F")
        until_whole()

    def until_whole() -> None:
        end = time.monotonic() + PATIENCE
        while not kept._whole(tools):
            assert time.monotonic() < end
            time.sleep(0.02)

    async def run() -> None:
        task = asyncio.create_task(kept.run())
        try:
            await asyncio.to_thread(disturb)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    try:
        with in_namespace(space.path):
            asyncio.run(run())
    finally:
        space.close()
