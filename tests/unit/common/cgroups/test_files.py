"""Reading and writing control files, on plain files laid out like cgroupfs."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from kubeletpy_common.cgroups import CgroupError, CgroupsV1, CgroupsV2, DeviceRule, LinuxResources
from kubeletpy_common.cgroups.interfaces import Bandwidth, parse_flat_keyed, parse_nested_keyed
from kubeletpy_common.cgroups.paths import remove_tree, validate
from kubeletpy_common.cgroups.stats import memory_stats, pressure_stats, v1_limit
from kubeletpy_common.cgroups.v1.cgroup import memory_writes
from kubeletpy_common.cgroups.v2 import controllers as v2
from kubeletpy_common.cgroups.v2.cgroup import controllers_to_enable


def lay_out(directory: Path, **files: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text + "\n")
    return directory


@pytest.mark.parametrize(
    "path", ["", "a", "a/b", "//", "/a//b", "/a/", "/a/../b", "/..", "/.", "/a\0b", "/a\nb",
             "/" + "x" * 256]
)  # fmt: skip
def test_invalid_paths_are_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(CgroupError) as caught:
        CgroupsV2(tmp_path).cgroup(path)
    assert caught.value.errno == errno.EINVAL


def test_valid_paths() -> None:
    assert validate("/") == ()
    assert validate("/kubepods/burstable/pod1-2/c") == ("kubepods", "burstable", "pod1-2", "c")


def test_odd_lines_are_skipped() -> None:
    assert parse_flat_keyed("a 1\n\nodd\nb -2\nc x\nd 3 4") == {"a": 1, "b": -2}
    assert parse_nested_keyed("8:0 rbytes=1 odd\n\nsome avg10=0.5") == {
        "8:0": {"rbytes": "1"},
        "some": {"avg10": "0.5"},
    }


def test_values_or_max(tmp_path: Path) -> None:
    memory = v2.Memory(lay_out(tmp_path, memory__max="max"))
    assert memory.max is None
    memory.max = 4096
    assert (tmp_path / "memory.max").read_text() == "4096"
    memory.max = None
    assert (tmp_path / "memory.max").read_text() == "max"


def test_bandwidth(tmp_path: Path) -> None:
    cpu = v2.Cpu(lay_out(tmp_path, cpu__max="max 100000"))
    assert cpu.max == Bandwidth(None, 100000)
    cpu.max = Bandwidth(5000, 20000)
    assert (tmp_path / "cpu.max").read_text() == "5000 20000"


def test_a_missing_file_names_itself_and_is_never_made(tmp_path: Path) -> None:
    with pytest.raises(CgroupError) as caught:
        v2.Memory(tmp_path).max = 1
    assert caught.value.errno == errno.ENOENT
    assert str(tmp_path / "memory.max") in str(caught.value)
    assert "'1'" in str(caught.value)
    assert "controller" in caught.value.remedy
    assert not (tmp_path / "memory.max").exists()


def test_a_symlink_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("safe")
    (tmp_path / "memory.max").symlink_to(victim)
    with pytest.raises(CgroupError):
        v2.Memory(tmp_path).max = 1
    assert victim.read_text() == "safe"


def test_cpu_lists_are_checked(tmp_path: Path) -> None:
    cpuset = v2.CpuSet(lay_out(tmp_path, cpuset__cpus=""))
    cpuset.cpus = "0-1,3"
    assert cpuset.cpus == "0-1,3"
    with pytest.raises(CgroupError, match="list"):
        cpuset.cpus = "0;1"


def test_v2_apply_writes_the_files(tmp_path: Path) -> None:
    directory = lay_out(
        tmp_path / "pod", cpu__weight="100", cpu__max="max 100000", memory__max="max",
        memory__low="0", memory__high="max", pids__max="max", cpuset__cpus="", io__max="",
    )  # fmt: skip
    lay_out(directory, **{"memory__swap__max": "max", "hugetlb__2MB__max": "max"})
    CgroupsV2(tmp_path).cgroup("/pod").apply(
        LinuxResources(
            cpu_shares=1024,
            cpu_quota_us=50000,
            cpuset_cpus="0",
            memory_limit=1 << 20,
            memory_swap=1 << 20,
            memory_low=4096,
            pids_limit=7,
            hugepages={"2MB": 0, "1GB": 0},
            unified={"memory.high": "1000000", "io.max": "8:0 rbps=1\n8:16 rbps=2"},
        )
    )
    written = {path.name: path.read_text() for path in directory.iterdir()}
    assert written == {
        "cpu.weight": "100",
        "cpu.max": "50000 100000",
        "cpuset.cpus": "0",
        "memory.max": "1048576",
        "memory.swap.max": "0",
        "memory.low": "4096",
        "memory.high": "1000000",
        "pids.max": "7",
        "hugetlb.2MB.max": "0",
        "io.max": "8:16 rbps=2",
    }


def test_v2_leaves_what_is_not_given(tmp_path: Path) -> None:
    directory = lay_out(tmp_path / "pod", memory__max="5", cpu__max="10 20")
    cgroup = CgroupsV2(tmp_path).cgroup("/pod")
    cgroup.apply(LinuxResources())
    assert (directory / "memory.max").read_text() == "5\n"
    cgroup.apply(LinuxResources(cpu_period_us=30))
    assert (directory / "cpu.max").read_text() == "10 30"
    # No swap in the kernel: nothing to forbid, but a real amount cannot be promised.
    cgroup.apply(LinuxResources(memory_limit=5, memory_swap=5))
    with pytest.raises(CgroupError, match=r"memory\.swap\.max"):
        cgroup.apply(LinuxResources(memory_limit=5, memory_swap=9))


def test_v1_refuses_what_only_v2_has(tmp_path: Path) -> None:
    cgroup = CgroupsV1({"memory": tmp_path}).cgroup("/a")
    for resources in (LinuxResources(memory_high=1), LinuxResources(unified={"memory.high": "1"})):
        with pytest.raises(CgroupError, match="cgroup v2") as caught:
            cgroup.apply(resources)
        assert caught.value.errno == errno.EOPNOTSUPP


def test_v1_names_the_controller_that_is_not_mounted(tmp_path: Path) -> None:
    cgroup = CgroupsV1({"memory": tmp_path}).cgroup("/a")
    for resources in (
        LinuxResources(pids_limit=1),
        LinuxResources(cpu_shares=2),
        LinuxResources(devices=(DeviceRule(True),)),
        LinuxResources(hugepages={"2MB": 2097152}),
    ):
        with pytest.raises(CgroupError, match="not mounted"):
            cgroup.apply(resources)
    cgroup.apply(LinuxResources(hugepages={"2MB": 0}))


@pytest.mark.parametrize(
    ("limit", "both", "now", "order"),
    [
        (10, None, None, ["limit_in_bytes"]),
        (10, 10, 100, ["limit_in_bytes", "memsw_limit_in_bytes"]),
        (200, 200, 100, ["memsw_limit_in_bytes", "limit_in_bytes"]),
        (-1, -1, 100, ["memsw_limit_in_bytes", "limit_in_bytes"]),
        (None, 10, 100, ["memsw_limit_in_bytes"]),
    ],
)
def test_v1_order_of_memory_limits(
    limit: int | None, both: int | None, now: int | None, order: list[str]
) -> None:
    assert [name for name, _ in memory_writes(limit, both, now)] == order


def test_only_what_is_offered_and_not_yet_enabled() -> None:
    offered = frozenset({"cpu", "memory", "pids", "rdma", "io"})
    assert controllers_to_enable(offered, frozenset({"memory"})) == ["io", "rdma", "cpu", "pids"]
    # A threaded controller before a domain controller would spoil a cgroup that has processes.
    assert controllers_to_enable(offered, frozenset())[:2] == ["memory", "io"]
    assert controllers_to_enable(frozenset(), frozenset()) == []


def test_memory_arithmetic() -> None:
    stat = {"inactive_file": 300, "anon": 50, "pgfault": 9, "pgmajfault": 2}
    stats = memory_stats(1000, stat, 800)
    assert (stats.working_set, stats.rss, stats.available) == (700, 50, 100)
    assert (stats.page_faults, stats.major_page_faults) == (9, 2)
    assert memory_stats(100, stat, None).working_set == 0
    assert memory_stats(2000, stat, 800).available == 0
    assert memory_stats(1, {}, None).available is None
    assert v1_limit(9223372036854771712) is None
    assert v1_limit(1 << 40) == 1 << 40


def test_pressure() -> None:
    text = (
        "some avg10=1.50 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 avg60=0 avg300=0 total=3"
    )
    stats = pressure_stats(parse_nested_keyed(text))
    assert stats is not None
    assert stats.full is not None
    assert (stats.some.avg10, stats.some.total_ns, stats.full.total_ns) == (1.5, 12000, 3000)
    assert pressure_stats({}) is None


def test_v2_stats(tmp_path: Path) -> None:
    directory = lay_out(
        tmp_path / "c",
        cpu__stat="usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 3\n"
        "throttled_usec 5\nnew_field 1 2",
        memory__current="900", memory__stat="anon 10\ninactive_file 100", memory__max="1000",
        pids__current="2", pids__max="max", memory__events="low 0\noom 5\noom_kill 3",
    )  # fmt: skip
    cgroup = CgroupsV2(tmp_path).cgroup("/c")
    stats = cgroup.stats()
    assert stats.cpu is not None
    assert (stats.cpu.usage_ns, stats.cpu.throttled_periods, stats.cpu.throttled_ns) == (
        30000, 3, 5000,
    )  # fmt: skip
    assert stats.memory is not None
    assert (stats.memory.working_set, stats.memory.available, stats.memory.swap) == (800, 200, None)
    assert stats.pids is not None
    assert (stats.pids.current, stats.pids.limit) == (2, None)
    assert cgroup.oom_kills() == 3
    assert cgroup.oom_file() == directory / "memory.events"


def test_what_is_gone(tmp_path: Path) -> None:
    cgroup = CgroupsV2(tmp_path).cgroup("/gone")
    assert not cgroup.exists()
    assert cgroup.processes() == []
    assert cgroup.oom_kills() == 0
    assert cgroup.oom_file() is None
    cgroup.kill()
    cgroup.remove()
    with pytest.raises(CgroupError) as caught:
        cgroup.stats()
    assert caught.value.errno == errno.ENOENT


def test_the_root_is_neither_killed_nor_removed(tmp_path: Path) -> None:
    lay_out(tmp_path, cgroup__procs=str(os.getppid()))
    root = CgroupsV2(tmp_path).cgroup("/")
    for action in (root.kill, root.remove):
        with pytest.raises(CgroupError) as caught:
            action()
        assert caught.value.errno == errno.EPERM


def test_the_caller_does_not_kill_itself(tmp_path: Path) -> None:
    lay_out(tmp_path / "a" / "b", cgroup__procs=str(os.getpid()), cgroup__kill="")
    with pytest.raises(CgroupError, match="calling process"):
        CgroupsV2(tmp_path).cgroup("/a").kill()
    assert (tmp_path / "a" / "b" / "cgroup.kill").read_text() == "\n"


def test_removal_gives_up_at_its_deadline_and_names_the_process(tmp_path: Path) -> None:
    # A file keeps a plain directory from being removed, as a process does with a cgroup.
    directory = lay_out(tmp_path / "a", cgroup__procs="42")
    started = time.monotonic()
    with pytest.raises(CgroupError, match="process 42") as caught:
        remove_tree(directory, recursive=True, deadline=started + 0.05, processes=lambda: [42])
    assert caught.value.errno == errno.EBUSY
    assert time.monotonic() - started < 5
