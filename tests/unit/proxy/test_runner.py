"""A whole proxy with objects of files and rules in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.backend import RuleOptions
from proxy.conntrack.flows import Removed
from proxy.inputs import files
from proxy.inputs.sink import Kind
from proxy.model import objects
from proxy.model.portal import Family
from proxy.options import NO_ADDRESS, NO_CIDRS, Missing
from proxy.runner import NotKnown, Proxy
from proxy.syncing import Outcome, Pace
from tests.unit.proxy.fakes import Remembering, endpoint, endpoint_slice, service


def node(**status: Any) -> objects.Node:
    data = {"metadata": {"name": "here", "labels": {"topology.kubernetes.io/zone": "a"}}, **status}
    return msgspec.json.decode(json.dumps(data), type=objects.Node)


class Ran:
    """A proxy and its rules by family."""

    def __init__(self, missing: Missing | None = None, *, service_networks: bool = False) -> None:
        self.options: dict[Family, RuleOptions] = {}
        self.backends: dict[Family, list[Remembering]] = {family: [] for family in Family}
        self.missing = missing
        self.bit = 14
        self.proxy = Proxy(
            "here", families=(Family.V4, Family.V6), options=self._options,
            missing=lambda node: None if node is not None else self.missing,
            open_backend=self._open, pace=Pace(0.0, 30.0), observer=self,
            service_networks=service_networks,
        )  # fmt: skip
        self.stop = asyncio.Event()
        self.moved = asyncio.Event()

    def queued(self, family: Family) -> None:
        pass

    def current(self, family: Family) -> None:
        pass

    def forgot(self, family: Family, removed: Removed) -> None:
        pass

    def ended(self, family: Family, outcome: Outcome) -> None:
        self.moved.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something holds, looking whenever rules were made or written."""
        async with asyncio.timeout(10):
            while not condition():
                self.moved.clear()
                await self.moved.wait()

    def _options(self, node: objects.Node | None, family: Family) -> RuleOptions:
        zone = (node.metadata.labels or {}).get(objects.LABEL_ZONE, "") if node else ""
        return RuleOptions(family, masquerade_bit=ord(zone) % 32 if zone else 0)

    def _open(self, options: RuleOptions) -> Remembering:
        made = Remembering()
        self.options[options.family] = options
        self.backends[options.family].append(made)
        self.moved.set()
        return made

    def fill(self) -> None:
        inputs = self.proxy.inputs
        inputs.put(Kind.SERVICE, service(clusterIPs=["10.0.0.1", "fd00::1"]))
        inputs.put(Kind.SLICE, endpoint_slice(endpoint("10.1.0.1")))
        for kind in (Kind.SERVICE, Kind.SLICE, Kind.NODE):
            inputs.keep(kind, {("default", "web"), ("default", "web-1"), ("", "here")})


async def idle() -> None:
    await asyncio.Event().wait()


async def test_nothing_is_written_before_all_lists_are_there() -> None:
    ran = Ran()
    task = asyncio.create_task(ran.proxy.run(idle(), ran.stop))
    ran.proxy.inputs.put(Kind.SERVICE, service())
    ran.proxy.inputs.keep(Kind.SERVICE, {("default", "web")})
    ran.proxy.inputs.keep(Kind.NODE, set())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not ran.backends[Family.V4]
    ran.proxy.inputs.keep(Kind.SLICE, set())
    await ran.until(lambda: ran.backends[Family.V4] and ran.backends[Family.V4][0].rules)
    ran.stop.set()
    await task
    assert all(each[0].closed for each in ran.backends.values())


async def test_what_ends_beside_it_without_an_error_ends_nothing() -> None:
    async def nothing_to_do() -> None:
        """The watchdog, where no systemd asked for one."""

    ran = Ran()
    ran.fill()
    task = asyncio.create_task(ran.proxy.run(idle(), ran.stop, nothing_to_do()))
    await ran.until(lambda: ran.backends[Family.V4] and ran.backends[Family.V4][0].rules)
    before = dict(ran.backends[Family.V4][0].rules)
    ran.proxy.inputs.put(Kind.SLICE, endpoint_slice(endpoint("10.1.0.1"), endpoint("10.1.0.2")))
    await ran.until(lambda: ran.backends[Family.V4][0].rules != before)
    ran.stop.set()
    await task


async def test_changes_reach_both_families() -> None:
    ran = Ran()
    ran.fill()
    task = asyncio.create_task(ran.proxy.run(idle(), ran.stop))
    await ran.until(lambda: ran.backends[Family.V6] and ran.backends[Family.V6][0].rules)
    ran.proxy.inputs.drop(Kind.SERVICE, ("default", "web"))
    await ran.until(lambda: not any(each[0].rules for each in ran.backends.values()))
    ran.stop.set()
    await task


async def test_a_node_that_changes_has_the_rules_written_with_other_options() -> None:
    ran = Ran()
    ran.fill()
    task = asyncio.create_task(ran.proxy.run(idle(), ran.stop))
    await ran.until(lambda: ran.backends[Family.V4])
    ran.proxy.inputs.put(Kind.NODE, node())
    assert ran.proxy.model.zone == "a"
    await ran.until(lambda: len(ran.backends[Family.V4]) == 2 and ran.backends[Family.V4][1].wanted)
    ran.proxy.inputs.put(Kind.NODE, node(status={"addresses": []}))
    ran.proxy.inputs.drop(Kind.NODE, ("", "here"))
    assert ran.proxy.model.zone == "a"
    ran.stop.set()
    await task
    assert len(ran.backends[Family.V4]) == 2


