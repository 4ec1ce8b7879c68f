"""The systemd driver's names and properties, and where it refuses to work."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeletpy_common.cgroups import CgroupError, CgroupsV1, CgroupsV2, LinuxResources
from kubeletpy_common.cgroups.interfaces import Bandwidth
from kubeletpy_common.cgroups.systemd import cgroup, names, open_systemd
from kubeletpy_common.cgroups.systemd.properties import (
    in_whole_percents,
    limit_properties,
    mask,
    scope_properties,
)

INFINITY = (1 << 64) - 1
NOW = Bandwidth(None, 100_000)


@pytest.mark.parametrize(
    ("parent", "path"),
    [
        ("kubepods.slice", "/kubepods.slice"),
        ("/kubepods.slice/", "/kubepods.slice"),
        ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"),
        ("/a.slice/a-b.slice", "/a.slice/a-b.slice"),
        ("-.slice", "/"),
        ("kubepods-pod12_34.slice", "/kubepods.slice/kubepods-pod12_34.slice"),
    ],
)
def test_slices_have_paths(parent: str, path: str) -> None:
    assert names.slice_path(parent) == path


@pytest.mark.parametrize(
    "parent",
    [
        *("", "/", "kubepods", "/kubepods/pod1", "a.scope", ".slice", "a--b.slice", "-a.slice"),
        *("a-.slice", "/x/a.slice", "/a-b.slice", "/../a.slice", "a b.slice", "a\0.slice"),
        "a" * 250 + ".slice",
    ],
)
def test_what_is_no_slice_is_refused(parent: str) -> None:
    with pytest.raises(CgroupError, match="slice"):
        names.slice_path(parent)


def test_children_and_scopes_are_named_after_their_slice() -> None:
    pod = names.child_slice("kubeletpy.slice", "pod1-2")
    assert pod == "/kubeletpy.slice/kubeletpy-pod1_2.slice"
    assert names.child_slice("-.slice", "pod") == "/pod.slice"
    scope = names.scope_path(pod, "kubeletpy", "abc")
    assert scope == f"{pod}/kubeletpy-abc.scope"
    assert names.unit_of(scope) == "kubeletpy-abc.scope"
    assert names.slice_of(scope) == "kubeletpy-pod1_2.slice"
    assert names.unit_of(pod) == "kubeletpy-pod1_2.slice"


@pytest.mark.parametrize(
    "path",
    ["/", "/kubepods/pod1", "/a.slice/x.scope/inner", "/x/a.slice", "/x/y.scope", "/a.service"],
)
def test_other_paths_are_no_units_of_ours(path: str) -> None:
    assert names.unit_of(path) == ""


def test_limits_become_properties() -> None:
    resources = LinuxResources(
        cpu_shares=1024, cpu_quota_us=20_000, cpu_period_us=100_000, cpuset_cpus="0-1,9",
        memory_limit=100, memory_swap=150, pids_limit=-1,
    )  # fmt: skip
    assert dict(limit_properties(resources, NOW)) == {
        "CPUWeight": ("t", 100),
        "CPUQuotaPeriodUSec": ("t", 100_000),
        "CPUQuotaPerSecUSec": ("t", 200_000),
        "MemoryMax": ("t", 100),
        "MemorySwapMax": ("t", 50),
        "TasksMax": ("t", INFINITY),
        "AllowedCPUs": ("ay", b"\x03\x02"),
    }
    assert limit_properties(LinuxResources(), NOW) == []


@pytest.mark.parametrize(
    ("resources", "now", "per_second", "period"),
    [
        (LinuxResources(cpu_quota_us=12_345), Bandwidth(None, 50_000), 250_000, 50_000),
        (LinuxResources(cpu_quota_us=-1), Bandwidth(1000, 50_000), INFINITY, 50_000),
        (LinuxResources(cpu_period_us=200_000), Bandwidth(100_000, 100_000), 500_000, 200_000),
        (LinuxResources(cpu_quota_us=1000, cpu_period_us=1_000_000), NOW, 10_000, 1_000_000),
        (LinuxResources(unified={"cpu.max": "5000 10000"}), NOW, 500_000, 10_000),
        (LinuxResources(unified={"cpu.max": "max"}), NOW, INFINITY, 100_000),
    ],
)
def test_a_quota_is_rounded_up_to_what_systemd_keeps(
    resources: LinuxResources, now: Bandwidth, per_second: int, period: int
) -> None:
    found = dict(limit_properties(resources, now))
    assert found["CPUQuotaPerSecUSec"] == ("t", per_second)
    assert found["CPUQuotaPeriodUSec"] == ("t", period)


@pytest.mark.parametrize(
    ("quota", "period", "kept"),
    [
        (12_345, 50_000, 12_500),
        (10_500, 100_000, 11_000),
        (20_000, 100_000, 20_000),
        (1000, 1_000_000, 10_000),
        (150_001, 100_000, 151_000),
        (-1, 100_000, -1),
    ],
)
def test_the_file_gets_the_quota_that_systemd_keeps(quota: int, period: int, kept: int) -> None:
    resources = LinuxResources(cpu_quota_us=quota, cpu_period_us=period)
    found = in_whole_percents(resources, NOW)
    assert (found.cpu_quota_us, found.cpu_period_us) == (kept, period)
    # What systemd makes of its property is the same.
    per_second = dict(limit_properties(found, NOW))["CPUQuotaPerSecUSec"][1]
    if kept > 0:
        assert isinstance(per_second, int)
        assert per_second % 10_000 == 0
        assert per_second * period // 1_000_000 == kept
    assert in_whole_percents(found, NOW) == found


def test_the_quota_of_unified_is_rounded_too() -> None:
    found = in_whole_percents(LinuxResources(unified={"cpu.max": "12345 50000", "a.b": "c"}), NOW)
    assert found == LinuxResources(unified={"cpu.max": "12500 50000", "a.b": "c"})
    odd = LinuxResources(unified={"cpu.max": "12345 0"})
    assert in_whole_percents(odd, NOW) == odd
    assert in_whole_percents(LinuxResources(cpu_shares=5), NOW) == LinuxResources(cpu_shares=5)


@pytest.mark.parametrize(
    ("unified", "name", "value"),
    [
        ({"cpu.idle": "1", "cpu.weight": "5"}, "CPUWeight", 0),
        ({"cpu.weight": "5", "cpu.idle": "1"}, "CPUWeight", 0),
        ({"cpu.idle": "0", "cpu.weight": "5"}, "CPUWeight", 5),
        ({"io.weight": "default 50"}, "IOWeight", 50),
        ({"io.weight": "50"}, "IOWeight", 50),
        ({"pids.max": "0"}, "TasksMax", 1),
    ],
)
def test_files_whose_property_is_another_number(
    unified: dict[str, str], name: str, value: int
) -> None:
    found = limit_properties(LinuxResources(unified=unified), NOW)
    assert found == [(name, ("t", value))]


def test_files_of_unified_are_properties_where_there_are_some() -> None:
    unified = {
        "memory.high": "max", "memory.min": "5", "pids.max": "7", "cpuset.mems": "0",
        "memory.oom.group": "1", "memory.low": "odd", "hugetlb.2MB.max": "0",
    }  # fmt: skip
    assert dict(limit_properties(LinuxResources(unified=unified), NOW)) == {
        "MemoryHigh": ("t", INFINITY),
        "MemoryMin": ("t", 5),
        "TasksMax": ("t", 7),
        "AllowedMemoryNodes": ("ay", b"\x01"),
    }


@pytest.mark.parametrize(
    ("numbers", "bits"),
    [("", b""), ("0", b"\x01"), ("3", b"\x08"), ("8", b"\x00\x01"), ("x", b""), ("0-", b"\x01")],
)
def test_masks(numbers: str, bits: bytes) -> None:
    assert mask(numbers) == bits


def test_a_scope_is_delegated_and_holds_its_process() -> None:
    found = dict(scope_properties("text", "a.slice", 7))
    assert found["PIDs"] == ("au", [7])
    assert found["Slice"] == ("s", "a.slice")
    assert found["Delegate"] == ("b", True)
    assert found["DefaultDependencies"] == ("b", False)


def test_the_driver_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CgroupError, match="on cgroup v1; boot with systemd"):
        open_systemd(CgroupsV1({"memory": tmp_path}, None, None))
    monkeypatch.setattr(cgroup, "BOOTED", tmp_path / "none")
    with pytest.raises(CgroupError, match="systemd is not this machine's PID 1"):
        open_systemd(CgroupsV2(tmp_path))
