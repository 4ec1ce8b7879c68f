"""Init, memory, swap, kernel, limits, cgroups: recorded and made-up machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from kubeletpy.doctor import cgroups, kernel, limits, machine
from kubeletpy.doctor.finding import Finding
from kubeletpy.doctor.purpose import NODE, SERVER, UP, Purpose

GIB = 1 << 30
WELL = machine.Facts(init="systemd", systemd=True, virtualization="", memory=4 * GIB)
MEMINFO = "MemTotal:        1995052 kB\nMemFree:         1634828 kB\n"
SWAPS = "Filename\tType\tSize\tUsed\tPriority\n/swapfile   file\t2097148\t0\t-2\n"


def named(found: list[Finding], name: str) -> Finding:
    """Return the one finding of a name."""
    (one,) = [finding for finding in found if finding.name == name]
    return one


@pytest.mark.parametrize(
    ("facts", "purpose", "name", "verdict", "says"),
    [
        (WELL, NODE, "systemd", "ok", "PID 1 is systemd"),
        (dataclasses.replace(WELL, init="sh", systemd=False), NODE, "systemd", "error", "is sh"),
        (dataclasses.replace(WELL, init="sh", systemd=False), UP, "systemd", "ok", "not needed"),
        (
            dataclasses.replace(WELL, init="tini", systemd=False, virtualization="podman"),
            SERVER, "systemd", "error", "container of podman",
        ),
        (dataclasses.replace(WELL, memory=100 << 20), NODE, "memory", "error", "100 MiB"),
        (dataclasses.replace(WELL, memory=400 << 20), NODE, "memory", "warning", "400 MiB"),
        (dataclasses.replace(WELL, memory=0), NODE, "memory", "error", "/proc/meminfo"),
        (dataclasses.replace(WELL, swap=("/dev/sda2",)), NODE, "swap", "ok", "none of it"),
        (
            dataclasses.replace(WELL, swap=("/x",), swap_behavior="LimitedSwap"),
            NODE, "swap", "ok", "as much as their limits",
        ),
        (
            dataclasses.replace(WELL, swap=("/x",), fail_swap_on=True),
            NODE, "swap", "error", "does not start",
        ),
    ],
)  # fmt: skip
def test_init_memory_and_swap(
    facts: machine.Facts, purpose: Purpose, name: str, verdict: str, says: str
) -> None:
    one = named(machine.judge(facts, purpose), name)
    assert one.verdict == verdict
    assert says in one.found
    assert bool(one.remedy) == (verdict != "ok")


def test_files_of_the_machine_are_read() -> None:
    assert machine.memory_bytes(MEMINFO) == 1995052 << 10
    assert machine.memory_bytes("") == 0
    assert machine.swaps(SWAPS) == ("/swapfile",)
    assert machine.swaps("Filename\tType\n") == ()
    assert machine.container_manager("PATH=/bin\0container=podman\0") == "podman"
    assert machine.container_manager("") == ""


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("failSwapOn: true\n", (True, "")),
        ("memorySwap: {swapBehavior: LimitedSwap}\nfailSwapOn: false", (False, "LimitedSwap")),
        ("kind: KubeletConfiguration", (None, "")),
        ("", (None, "")),
        ("[]", (None, "")),
        ("a: {", (None, "")),
    ],
)
def test_the_kubelets_own_word_on_swap(document: str, expected: tuple[bool | None, str]) -> None:
    assert machine.kubelet_swap(document) == expected


FULL = kernel.Facts(
    release="6.1.0-30-amd64",
    options=dict.fromkeys([feature.option for feature in kernel.FEATURES], "m"),
    modules=frozenset(feature.module for feature in kernel.FEATURES),
    modules_known=True,
    seccomp=("kill_process", "errno", "allow"),
    user_namespaces=15000,
)


def without(**changes: object) -> kernel.Facts:
    return dataclasses.replace(FULL, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "purpose", "name", "verdict", "says"),
    [
        (FULL, NODE, "vxlan", "ok", "has it"),
        (without(modules=frozenset()), NODE, "bridge", "error", "CONFIG_BRIDGE"),
        (without(modules=frozenset()), NODE, "vxlan", "warning", "one network segment"),
        (without(modules=frozenset()), UP, "vxlan", "ok", "CONFIG_VXLAN"),
        (without(modules=frozenset()), NODE, "nf_tables", "warning", "mode nftables"),
        (without(modules=frozenset(), options={}, modules_known=False), NODE, "veth", "ok",
         "cannot be told"),
        (without(modules=frozenset(), modules_known=False), NODE, "veth", "warning",
         "/lib/modules/6.1.0-30-amd64 is not here"),
        (without(modules=frozenset(), options={"VETH": "y"}), NODE, "veth", "ok", "has it"),
        (without(cgroup2=True, options={"CGROUP_BPF": "n"}), NODE, "BPF for cgroups", "error",
         "CONFIG_CGROUP_BPF"),
        (without(seccomp=()), NODE, "seccomp", "error", "cannot filter"),
        (without(user_namespaces=0), NODE, "user namespaces", "warning", "is 0"),
        (without(user_namespaces=None), NODE, "user namespaces", "warning", "has none"),
        (without(release="5.15.0-91-generic"), NODE, "id-mapped mounts", "warning", "5.15.0"),
        (FULL, NODE, "id-mapped mounts", "ok", "6.1.0"),
    ],
)  # fmt: skip
def test_features_of_the_kernel(
    facts: kernel.Facts, purpose: Purpose, name: str, verdict: str, says: str
) -> None:
    one = named(kernel.judge(facts, purpose), name)
    assert one.verdict == verdict
    assert says in one.found
    assert bool(one.remedy) == (verdict != "ok")


def test_lists_of_modules_and_options_are_read() -> None:
    listed = (
        "kernel/net/ipv4/tcp_cubic.ko\n"
        "kernel/drivers/net/vxlan/vxlan.ko.xz: kernel/net/ipv4/udp_tunnel.ko.xz\n"
        "kernel/net/bridge/br-netfilter.ko:\n"
    )
    assert kernel.module_names(listed) == {"tcp_cubic", "vxlan", "br_netfilter"}
    found = kernel.options("CONFIG_VXLAN=m\n# CONFIG_BRIDGE is not set\nCONFIG_VETH=y\n")
    assert (found["VXLAN"], found["BRIDGE"], found["VETH"]) == ("m", "n", "y")
    assert [kernel.version(text) for text in ("6.18.44-fc", "5", "odd-1")] == [
        (6, 18), (5, 0), (0, 1),
    ]  # fmt: skip


MANY = limits.Facts(files=1 << 20, inotify_instances=1024, inotify_watches=1 << 19, pid_max=1 << 22)


@pytest.mark.parametrize(
    ("change", "purpose", "name", "verdict"),
    [
        ({}, UP, "open files", "ok"),
        ({"files": -1}, UP, "open files", "ok"),
        ({"files": 1024}, UP, "open files", "warning"),
        ({"files": 256}, UP, "open files", "error"),
        ({"files": 256}, NODE, "open files", "ok"),
        ({"inotify_instances": 64}, NODE, "inotify instances", "warning"),
        ({"inotify_instances": 8}, NODE, "inotify instances", "error"),
        ({"inotify_instances": None}, NODE, "inotify instances", "ok"),
        ({"inotify_watches": 4096}, NODE, "inotify watches", "warning"),
        ({"pid_max": 8192}, NODE, "process ids", "warning"),
    ],
)
def test_limits(change: dict[str, int | None], purpose: Purpose, name: str, verdict: str) -> None:
    one = named(limits.judge(dataclasses.replace(MANY, **change), purpose), name)  # type: ignore[arg-type]
    assert one.verdict == verdict
    if name.startswith("inotify") and verdict != "ok":
        assert "sysctl -w fs.inotify.max_user_" in one.remedy


V2 = cgroups.Facts(version=2, controllers=frozenset({"cpu", "memory"}))
V1 = dataclasses.replace(V2, version=1)


@pytest.mark.parametrize(
    ("facts", "name", "verdict", "found", "remedy"),
    [
        (V2, "cgroup version", "ok", "v2", ""),
        (V1, "cgroup version", "warning", "deprecates", "systemd.unified_cgroup_hierarchy=1"),
        (dataclasses.replace(V1, unified_too=True), "cgroup version", "warning", "hybrid", "grub"),
        (
            dataclasses.replace(V2, missing=("memory",), board="Raspberry Pi 4 Model B Rev 1.4",
                                command_line="coherent_pool=1M cgroup_disable=memory"),
            "cgroup controllers", "error", "cgroup_disable=memory",
            "cgroup_enable=memory cgroup_memory=1/' /boot/firmware/cmdline.txt",
        ),
        (dataclasses.replace(V2, missing=("pids",)), "cgroup controllers", "error", "without pids",
         "cgroup_enable=pids"),
        (dataclasses.replace(V2, missing=("memory",)), "cgroup controllers", "error",
         "without memory", "Delegate=yes"),
        (dataclasses.replace(V1, missing=("blkio",)), "cgroup controllers", "error",
         "v1 without blkio", "mount -t cgroup -o blkio cgroup /sys/fs/cgroup/blkio"),
        (dataclasses.replace(V2, types=(("/", "domain"),)), "cgroup domains", "ok", "", ""),
        (dataclasses.replace(V2, types=(("/kubepods", "threaded"),)), "cgroup domains", "error",
         "/kubepods is `threaded`", "systemd-run"),
        (dataclasses.replace(V2, types=(("/", "domain invalid"),)), "cgroup domains", "error",
         "`domain invalid`", "systemd-run"),
        (dataclasses.replace(V2, partitions=(("/x", "root invalid (Cpu list empty)"),)),
         "cpuset partitions", "warning", "root invalid", "echo member"),
        (dataclasses.replace(V2, partitions=(("/x", "isolated"),)), "cpuset partitions", "ok", "",
         ""),
        (dataclasses.replace(V2, writable=False), "cgroups writable", "error", "read-only",
         "--privileged"),
        (cgroups.Facts(0, problem="nothing is mounted", remedy="mount it"), "cgroup version",
         "error", "nothing", "mount it"),
    ],
)  # fmt: skip
def test_cgroups(facts: cgroups.Facts, name: str, verdict: str, found: str, remedy: str) -> None:
    one = named(cgroups.judge(facts), name)
    assert one.verdict == verdict
    assert found in one.found
    assert remedy in one.remedy
    assert bool(one.remedy) == (verdict != "ok")


@pytest.mark.parametrize(
    ("mountinfo", "expected"),
    [
        ("30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate", True),
        ("30 23 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw,nsdelegate", False),
        ("31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup ro,cpu", False),
        ("22 1 8:1 / / ro - ext4 /dev/sda1 ro", True),
        ("", True),
    ],
)
def test_writable_cgroups(mountinfo: str, expected: bool) -> None:
    assert cgroups.writable(mountinfo) is expected


@pytest.mark.parametrize("look", [machine.look, kernel.look, cgroups.look, limits.look])
def test_this_machine_can_be_looked_at(look: Callable[[Purpose], list[Finding]]) -> None:
    assert all(finding.verdict in ("ok", "warning", "error") for finding in look(NODE))
