"""Limits that the kernel enforces, and how their effect is reported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kubeletpy_common.cgroups import Cgroup, LinuxResources, detect
from kubeletpy_common.cgroups.systemd.names import child_slice
from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import SLEEP, Node, wait_until

pytestmark = pytest.mark.root

MIB = 1 << 20


@contextmanager
def pod_cgroup(node: Node, resources: LinuxResources) -> Iterator[Cgroup]:
    """A cgroup as a kubelet makes one for a pod, removed behind the block."""
    hierarchy, name = node.place.hierarchy(), f"kt{node.place.token}k"
    top = node.place.cgroup_of(name)
    cgroup = hierarchy.cgroup(
        child_slice(top, "pod1") if node.place.driver == "systemd" else f"{top}/pod1"
    )
    cgroup.create()
    try:
        cgroup.apply(resources)
        yield cgroup
    finally:
        cgroup.remove()
        hierarchy.cgroup(top).remove()


def test_memory_beyond_the_limit_is_oomkilled(node: Node) -> None:
    with node.pod() as sandbox:
        status = node.run_to_end(
            sandbox,
            # A string that doubles until it does not fit.
            "awk", 'BEGIN { s = "xxxxxxxx"; while (1) s = s s }',
            resources={"memory_limit_in_bytes": 32 * MIB},
        )  # fmt: skip
        assert (status.exit_code, status.reason) == (137, "OOMKilled")
        assert status.resources.linux.memory_limit_in_bytes == 32 * MIB


def test_a_pod_with_little_memory_loses_its_container_not_its_shim(node: Node) -> None:
    limit = LinuxResources(memory_limit=32 * MIB, memory_swap=32 * MIB)
    with (
        pod_cgroup(node, limit) as cgroup,
        node.pod(cgroup_parent=cgroup.path) as sandbox,
    ):
        status = node.run_to_end(sandbox, "awk", 'BEGIN { s = "xxxxxxxx"; while (1) s = s s }')
        assert status.exit_code == 137
        assert node.pod_status(sandbox).state == cri.SANDBOX_READY
        assert node.run_to_end(sandbox, "true", name="next").exit_code == 0


def test_a_cpu_quota_throttles(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(
            sandbox,
            "sh", "-c", "while :; do :; done",
            resources={"cpu_quota": 10_000, "cpu_period": 100_000, "cpu_shares": 64},
        )  # fmt: skip
        path = node.place.container_cgroup(sandbox, container)
        stat = node.cgroup_file(path, "cpu", "cpu.stat")

        def throttled() -> bool:
            values = dict(line.split() for line in stat.read_text().splitlines())
            return int(values["nr_throttled"]) > 0

        wait_until(throttled, "the kernel to hold the container back", 10)
        shares = node.cgroup_file(path, "cpu", "cpu.shares")
        if shares.exists():
            assert shares.read_text().strip() == "64"


def test_a_container_stays_on_its_processors(node: Node) -> None:
    with node.pod() as sandbox:
        limits = {"cpuset_cpus": "0", "cpuset_mems": "0"}
        container = node.run(sandbox, *SLEEP, resources=limits)
        lines = node.shell(container, "grep _allowed_list /proc/self/status").splitlines()
        assert [line.split()[1] for line in lines] == ["0", "0"]


def test_a_pids_limit_stops_a_fork_bomb(node: Node) -> None:
    with (
        pod_cgroup(node, LinuxResources(pids_limit=20)) as cgroup,
        node.pod(cgroup_parent=cgroup.path) as sandbox,
    ):
        container = node.run(sandbox, *SLEEP)
        script = "n=0; while sleep 100 & do n=$((n+1)); [ $n -gt 50 ] && exit 0; done; exit 9"
        result = node.exec(container, "sh", "-c", script)
        assert result.exit_code != 0
        assert b"fork" in result.stderr
        pids = cgroup.stats().pids
        assert pids is not None
        assert pids.current <= 20


def test_what_a_container_leaves_behind_ends_with_it(node: Node) -> None:
    # In a shared PID namespace nothing but the cgroup tells whose a process is.
    shared = cri.NamespaceOption(pid=cri.POD)
    with node.pod(namespaces=shared) as sandbox:
        security = {"namespace_options": shared}
        watcher = node.run(sandbox, *SLEEP, name="watcher", security=security)
        ended = node.run_to_end(
            sandbox, "sh", "-c", "sleep 4321 & exit 0", name="short", security=security
        )
        node.stop(ended.id)
        assert node.shell(watcher, "ps | grep -c '[s]leep 4321' || true") == "0"


def test_the_containers_cgroup_is_below_the_pods_and_gone_with_it(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        cgroup = detect().cgroup(node.place.container_cgroup(sandbox, container))
        assert len(cgroup.processes()) >= 1
        node.wait_heeding(container)
        node.stop(container, timeout=10)
        assert not cgroup.exists()


def test_devices_are_denied_unless_asked_for(node: Node) -> None:
    # None of the defaults; what opens it for reading needs no capability, and does no harm.
    path = next(path for path in ("/dev/net/tun", "/dev/cpu_dma_latency") if os.path.exists(path))
    number = os.stat(path).st_rdev
    with node.pod() as sandbox:
        denied = node.run(sandbox, *SLEEP, name="denied")
        script = f"mknod /tmp/it c {os.major(number)} {os.minor(number)} && : < /tmp/it"
        assert b"Operation not permitted" in node.exec(denied, "sh", "-c", script).stderr
        device = cri.Device(host_path=path, container_path="/dev/it", permissions="r")
        allowed = node.run(sandbox, *SLEEP, name="allowed", devices=[device])
        assert node.shell(allowed, ": < /dev/it && echo opened") == "opened"
        assert b"not permitted" in node.exec(allowed, "sh", "-c", ": > /dev/it").stderr
