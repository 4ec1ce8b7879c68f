"""Limits changed in place: in the cgroup, for the process, and in what is told of them."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import CALL_SECONDS, SLEEP, Node, refused, wait_until
from tests.root.runtime.cri.test_stats import number

pytestmark = pytest.mark.root

MIB = 1 << 20


def update(node: Node, container: str, **fields: Any) -> None:
    request = cri.UpdateContainerResourcesRequest(
        container_id=container, linux=cri.LinuxContainerResources(**fields)
    )
    node.runtime.UpdateContainerResources(request, timeout=CALL_SECONDS)


def memory_limit(node: Node, path: str) -> int:
    return number(node, path, "memory", "memory.limit_in_bytes", "memory.max")


def test_limits_change_while_the_container_runs(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(
            sandbox, *SLEEP, resources={"memory_limit_in_bytes": 64 * MIB, "cpu_shares": 128}
        )
        pid = node.status(container).started_at
        path = node.place.container_cgroup(sandbox, container)
        update(node, container, memory_limit_in_bytes=128 * MIB, cpu_quota=30_000,
               cpu_period=100_000)  # fmt: skip
        assert memory_limit(node, path) == 128 * MIB
        assert number(node, path, "cpu", "cpu.cfs_quota_us", "cpu.max") == 30_000
        resources = node.status(container).resources.linux
        assert (resources.memory_limit_in_bytes, resources.cpu_shares, resources.cpu_quota) == (
            128 * MIB, 128, 30_000,
        )  # fmt: skip
        assert node.status(container).started_at == pid
        # And down again, which needs the other order on v1.
        update(node, container, memory_limit_in_bytes=32 * MIB)
        assert memory_limit(node, path) == 32 * MIB
        node.restart()
        assert node.status(container).resources.linux.memory_limit_in_bytes == 32 * MIB
        assert node.status(container).resources.linux.cpu_quota == 30_000


def test_a_process_feels_the_new_limit(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, resources={"memory_limit_in_bytes": 16 * MIB})
        grow = ("awk", 'BEGIN { s = sprintf("%40000000s", ""); print length(s) }')
        assert node.exec(container, *grow).exit_code == 137
        update(node, container, memory_limit_in_bytes=256 * MIB)
        result = node.exec(container, *grow)
        assert (result.exit_code, result.stdout.strip()) == (0, b"40000000")


def test_less_memory_than_is_used_is_refused_and_changes_nothing(node: Node) -> None:
    with node.pod() as sandbox:
        script = 'BEGIN { s = sprintf("%40000000s", ""); print "full"; fflush(); ' \
            'system("sleep 1000"); print s }'  # fmt: skip
        container = node.run(sandbox, "awk", script, resources={"memory_limit_in_bytes": 256 * MIB})
        path = node.place.container_cgroup(sandbox, container)
        wait_until(lambda: "full" in node.output(node.status(container)), "awk to be full", 20)
        error = refused(
            lambda: update(node, container, memory_limit_in_bytes=8 * MIB, cpu_quota=10_000)
        )
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert f"cannot limit memory to {8 * MIB} bytes" in (error.details() or "")
        assert memory_limit(node, path) == 256 * MIB
        assert number(node, path, "cpu", "cpu.cfs_quota_us", "cpu.max") != 10_000
        assert node.status(container).resources.linux.memory_limit_in_bytes == 256 * MIB


def test_what_the_kernel_refuses_half_way_is_undone(node: Node) -> None:
    # Files on tmpfs are charged to the container, but are no anonymous memory of a process.
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, resources={"memory_limit_in_bytes": 256 * MIB})
        path = node.place.container_cgroup(sandbox, container)
        if not node.cgroup_file(path, "memory", "memory.limit_in_bytes").exists():
            pytest.skip("v2 lets the OOM killer choose, so there is no refusal to undo")
        node.shell(container, "dd if=/dev/zero of=/dev/shm/big bs=1M count=40")
        quota = number(node, path, "cpu", "cpu.cfs_quota_us")
        error = refused(
            lambda: update(node, container, memory_limit_in_bytes=8 * MIB, cpu_quota=10_000)
        )
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert memory_limit(node, path) == 256 * MIB
        assert number(node, path, "cpu", "cpu.cfs_quota_us") == quota
        assert node.status(container).resources.linux.cpu_quota == 0


def test_a_created_container_starts_with_the_new_limits(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.create(sandbox, node.container_config(*SLEEP))
        update(node, container, memory_limit_in_bytes=48 * MIB, oom_score_adj=777)
        node.start(container)
        assert memory_limit(node, node.place.container_cgroup(sandbox, container)) == 48 * MIB
        assert node.shell(container, "cat /proc/1/oom_score_adj") == "777"
        update(node, container, oom_score_adj=888)
        assert node.shell(container, "cat /proc/1/oom_score_adj") == "888"


def test_what_cannot_be_updated_is_refused(node: Node) -> None:
    with node.pod() as sandbox:
        ended = node.run_to_end(sandbox, "true").id
        error = refused(lambda: update(node, ended, memory_limit_in_bytes=MIB))
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
        running = node.run(sandbox, *SLEEP, name="other")
        error = refused(lambda: update(node, running, cpu_shares=-5))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        windows = cri.UpdateContainerResourcesRequest(
            container_id=running, windows=cri.WindowsContainerResources(cpu_count=1)
        )
        error = refused(lambda: node.runtime.UpdateContainerResources(windows))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        error = refused(lambda: update(node, running, cpuset_cpus="none"))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        error = refused(lambda: update(node, running, oom_score_adj=2000))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_limits_of_a_pod_are_recorded_and_set_on_our_own_cgroup(node: Node) -> None:
    with node.pod() as sandbox:
        request = cri.UpdatePodSandboxResourcesRequest(
            pod_sandbox_id=sandbox,
            resources=cri.LinuxContainerResources(memory_limit_in_bytes=200 * MIB),
            overhead=cri.LinuxContainerResources(memory_limit_in_bytes=5 * MIB),
        )
        node.runtime.UpdatePodSandboxResources(request, timeout=CALL_SECONDS)
        assert memory_limit(node, node.place.pod_cgroup(sandbox)) == 200 * MIB
        node.restart()
        status = node.runtime.PodSandboxStatus(
            cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox, verbose=True), timeout=CALL_SECONDS
        )
        info = json.loads(status.info["info"])
        assert info["resources"]["memoryLimitInBytes"] == str(200 * MIB)
        assert info["overhead"]["memoryLimitInBytes"] == str(5 * MIB)


def test_a_pod_begins_with_the_limits_of_its_request(node: Node) -> None:
    config = node.pod_config()
    config.linux.resources.memory_limit_in_bytes = 100 * MIB
    config.linux.overhead.memory_limit_in_bytes = 3 * MIB
    sandbox = node.run_pod(config)
    try:
        assert memory_limit(node, node.place.pod_cgroup(sandbox)) == 100 * MIB
        status = node.runtime.PodSandboxStatus(
            cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox, verbose=True), timeout=CALL_SECONDS
        )
        info = json.loads(status.info["info"])
        assert info["resources"]["memoryLimitInBytes"] == str(100 * MIB)
        assert info["overhead"]["memoryLimitInBytes"] == str(3 * MIB)
    finally:
        node.remove_pod(sandbox)
    config.linux.overhead.memory_limit_in_bytes = -7
    error = refused(lambda: node.run_pod(config))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_the_pod_cidr_is_recorded(node: Node) -> None:
    def tell(cidr: str) -> None:
        config = cri.RuntimeConfig(network_config=cri.NetworkConfig(pod_cidr=cidr))
        request = cri.UpdateRuntimeConfigRequest(runtime_config=config)
        node.runtime.UpdateRuntimeConfig(request, timeout=CALL_SECONDS)

    tell("10.200.0.0/24,fd00:200::/64")
    tell("")
    error = refused(lambda: tell("10.200.0.0/240"))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    node.restart()
    status = node.runtime.Status(cri.StatusRequest(verbose=True), timeout=CALL_SECONDS)
    assert json.loads(status.info["config"])["podCIDR"] == "10.200.0.0/24,fd00:200::/64"
