"""CPU and memory from their sources, and rates."""

from __future__ import annotations

from kubeletpy.stats import pods
from kubeletpy.stats.usage import Rates, Usage, of_container
from kubeletpy_proto import cri_pb2 as cri


def value(number: int) -> cri.UInt64Value:
    return cri.UInt64Value(value=number)


def container(name: str, pod: str = "u1") -> cri.ContainerStats:
    return cri.ContainerStats(
        attributes=cri.ContainerAttributes(
            id=f"id-{name}",
            labels={
                "io.kubernetes.container.name": name,
                "io.kubernetes.pod.uid": pod,
                "io.kubernetes.pod.name": "web",
                "io.kubernetes.pod.namespace": "default",
            },
        ),
        cpu=cri.CpuUsage(timestamp=5, usage_core_nano_seconds=value(7)),
        memory=cri.MemoryUsage(timestamp=5, working_set_bytes=value(0)),
        writable_layer=cri.FilesystemUsage(
            fs_id=cri.FilesystemIdentifier(mountpoint="/m"), used_bytes=value(9)
        ),
    )


def test_what_a_runtime_does_not_know_is_none() -> None:
    assert of_container(container("c")) == Usage(time_ns=5, cpu_ns=7, working_set=0)


def test_rates() -> None:
    rates, second = Rates(), 1_000_000_000
    assert rates.add("a", Usage(time_ns=0, cpu_ns=10)).rate is None
    assert rates.add("a", Usage(time_ns=2 * second, cpu_ns=10 + second)).rate == second // 2
    # Too near to the one before to say anything: that one holds.
    near = Usage(time_ns=2 * second + 1, cpu_ns=10 + 2 * second)
    assert rates.add("a", near).rate == second // 2
    # Started anew: it has used less than before.
    assert rates.add("a", Usage(time_ns=4 * second, cpu_ns=0)).rate is None
    assert rates.add("a", Usage(time_ns=5 * second, cpu_ns=5)).rate == 5
    assert rates.add("b", Usage(time_ns=1, cpu_ns=1, rate=3)).rate == 3
    assert rates.add("b", Usage(time_ns=1)).rate is None


def test_few_things_are_remembered() -> None:
    rates = Rates(capacity=1)
    rates.add("a", Usage(time_ns=0, cpu_ns=0))
    rates.add("b", Usage(time_ns=0, cpu_ns=0))
    assert rates.add("a", Usage(time_ns=10**9, cpu_ns=1)).rate is None


def test_pods_of_containers() -> None:
    stranger = cri.ContainerStats(attributes=cri.ContainerAttributes(id="x"))
    found = pods.of_containers([container("a"), container("b"), container("c", "u2"), stranger])
    assert [(pod.uid, [one.name for one in pod.containers]) for pod in found] == [
        ("u1", ["a", "b"]),
        ("u2", ["c"]),
    ]
    assert (found[0].containers[0].layer, found[0].containers[0].mountpoint) == (9, "/m")


def test_pods_of_sandboxes() -> None:
    attributes = cri.PodSandboxAttributes(
        id="s1", metadata=cri.PodSandboxMetadata(name="web", namespace="default", uid="u1")
    )
    network = cri.NetworkUsage(
        default_interface=cri.NetworkInterfaceUsage(name="eth0", rx_bytes=value(3)),
        interfaces=[cri.NetworkInterfaceUsage(name="eth1")],
    )
    linux = cri.LinuxPodSandboxStats(
        cpu=cri.CpuUsage(timestamp=1, usage_core_nano_seconds=value(2)),
        containers=[container("a")],
        network=network,
        process=cri.ProcessUsage(process_count=value(4)),
    )
    old = cri.PodSandboxStats(attributes=attributes)
    found = pods.of_sandboxes([cri.PodSandboxStats(attributes=attributes, linux=linux), old])
    assert len(found) == 1
    assert (found[0].sandbox, found[0].processes, found[0].usage.cpu_ns) == ("s1", 4, 2)
    assert [(one.name, one.rx_bytes) for one in found[0].interfaces] == [("eth0", 3), ("eth1", 0)]
