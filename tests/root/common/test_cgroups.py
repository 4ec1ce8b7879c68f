"""Cgroups of this machine: limits that bite, deaths that are counted, nothing left behind."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubeletpy_common.cgroups import (
    Cgroup,
    CgroupError,
    CgroupsV1,
    DeviceRule,
    Hierarchy,
    LinuxResources,
    detect,
    missing_controllers,
)
from kubeletpy_common.cgroups.killing import kill_listed

pytestmark = pytest.mark.root

MIB = 1 << 20
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def hierarchy() -> Hierarchy:
    found = detect()
    assert missing_controllers(found) == []
    return found


@pytest.fixture
def cgroup(hierarchy: Hierarchy) -> Iterator[Cgroup]:
    top = hierarchy.cgroup(f"/kptest-{os.urandom(4).hex()}")
    made = hierarchy.cgroup(f"{top.path}/pod/container")
    made.create()
    yield made
    top.kill()
    top.remove()
    assert not top.exists()


@pytest.fixture
def start(cgroup: Cgroup) -> Iterator[Start]:
    """Start Python code in a child that joins the cgroup before it runs the code."""
    children: list[subprocess.Popen[str]] = []

    def run(code: str, into: Cgroup = cgroup) -> subprocess.Popen[str]:
        joins = "".join(f"open({str(f)!r}, 'w').write('0')\n" for f in into.procs_files())
        child = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", f"import os, time\n{joins}{code}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield run
    # All of them: a grandchild would keep the pipes of its parent open.
    cgroup.kill()
    for child in children:
        child.kill()
        child.communicate(timeout=10)


def first_line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    readable, _, _ = select.select([child.stdout], [], [], 10)
    assert readable, "the child said nothing for 10 s"
    return child.stdout.readline()


def read(cgroup: Cgroup, controller: str, name: str) -> str:
    directories = cgroup.directories()
    directory = next((d for d in directories if controller in d.parts), directories[0])
    return (directory / name).read_text().strip()


def test_memory_limit_kills_and_is_counted(cgroup: Cgroup, start: Start) -> None:
    cgroup.apply(LinuxResources(memory_limit=32 * MIB, memory_swap=32 * MIB))
    assert cgroup.oom_kills() == 0
    child = start("b = bytearray(96 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1")
    assert child.wait(timeout=20) == -signal.SIGKILL
    assert cgroup.oom_kills() == 1
    oom_file = cgroup.oom_file()
    assert oom_file is not None
    assert "oom_kill 1" in oom_file.read_text()


def test_memory_limits_can_be_raised_lowered_and_lifted(cgroup: Cgroup) -> None:
    for limit in (64 * MIB, 16 * MIB, 128 * MIB):
        cgroup.apply(LinuxResources(memory_limit=limit, memory_swap=limit))
        memory = cgroup.stats().memory
        assert memory is not None
        assert memory.limit == limit
        assert memory.available == limit - memory.working_set
    cgroup.apply(LinuxResources(memory_limit=-1))
    memory = cgroup.stats().memory
    assert memory is not None
    assert memory.limit is None


def test_memory_limit_below_what_is_in_use_says_so(cgroup: Cgroup, start: Start) -> None:
    child = start("b = bytearray(b'x') * (40 << 20)\nprint('ready', flush=True)\ntime.sleep(60)")
    assert first_line(child) == "ready\n"
    if isinstance(detect(), CgroupsV1):
        with pytest.raises(CgroupError, match="in use") as caught:
            cgroup.apply(LinuxResources(memory_limit=8 * MIB))
        assert caught.value.errno == errno.EBUSY
    else:
        cgroup.apply(LinuxResources(memory_limit=8 * MIB))
        assert child.wait(timeout=20) == -signal.SIGKILL


def test_cpu_quota_throttles(cgroup: Cgroup, start: Start) -> None:
    cgroup.apply(LinuxResources(cpu_shares=512, cpu_quota_us=2000, cpu_period_us=10000))
    child = start("end = time.thread_time() + 0.1\nwhile time.thread_time() < end: pass")
    started = time.monotonic()
    assert child.wait(timeout=30) == 0
    cpu = cgroup.stats().cpu
    assert cpu is not None
    # 100 ms of CPU time at a fifth of a CPU; what starting an interpreter takes comes on top.
    elapsed = time.monotonic() - started
    assert elapsed > 0.3
    assert cpu.throttled_periods > 5
    assert cpu.periods >= cpu.throttled_periods
    assert cpu.throttled_ns > 50_000_000
    assert 80_000_000 < cpu.usage_ns < elapsed * 1e9 * 0.3
    cgroup.apply(LinuxResources(cpu_quota_us=-1))


def test_a_larger_quota_with_another_period(cgroup: Cgroup, hierarchy: Hierarchy) -> None:
    # The parent's 20%, in whatever order the two files must be written.
    parent = hierarchy.cgroup(cgroup.path.rsplit("/", 1)[0])
    parent.apply(LinuxResources(cpu_quota_us=20000, cpu_period_us=100000))
    cgroup.apply(LinuxResources(cpu_quota_us=20000, cpu_period_us=100000))
    cgroup.apply(LinuxResources(cpu_quota_us=2000, cpu_period_us=10000))
    cgroup.apply(LinuxResources(cpu_quota_us=20000, cpu_period_us=100000))
    if not isinstance(hierarchy, CgroupsV1):
        assert read(cgroup, "cpu", "cpu.max") == "20000 100000"
    else:
        assert read(cgroup, "cpu", "cpu.cfs_quota_us") == "20000"
        with pytest.raises(CgroupError, match="cfs_quota_us") as caught:
            cgroup.apply(LinuxResources(cpu_quota_us=90000))
        assert caught.value.errno == errno.EINVAL
        assert "parent" in caught.value.remedy


FORK_UNTIL_REFUSED = """
made = 0
try:
    while made < 50:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        made += 1
