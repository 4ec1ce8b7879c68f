"""What /proc tells of the machine."""

from __future__ import annotations

import os
from pathlib import Path

from kubeletpy.stats import node
from kubeletpy.stats.processes import cgroup_of_process, read_process

FILES = {
    "stat": "cpu  100 10 50 1000 40 1 2 3 90 5\ncpu0 1 2\nbtime 1700000000\n",
    "meminfo": "MemTotal: 1000 kB\nMemFree: 300 kB\nInactive(file): 200 kB\nAnonPages: 90 kB\n"
    "SwapTotal: 50 kB\nSwapFree: 20 kB\nHugePages_Total: 0\n",
    "vmstat": "pgfault 7\npgmajfault 3\nnr_dirty x\n",
    "loadavg": "0.1 0.2 0.3 2/345 99\n",
    "net/dev": "Inter-| x\n face |y\n    lo: 9 0 0 0 0 0 0 0 9 0 0\n"
    "  eth0: 11 1 2 0 0 0 0 0 22 3 4 0 0 0 0 0\n vethx: 5 0 0 0 0 0 0 0 5 0 0\n",
    "net/route": "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU\n"
    "eth1 00000000 0100000A 0003 0 0 100 00000000 0\n"
    "eth0 00000000 0100000A 0003 0 0 10 00000000 0\n"
    "eth0 0000000A 00000000 0001 0 0 0 00FFFFFF 0\n",
    "sys/kernel/pid_max": "4000\n",
    "sys/kernel/threads-max": "3000\n",
    "pressure/cpu": "some avg10=1.50 avg60=0.00 avg300=0.00 total=12\n",
}


def test_the_machine(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = node.read_node(tmp_path)
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert found.usage.cpu_ns == 166 * tick
    memory = (found.usage.usage, found.usage.working_set, found.usage.rss, found.usage.available)
    assert memory == (700 * 1024, 500 * 1024, 90 * 1024, 500 * 1024)
    assert (found.usage.swap, found.usage.swap_available) == (30 * 1024, 20 * 1024)
    assert (found.usage.faults, found.usage.major_faults) == (7, 3)
    assert found.usage.pressure["cpu"].some.avg10 == 1.5
    assert list(found.usage.pressure) == ["cpu"]
    assert found.interfaces == (node.Interface("eth0", 11, 2, 22, 4),)
    assert found.default_interface == "eth0"
    assert (found.processes, found.most_processes, found.booted) == (345, 3000, 1.7e9)


def test_trees_are_counted_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10_000)
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "link").symlink_to("/usr")
    used, inodes = node.disk_usage(tmp_path)
    assert inodes == 4
    assert 10_000 <= used < 100_000


def test_a_process(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    numbers = "S 1 1 1 0 -1 0 5 0 2 0 30 12 0 0"
    (tmp_path / "7" / "stat").write_text(f"7 (a) b) {numbers}\n")
    (tmp_path / "7" / "statm").write_text("100 10 1 1 0 1 0\n")
    (tmp_path / "7" / "cgroup").write_text("4:cpu,cpuacct:/\n2:memory:/system/kubelet\n0::/x\n")
    found = read_process(7, tmp_path)
    assert found is not None
    assert found.cpu_ns == 42 * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))
    assert found.rss == 10 * os.sysconf("SC_PAGE_SIZE")
    assert (found.faults, found.major_faults) == (7, 2)
    assert cgroup_of_process(7, tmp_path) == "/system/kubelet"
    assert read_process(8, tmp_path) is None
    assert cgroup_of_process(8, tmp_path) == ""
