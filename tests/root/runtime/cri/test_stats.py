"""Statistics and metrics against the kernel's files, and the lists as streams."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import grpc
import pytest

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.network_usage import Networked, network_usage
from tests.root.runtime.cri.node import CALL_SECONDS, SLEEP, Node, refused, wait_until

pytestmark = pytest.mark.root

MIB = 1 << 20
BUSY = ("sh", "-c", "while :; do :; done")


def stats_of(node: Node, container: str) -> cri.ContainerStats:
    request = cri.ContainerStatsRequest(container_id=container)
    return node.runtime.ContainerStats(request, timeout=CALL_SECONDS).stats


def pod_stats_of(node: Node, sandbox: str) -> cri.PodSandboxStats:
    request = cri.PodSandboxStatsRequest(pod_sandbox_id=sandbox)
    return node.runtime.PodSandboxStats(request, timeout=CALL_SECONDS).stats


def number(node: Node, path: str, controller: str, *names: str) -> int:
    """Read a control file of v1, or else the one of v2."""
    for name in names:
        file = node.cgroup_file(path, controller, name)
        if file.exists():
            word = file.read_text().split()[0]
            return -1 if word == "max" else int(word)  # as v1 says it
    raise AssertionError(f"none of {names} in {path}")


def cpu_time(node: Node, path: str) -> int:
    """Return the CPU time that a cgroup has used, in nanoseconds."""
    file = node.cgroup_file(path, "cpuacct", "cpuacct.usage")
    if file.exists():
        return int(file.read_text())
    stat = node.cgroup_file(path, "cpu", "cpu.stat").read_text()
    return int(dict(line.split() for line in stat.splitlines())["usage_usec"]) * 1000


def test_cpu_and_memory_agree_with_the_cgroup_files(node: Node) -> None:
    with node.pod() as sandbox:
        resources = {"memory_limit_in_bytes": 64 * MIB, "cpu_quota": 20_000, "cpu_period": 100_000}
        container = node.run(sandbox, *BUSY, resources=resources)
        path = node.place.container_cgroup(sandbox, container)
        low = cpu_time(node, path)
        stats = stats_of(node, container)
        high = cpu_time(node, path)
        assert low <= stats.cpu.usage_core_nano_seconds.value <= high
        assert stats.cpu.timestamp > node.status(container).started_at
        assert not stats.cpu.HasField("usage_nano_cores")
        memory = stats.memory
        usage = number(node, path, "memory", "memory.usage_in_bytes", "memory.current")
        assert abs(memory.usage_bytes.value - usage) < 2 * MIB
        assert 0 < memory.rss_bytes.value <= memory.usage_bytes.value
        assert memory.available_bytes.value == 64 * MIB - memory.working_set_bytes.value
        assert memory.page_faults.value > 0
        assert stats.attributes.metadata.name == "main"

        rates: list[int] = []

        def measured() -> bool:
            usage = stats_of(node, container).cpu
            if usage.HasField("usage_nano_cores"):
                rates.append(usage.usage_nano_cores.value)
            return bool(rates)

        wait_until(measured, "a second reading", 10)
        # A fifth of a core is what the quota leaves it; the machine may leave it less.
        assert 10_000_000 < rates[0] < 300_000_000


def test_a_rate_does_not_depend_on_how_many_ask(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        stats_of(node, container)
        first = stats_of(node, container)
        assert not first.cpu.HasField("usage_nano_cores")


def test_the_writable_layer_agrees_with_du(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, "sh", "-c", f"dd if=/dev/zero of=/big bs=64k count=48;"
                             f"mkdir /d; touch /d/a /d/b; touch /ready; {SLEEP[2]}")  # fmt: skip
        wait_until(lambda: node.exec(container, "test", "-e", "/ready").exit_code == 0, "dd", 20)
        layer = stats_of(node, container).writable_layer
        upper = [
            entry / "fs" for entry in (node.place.root / "snapshots").iterdir()
            if (entry / "fs" / "ready").exists()
        ]  # fmt: skip
        assert len(upper) == 1
        du = subprocess.run(["du", "-s", "-B1", upper[0]], capture_output=True, check=True)
        inodes = subprocess.run(["du", "-s", "--inodes", upper[0]], capture_output=True, check=True)
        assert layer.used_bytes.value == int(du.stdout.split()[0])
        assert layer.inodes_used.value == int(inodes.stdout.split()[0])
        assert layer.used_bytes.value >= 3 * MIB
        assert layer.fs_id.mountpoint == str(node.place.root)


def test_a_pod_counts_all_its_containers_and_its_network(node: Node) -> None:
    with node.pod(labels={"app": "pair"}) as sandbox:
        one = node.run(sandbox, *SLEEP, name="one")
        two = node.run(sandbox, *SLEEP, name="two")
        gateway = node.shell(one, "ip route | sed -n 's/default via \\([^ ]*\\) .*/\\1/p'")
        node.shell(one, f"ping -c 3 -i 0.1 -s 1000 {gateway}")
        stats = pod_stats_of(node, sandbox)
        assert {c.attributes.id for c in stats.linux.containers} == {one, two}
        path = node.place.pod_cgroup(sandbox)
        assert stats.linux.cpu.usage_core_nano_seconds.value <= cpu_time(node, path)
        together = sum(c.memory.rss_bytes.value for c in stats.linux.containers)
        assert stats.linux.memory.rss_bytes.value >= together * 0.9
        # Each is a shell and the sleep that it waits for.
        assert stats.linux.process.process_count.value == 4
        eth0 = stats.linux.network.default_interface
        assert eth0.name == "eth0"
        inside = node.shell(one, "cat /sys/class/net/eth0/statistics/tx_bytes")
        assert 3000 < eth0.tx_bytes.value <= int(inside)
        assert int(inside) - eth0.tx_bytes.value < 2000
        received = node.shell(one, "cat /sys/class/net/eth0/statistics/rx_bytes")
        assert 3000 < eth0.rx_bytes.value <= int(received)
        listed = node.runtime.ListPodSandboxStats(
            cri.ListPodSandboxStatsRequest(
                filter=cri.PodSandboxStatsFilter(label_selector={"app": "pair"})
            ),
            timeout=CALL_SECONDS,
        )
        assert [item.attributes.id for item in listed.stats] == [sandbox]


def test_a_pod_that_is_on_no_bridge_of_ours_is_read_through_its_process(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        pod = node.runtime.PodSandboxStatus(
            cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox, verbose=True), timeout=CALL_SECONDS
        )
        namespace = json.loads(pod.info["info"])["namespaces"]["network"]
        status = node.runtime.ContainerStatus(
            cri.ContainerStatusRequest(container_id=container, verbose=True), timeout=CALL_SECONDS
        )
        pid = json.loads(status.info["info"])["pid"]
        target = Networked(sandbox, namespace, pid)
        [eth0] = network_usage("elsewhere", [target])[sandbox]
        received = int(node.shell(container, "cat /sys/class/net/eth0/statistics/rx_bytes"))
        assert eth0.name == "eth0"
        assert 0 < eth0.rx_bytes <= received
        # A process of another network namespace, as after the reuse of a number.
        assert network_usage("elsewhere", [replace(target, pid=node.daemon.pid)]) == {}
        assert network_usage("elsewhere", [replace(target, pid=0)]) == {}


def test_a_pod_in_the_hosts_network_has_no_interfaces_of_its_own(node: Node) -> None:
    options = cri.NamespaceOption(pid=cri.CONTAINER, network=cri.NODE)
    with node.pod(namespaces=options) as sandbox:
        stats = pod_stats_of(node, sandbox)
        assert stats.linux.HasField("cpu")
        assert not stats.linux.HasField("network")


def test_lists_show_what_runs_and_single_calls_what_exists(node: Node) -> None:
    with node.pod() as sandbox:
        running = node.run(sandbox, *SLEEP, name="running", labels={"k": "v"})
        ended = node.run_to_end(sandbox, "true", name="ended").id
        request = cri.ListContainerStatsRequest(
            filter=cri.ContainerStatsFilter(pod_sandbox_id=sandbox)
        )
        listed = node.runtime.ListContainerStats(request, timeout=CALL_SECONDS).stats
        assert [item.attributes.id for item in listed] == [running]
        stats = stats_of(node, ended)
        assert stats.attributes.id == ended
        assert not stats.HasField("cpu")
        assert stats.HasField("writable_layer")
    error = refused(lambda: stats_of(node, running))
    assert error.code() == grpc.StatusCode.NOT_FOUND


def flat(stream: Iterable[Any], field: str) -> list[Any]:
    return [item for message in stream for item in getattr(message, field)]


def test_streamed_lists_are_the_lists(node: Node) -> None:
    labels = {f"label{n}": "x" * 4000 for n in range(80)}
    with node.pod(labels=labels) as sandbox, node.pod() as other:
        for name in "abcd":
            node.run(sandbox, *SLEEP, name=name, labels=labels)
        runtime = node.runtime
        kept: dict[str, Any] = {"timeout": CALL_SECONDS}
        of_pod = cri.ContainerFilter(pod_sandbox_id=sandbox)
        chunks = list(runtime.StreamContainers(cri.StreamContainersRequest(filter=of_pod), **kept))
        assert len(chunks) > 1
        listed = runtime.ListContainers(cri.ListContainersRequest(filter=of_pod), **kept)
        assert flat(chunks, "containers") == list(listed.containers)
        pods = flat(runtime.StreamPodSandboxes(cri.StreamPodSandboxesRequest(), **kept),
                    "pod_sandboxes")  # fmt: skip
        assert {pod.id for pod in pods} == {sandbox, other}
        images = flat(node.images.StreamImages(cri.StreamImagesRequest(), **kept), "images")
        assert images == list(node.images.ListImages(cri.ListImagesRequest(), **kept).images)
        stats = flat(runtime.StreamContainerStats(cri.StreamContainerStatsRequest(
            filter=cri.ContainerStatsFilter(pod_sandbox_id=sandbox)), **kept),
            "container_stats")  # fmt: skip
        assert sorted(item.attributes.metadata.name for item in stats) == list("abcd")
        of_pods = flat(runtime.StreamPodSandboxStats(cri.StreamPodSandboxStatsRequest(), **kept),
                       "pod_sandbox_stats")  # fmt: skip
        assert {item.attributes.id for item in of_pods} == {sandbox, other}
        nothing = cri.ContainerFilter(id="f" * 64)
        assert not list(
            runtime.StreamContainers(cri.StreamContainersRequest(filter=nothing), **kept)
        )


def test_metrics_have_the_labels_that_their_descriptors_promise(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *BUSY, resources={"memory_limit_in_bytes": 64 * MIB})
        descriptors = node.runtime.ListMetricDescriptors(
            cri.ListMetricDescriptorsRequest(), timeout=CALL_SECONDS
        ).descriptors
        keys = {descriptor.name: list(descriptor.label_keys) for descriptor in descriptors}
        assert all(descriptor.help for descriptor in descriptors)
        path = node.place.container_cgroup(sandbox, container)
        wait_until(
            lambda: cpu_time(node, path) > 1_000_000_000,
            "a second of CPU time", 30,
        )  # fmt: skip
        [metrics] = flat(
            node.runtime.StreamPodSandboxMetrics(
                cri.StreamPodSandboxMetricsRequest(), timeout=CALL_SECONDS
            ),
            "pod_sandbox_metrics",
        )
        assert metrics.pod_sandbox_id == sandbox
        [of_container] = metrics.container_metrics
        found: dict[str, int] = {}
        for metric in (*metrics.metrics, *of_container.metrics):
            labels = dict(zip(keys[metric.name], metric.label_values, strict=True))
            assert labels["namespace"] == "tests"
            assert labels["container"] in ("main", "POD")
            found[metric.name] = metric.value.value
        optional = {name for name in keys if "hugetlb" in name or "blkio" in name}
        assert keys.keys() - optional <= found.keys()
        assert found["container_cpu_usage_seconds_total"] >= 1
        assert found["container_spec_memory_limit_bytes"] == 64 * MIB
        assert found["container_processes"] == 1
        assert 0 < found["container_memory_working_set_bytes"] < 64 * MIB
        assert found["container_network_receive_bytes_total"] > 0
        listed = node.runtime.ListPodSandboxMetrics(
            cri.ListPodSandboxMetricsRequest(), timeout=CALL_SECONDS
        )
        assert [item.pod_sandbox_id for item in listed.pod_metrics] == [sandbox]


def test_the_image_file_system_agrees_with_du(node: Node) -> None:
    answer = node.images.ImageFsInfo(cri.ImageFsInfoRequest(), timeout=CALL_SECONDS)
    [usage] = answer.image_filesystems
    assert usage.fs_id.mountpoint == str(node.place.root)
    directories = [node.place.root / "content", node.place.root / "snapshots"]
    done = subprocess.run(["du", "-s", "-B1", *directories], capture_output=True, check=True)
    on_disk = sum(int(line.split()[0]) for line in done.stdout.splitlines())
    # Directories of the store itself, and the rest of each blob's last block, are not counted.
    assert usage.used_bytes.value == pytest.approx(on_disk, rel=0.03)
    assert usage.used_bytes.value <= on_disk


def test_the_containers_part_of_the_file_system_is_their_writable_layers(node: Node) -> None:
    def ask() -> cri.FilesystemUsage:
        request = cri.ImageFsInfoRequest()
        answer = node.images.ImageFsInfo(request, timeout=CALL_SECONDS)
        [usage] = answer.container_filesystems
        assert usage.fs_id == answer.image_filesystems[0].fs_id
        return usage

    assert ask().used_bytes.value == 0
    with node.pod() as sandbox:
        # Its layer is measured at the first call, when the file is there.
        status = node.run_to_end(sandbox, "dd", "if=/dev/zero", "of=/file", "bs=1M", "count=3")
        assert status.exit_code == 0
        usage = ask()
        assert 3 * MIB <= usage.used_bytes.value < 4 * MIB
        assert usage.inodes_used.value >= 1
        assert usage.timestamp <= time.time_ns()