except BlockingIOError:
    pass
print(made, flush=True)
time.sleep(60)
"""


def test_pids_limit_stops_forks(cgroup: Cgroup, start: Start) -> None:
    cgroup.apply(LinuxResources(pids_limit=8))
    assert first_line(start(FORK_UNTIL_REFUSED)) == "7\n"
    pids = cgroup.stats().pids
    assert pids is not None
    assert (pids.current, pids.limit) == (8, 8)
    assert len(cgroup.processes()) == 8


FORK_BOMB = """
print('ready', flush=True)
while True:
    try:
        os.fork()
    except BlockingIOError:
        time.sleep(0.001)
"""


def assert_bomb_is_defused(cgroup: Cgroup, child: subprocess.Popen[str]) -> None:
    assert first_line(child) == "ready\n"
    cgroup.kill(timeout=20)
    assert cgroup.processes() == []
    assert child.wait(timeout=10) == -signal.SIGKILL
    cgroup.remove()
    assert not cgroup.exists()


def test_kill_ends_a_fork_bomb(cgroup: Cgroup, start: Start) -> None:
    cgroup.apply(LinuxResources(pids_limit=40))
    child = start(FORK_BOMB)
    assert first_line(child) == "ready\n"
    cgroup.kill(timeout=20)
    assert cgroup.processes() == []
    assert child.wait(timeout=10) == -signal.SIGKILL
    cgroup.remove()
    assert not cgroup.exists()


def test_the_freezer_alone_ends_a_fork_bomb(cgroup: Cgroup, start: Start) -> None:
    """As on a kernel before 5.14, or on v1 without v2 beside it."""
    cgroup.apply(LinuxResources(pids_limit=40))
    child = start(FORK_BOMB)
    assert first_line(child) == "ready\n"
    deadline = time.monotonic() + 20
    kill_listed(cgroup, cgroup.processes, cgroup.freeze, cgroup.thaw, deadline)
    assert cgroup.processes() == []
    assert child.wait(timeout=10) == -signal.SIGKILL


def test_kill_reaches_frozen_and_nested_processes(
    hierarchy: Hierarchy, cgroup: Cgroup, start: Start
) -> None:
    nested = hierarchy.cgroup(f"{cgroup.path}/inner")
    nested.create()
    child = start("print('ready', flush=True)\ntime.sleep(60)", into=nested)
    assert first_line(child) == "ready\n"
    assert cgroup.processes() == [child.pid]
    assert cgroup.processes(recursive=False) == []
    nested.freeze()
    cgroup.kill()
    assert child.wait(timeout=10) == -signal.SIGKILL


def test_remove_names_who_is_in_the_way(cgroup: Cgroup, start: Start) -> None:
    child = start("print('ready', flush=True)\ntime.sleep(60)")
    assert first_line(child) == "ready\n"
    with pytest.raises(CgroupError, match=str(child.pid)) as caught:
        cgroup.remove(timeout=0.1)
    assert caught.value.errno == errno.EBUSY
    cgroup.kill()
    cgroup.remove()
    cgroup.remove()
    assert not cgroup.exists()


def test_create_is_idempotent_and_joins_every_hierarchy(cgroup: Cgroup, start: Start) -> None:
    cgroup.create()
    child = start("print(open('/proc/self/cgroup').read().count('/kptest-'))")
    assert first_line(child) == f"{len(cgroup.procs_files())}\n"


def test_statistics_agree_with_the_files(cgroup: Cgroup, start: Start) -> None:
    child = start("b = bytearray(b'x') * (20 << 20)\nprint('ready', flush=True)\ntime.sleep(60)")
    assert first_line(child) == "ready\n"
    stats = cgroup.stats()
    assert stats.cpu is not None
    assert stats.memory is not None
    assert 20 * MIB <= stats.memory.rss <= 40 * MIB
    assert stats.memory.rss <= stats.memory.working_set <= stats.memory.usage
    assert stats.memory.page_faults > 0
    assert 0 < stats.cpu.usage_ns < 10**10
    v1 = isinstance(detect(), CgroupsV1)
    usage = int(read(cgroup, "memory", "memory.usage_in_bytes" if v1 else "memory.current"))
    assert abs(usage - stats.memory.usage) < MIB


def test_devices_of_the_rules_only(cgroup: Cgroup, start: Start, tmp_path: Path) -> None:
    cgroup.apply(LinuxResources(devices=(DeviceRule(False), DeviceRule(True, "c", 1, 3))))
    child = start(
        "import stat\n"
        "def tried(action, *arguments):\n"
        "    try: return action(*arguments) is not ...\n"
        "    except PermissionError: return False\n"
        "print(tried(os.open, '/dev/null', os.O_RDWR), tried(os.open, '/dev/zero', os.O_RDONLY),\n"
        f"      tried(os.mknod, {str(tmp_path / 'zero')!r}, stat.S_IFCHR, os.makedev(1, 5)),\n"
        f"      tried(os.mknod, {str(tmp_path / 'null')!r}, stat.S_IFCHR, os.makedev(1, 3)))\n"
    )
    assert child.communicate(timeout=20)[0] == "True False False True\n"


def test_failed_create_leaves_nothing(hierarchy: Hierarchy, cgroup: Cgroup) -> None:
    # The last hierarchy refuses; on v1 the others have made their directory by then.
    (cgroup.directories()[-1] / "cgroup.max.descendants").write_text("0")
    child = hierarchy.cgroup(f"{cgroup.path}/refused")
    with pytest.raises(CgroupError, match=r"cgroup\.max\.descendants") as caught:
        child.create()
    assert caught.value.errno == errno.EAGAIN
    assert not child.exists()
