"""Pods by both cgroup drivers on cgroup v2, their limits read back from the kernel's files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import grpc
import pytest

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import CALL_SECONDS, SLEEP, Node, refused, wait_until

pytestmark = pytest.mark.root

MIB = 1 << 20
ROOT = Path("/sys/fs/cgroup")
LIMITS = {
    "cpu_shares": 512,
    "cpu_quota": 12_345,
    "cpu_period": 50_000,
    "cpuset_cpus": "0",
    "memory_limit_in_bytes": 64 * MIB,
    "memory_swap_limit_in_bytes": 80 * MIB,
    "hugepage_limits": [cri.HugepageLimit(page_size="2MB", limit=4 * MIB)],
    "unified": {"memory.high": str(60 * MIB), "memory.oom.group": "1"},
}
FILES = {
    "cpu.weight": "59",
    "cpu.max": "12345 50000",
    "cpuset.cpus": "0",
    "memory.max": str(64 * MIB),
    "memory.swap.max": str(16 * MIB),
    "memory.high": str(60 * MIB),
    "memory.oom.group": "1",
    "hugetlb.2MB.max": str(4 * MIB),
}


def files_of(driver: str) -> dict[str, str]:
    """Return what the files have; systemd keeps a quota in whole percents of a CPU."""
    return FILES | ({"cpu.max": "12500 50000"} if driver == "systemd" else {})


def cgroup_of(node: Node, container: str) -> Path:
    """Return the directory of a container's cgroup, as the runtime tells it."""
    request = cri.ContainerStatusRequest(container_id=container, verbose=True)
    info = node.runtime.ContainerStatus(request, timeout=CALL_SECONDS).info
    path: str = json.loads(info["info"])["cgroup"]
    return ROOT / path.lstrip("/")


def read(directory: Path, names: list[str]) -> dict[str, str]:
    return {name: (directory / name).read_text().strip() for name in names}


def update(node: Node, container: str, **limits: object) -> None:
    resources = cri.LinuxContainerResources(**limits)  # type: ignore[arg-type]
    request = cri.UpdateContainerResourcesRequest(container_id=container, linux=resources)
    node.runtime.UpdateContainerResources(request, timeout=CALL_SECONDS)


def test_the_driver_is_told(node: Node, driver: str) -> None:
    answer = node.runtime.RuntimeConfig(cri.RuntimeConfigRequest(), timeout=CALL_SECONDS)
    assert cri.CgroupDriver.Name(answer.linux.cgroup_driver) == driver.upper()


def test_a_parent_of_the_other_driver_is_refused(node: Node, driver: str) -> None:
    parent = {"cgroupfs": "/kubepods.slice", "systemd": "/kubepods/pod1"}[driver]
    error = refused(lambda: node.run_pod(cgroup_parent=parent))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "slice" in (error.details() or "")


def test_limits_are_set_and_changed_in_place(node: Node, driver: str) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, resources=LIMITS)
        directory = cgroup_of(node, container)
        assert (directory.suffix == ".scope") == (driver == "systemd")
        assert read(directory, list(FILES)) == files_of(driver)
        # What is executed later is limited too, and sees its cgroup as the root.
        assert re.fullmatch(r"0::/(exec-\d+)?", node.shell(container, "cat /proc/self/cgroup"))
        assert node.shell(container, "grep Cpus_allowed_list /proc/self/status").endswith("\t0")
        # Nothing but the container is in there.
        alive = (directory / "cgroup.procs").read_text().split()
        commands = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in alive}
        assert commands <= {"sh", "sleep"}
        update(node, container, memory_limit_in_bytes=96 * MIB, cpu_shares=2048, cpu_quota=40_000,
               cpuset_cpus="0-1", unified={"memory.high": "max"})  # fmt: skip
        changed = {
            "memory.max": str(96 * MIB),
            "memory.swap.max": str(16 * MIB),
            "memory.high": "max",
            "cpu.weight": "174",
            "cpu.max": "40000 50000",
            "cpuset.cpus": "0-1",
        }
        assert read(directory, list(FILES)) == {**files_of(driver), **changed}
    assert not directory.exists()
    assert not directory.parent.exists()


def test_devices_are_those_granted(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        script = "head -c 1 /dev/zero | wc -c; mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk"
        result = node.exec(container, "sh", "-c", script)
        assert result.stdout.strip() == b"1"
        assert result.exit_code != 0
        assert b"Operation not permitted" in result.stderr


def test_statistics_agree_with_the_files(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, "sh", "-c", "head -c 20000000 /dev/zero > /tmp/f; sleep 1000")
        directory = cgroup_of(node, container)
        request = cri.ContainerStatsRequest(container_id=container)
        stats = node.runtime.ContainerStats(request, timeout=CALL_SECONDS).stats
        usage = int((directory / "memory.current").read_text())
        assert abs(stats.memory.usage_bytes.value - usage) < 24 * MIB
        cpu = dict(line.split() for line in (directory / "cpu.stat").read_text().splitlines())
        used = stats.cpu.usage_core_nano_seconds.value
        assert 0 < used <= int(cpu["usage_usec"]) * 1000
        pod = node.runtime.PodSandboxStats(
            cri.PodSandboxStatsRequest(pod_sandbox_id=sandbox), timeout=CALL_SECONDS
        ).stats
        assert pod.linux.process.process_count.value >= 1


def test_an_oom_kill_is_told(node: Node) -> None:
    with node.pod() as sandbox:
        for attempt in range(3):
            status = node.run_to_end(
                sandbox, "awk", 'BEGIN { s = "xxxxxxxx"; while (1) s = s s }',
                resources={"memory_limit_in_bytes": 24 * MIB}, name=f"eater{attempt}",
            )  # fmt: skip
            assert (status.exit_code, status.reason) == (137, "OOMKilled")


def test_an_end_without_an_oom_kill_is_not_told_as_one(node: Node) -> None:
    with node.pod() as sandbox:
        status = node.run_to_end(sandbox, "false")
        assert (status.exit_code, status.reason) == (1, "Error")


def test_a_frozen_crowd_is_stopped(node: Node) -> None:
    with node.pod() as sandbox:
        crowd = "for i in 1 2 3 4 5; do sleep 1000 & done; setsid sleep 1000 & echo up; wait"
        container = node.run(sandbox, "sh", "-c", crowd)
        directory = cgroup_of(node, container)
        (directory / "cgroup.freeze").write_text("1")
        node.stop(container)
        assert node.status(container).state == cri.CONTAINER_EXITED
        node.remove(container)
        assert not directory.exists()


def test_a_killed_daemon_takes_its_pods_over(node: Node, driver: str) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, resources=LIMITS)
        directory = cgroup_of(node, container)
        node.restart()
        assert node.status(container).state == cri.CONTAINER_RUNNING
        # A runtime that starts has systemd write what it knows, before what it does not keep.
        wait_until(
            lambda: read(directory, list(FILES)) == files_of(driver), "the limits it was given", 5
        )
        update(node, container, cpu_shares=1024)
        assert (directory / "cpu.weight").read_text() == "100\n"
        assert node.shell(container, "echo here") == "here"
    assert not directory.exists()