def service_cidr(name: str, *cidrs: str) -> objects.ServiceCIDR:
    data = {"metadata": {"name": name}, "spec": {"cidrs": cidrs}}
    return msgspec.json.decode(json.dumps(data), type=objects.ServiceCIDR)


async def test_networks_of_services_are_followed_where_rules_depend_on_them() -> None:
    ran = Ran(service_networks=True)
    inputs = ran.proxy.inputs
    inputs.put(Kind.SERVICE_CIDR, service_cidr("kubernetes", "10.96.0.0/16", "fd00:96::/112"))
    ran.fill()
    task = asyncio.create_task(ran.proxy.run(idle(), ran.stop))
    await ran.until(lambda: all(ran.backends.values()))
    assert ran.options[Family.V4].service_cidrs == ("10.96.0.0/16",)
    assert ran.options[Family.V6].service_cidrs == ("fd00:96::/112",)
    inputs.put(Kind.SERVICE_CIDR, service_cidr("more", "10.97.0.0/16", "nonsense"))
    await ran.until(lambda: len(ran.backends[Family.V4]) == 2)
    assert ran.options[Family.V4].service_cidrs == ("10.96.0.0/16", "10.97.0.0/16")
    inputs.drop(Kind.SERVICE_CIDR, ("", "kubernetes"))
    await ran.until(lambda: len(ran.backends[Family.V6]) == 2)
    assert ran.options[Family.V6].service_cidrs == ()
    inputs.keep(Kind.SERVICE_CIDR, set())
    await ran.until(lambda: ran.options[Family.V4].service_cidrs == ())
    ran.stop.set()
    await task


async def test_what_is_needed_of_the_node_is_waited_for() -> None:
    ran = Ran(missing=NO_CIDRS)
    ran.fill()
    task = asyncio.create_task(ran.proxy.run(idle(), ran.stop))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not ran.backends[Family.V4]
    ran.proxy.inputs.put(Kind.NODE, node())
    await ran.until(lambda: ran.backends[Family.V4])
    ran.stop.set()
    await task


async def test_without_what_is_not_vital_it_goes_on() -> None:
    ran = Ran(missing=replace(NO_ADDRESS, seconds=0.01))
    ran.fill()
    task = asyncio.create_task(ran.proxy.run(idle(), ran.stop))
    await ran.until(lambda: ran.backends[Family.V4])
    ran.stop.set()
    await task


async def test_and_not_for_ever() -> None:
    ran = Ran(missing=replace(NO_CIDRS, seconds=0.01))
    ran.fill()
    with pytest.raises(NotKnown, match=r"'here' has no spec\.podCIDRs"):
        await ran.proxy.run(idle(), ran.stop)


async def test_what_a_source_raises_ends_the_proxy(tmp_path: Path) -> None:
    ran = Ran()
    with pytest.raises(files.FileError, match="nowhere"):
        await ran.proxy.run(files.follow(tmp_path / "nowhere" / "x", ran.proxy.inputs), ran.stop)


async def test_what_runs_beside_it_may_end_or_break() -> None:
    async def nothing() -> None:
        pass

    async def broken() -> None:
        await gone_on.wait()
        raise OSError("it broke")

    ran, gone_on = Ran(), asyncio.Event()
    task = asyncio.create_task(ran.proxy.run(idle(), ran.stop, nothing(), broken()))
    for _ in range(5):
        await asyncio.sleep(0)
    ran.fill()
    await ran.until(lambda: ran.backends[Family.V6] and ran.backends[Family.V6][0].rules)
    assert not task.done()
    gone_on.set()
    with pytest.raises(OSError, match="it broke"):
        await task
    assert ran.backends[Family.V4][0].closed


async def test_files_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "objects.json"

    def write(*items: Any) -> None:
        new = tmp_path / ".new"
        new.write_text(json.dumps({"kind": "List", "items": items}))
        new.rename(path)

    one = {"kind": "Service", "metadata": {"name": "web"},
           "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}}  # fmt: skip
    write(one)
    ran = Ran()
    task = asyncio.create_task(ran.proxy.run(files.follow(path, ran.proxy.inputs), ran.stop))
    await ran.until(lambda: ran.backends[Family.V4] and ran.backends[Family.V4][0].rules)
    path.write_text("{")
    write()
    await ran.until(lambda: not ran.backends[Family.V4][0].rules)
    ran.stop.set()
    await task


async def test_once_tells_whether_it_succeeded() -> None:
    ran = Ran()
    ran.fill()
    assert await ran.proxy.once()
    assert ran.backends[Family.V4][0].rules


async def test_the_plan_is_of_all_families_and_changes_nothing() -> None:
    ran = Ran()
    ran.fill()
    assert ran.proxy.plan() == "default/web\ndefault/web"
    assert not ran.backends[Family.V4][0].wanted
