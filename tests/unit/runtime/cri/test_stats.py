"""Rates, sizes, messages and metrics from plain data."""

from __future__ import annotations

import asyncio
import threading

import pytest

from kubeletpy_common.cgroups import CgroupStats, CpuStats, MemoryStats, PidsStats, Pressure
from kubeletpy_common.cgroups.details import BlockIo, CgroupDetails
from kubeletpy_common.cgroups.stats import PressureStats
from kubeletpy_proto import cri_pb2 as cri
from runtime.cri import metric_samples, stats_messages, stats_sampling
from runtime.cri.chunks import by_count, by_size
from runtime.cri.metric_samples import DeviceNames, Disk, Reading, Sample
from runtime.cri.metric_table import BASE_LABELS, METRICS
from runtime.cri.network_usage import mirrored, parse_net_dev
from runtime.cri.process_facts import ProcessFacts
from runtime.cri.stats_sampling import CpuRates, LayerSizes

SECOND = 1_000_000_000
PRESSURE = PressureStats(Pressure(1.5, 2.0, 3.0, 7 * SECOND), Pressure(0.5, 0, 0, 2 * SECOND))
STATS = CgroupStats(
    time_ns=100 * SECOND,
    cpu=CpuStats(5 * SECOND, 3 * SECOND, 2 * SECOND, 10, 4, 1 * SECOND),
    memory=MemoryStats(
        usage=1000, working_set=900, rss=500, page_faults=11, major_page_faults=2,
        limit=2000, available=1100, swap=30, swap_limit=100,
    ),
    pids=PidsStats(6, None),
    pressure={"cpu": PRESSURE, "memory": PRESSURE, "io": PRESSURE},
)  # fmt: skip
NOTHING = CgroupStats(time_ns=1)


def test_a_rate_is_of_the_window_between_two_readings() -> None:
    rates = CpuRates()
    assert rates.rate("a", 0, 0) is None
    # Too close to say anything: the window stays open.
    assert rates.rate("a", SECOND // 10, SECOND // 10) is None
    assert rates.rate("a", 2 * SECOND, SECOND) == SECOND // 2
    # The next one asks at once, and gets the same.
    assert rates.rate("a", 2 * SECOND + 1, SECOND + 1) == SECOND // 2
    assert rates.rate("a", 4 * SECOND, 5 * SECOND) == 2 * SECOND
    assert rates.rate("b", 4 * SECOND, 0) is None


def test_a_counter_that_begins_again_has_no_rate() -> None:
    rates = CpuRates()
    rates.rate("a", 0, 100)
    assert rates.rate("a", SECOND, 50) is None
    rates.keep([])
    assert rates.rate("a", 2 * SECOND, 60) is None


async def test_a_layer_is_measured_when_its_size_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def measure(key: str) -> tuple[int, int] | None:
        calls.append(key)
        if key == "broken":
            raise OSError("disk")
        return None if key == "none" else (100 * len(calls), 1)

    sizes = LayerSizes(measure)
    found = await sizes.sizes(["a", "none", "broken"])
    assert (found["a"].bytes, found["a"].inodes) == (100, 1)
    assert found.keys() == {"a"}
    assert (await sizes.sizes(["a"]))["a"].bytes == 100
    assert calls.count("a") == 1
    monkeypatch.setattr(stats_sampling, "LAYER_FRESH_SECONDS", 0.0)
    monkeypatch.setattr(stats_sampling, "_SHARE_OF_TIME", 0)
    assert (await sizes.sizes(["a"]))["a"].bytes > 100
    sizes.keep([])
    assert (await sizes.sizes(["b"])).keys() == {"b"}


async def test_a_walk_that_takes_long_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats_sampling, "_LAYER_WAIT_SECONDS", 0.01)
    go = threading.Event()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def measure(key: str) -> tuple[int, int]:
        go.wait(10)
        loop.call_soon_threadsafe(ended.set)
        return 5, 1

    sizes = LayerSizes(measure)
    assert await sizes.sizes(["a"]) == {}
    go.set()
    await ended.wait()
    monkeypatch.setattr(stats_sampling, "_LAYER_WAIT_SECONDS", 10)
    assert (await sizes.sizes(["a"]))["a"].bytes == 5


def test_messages_have_what_was_read() -> None:
    cpu = stats_messages.cpu_usage(STATS, 250)
    assert cpu is not None
    assert (cpu.usage_core_nano_seconds.value, cpu.usage_nano_cores.value) == (5 * SECOND, 250)
    assert (cpu.psi.Some.Total, cpu.psi.Full.Avg10) == (7 * SECOND, 0.5)
    memory = stats_messages.memory_usage(STATS)
    assert memory is not None
    assert (memory.available_bytes.value, memory.rss_bytes.value) == (1100, 500)
    swap = stats_messages.swap_usage(STATS)
    assert swap is not None
    assert (swap.swap_usage_bytes.value, swap.swap_available_bytes.value) == (30, 70)
    io = stats_messages.io_usage(STATS)
    assert io is not None
    assert io.psi.Some.Avg60 == 2.0


def test_what_the_kernel_does_not_keep_is_absent() -> None:
    assert stats_messages.cpu_usage(NOTHING, None) is None
    assert stats_messages.memory_usage(NOTHING) is None
    assert stats_messages.swap_usage(NOTHING) is None
    assert stats_messages.io_usage(NOTHING) is None
    assert stats_messages.layer_usage(None, "/x") is None
    assert stats_messages.network_message(1, []) is None


def test_network_counters_change_sides() -> None:
    usage = mirrored({"tx_bytes": 10, "rx_bytes": 20, "tx_dropped": 1, "rx_errors": 2})
    assert (usage.name, usage.rx_bytes, usage.tx_bytes) == ("eth0", 10, 20)
    assert (usage.rx_dropped, usage.tx_errors) == (1, 2)


def test_net_dev_is_read_with_a_bound() -> None:
    numbers = "1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0"
    head = "Inter-|   Receive\n face |bytes\n"
    lines = "".join(f"net{n:03}: {numbers}\n" for n in range(100))
    found = parse_net_dev(f"{head}    lo: {numbers}\n{lines}  eth0: {numbers}\n  odd: 1 2\n")
    assert found[0].name == "eth0"
    assert len(found) == 32
    assert (found[0].rx_dropped, found[0].tx_bytes, found[0].tx_dropped) == (4, 5, 8)


def all_samples(reading: Reading) -> list[Sample]:
    disk = Disk("/dev/vda", 1000, 50, 20)
    facts = ProcessFacts(2, 9, 1, 1024)
    usage = mirrored({"tx_bytes": 10})
    devices = DeviceNames({(8, 0): "/dev/sda"})
    return [
        *metric_samples.of_cgroup(reading),
        *metric_samples.of_disk(disk, 77, reading.details.block_io, devices),
        *metric_samples.of_processes(facts, reading.stats),
        *metric_samples.of_settings(cri.LinuxContainerResources(cpu_quota=-1), SECOND, 3 * SECOND),
        *metric_samples.of_network([usage]),
    ]  # fmt: skip


def test_every_metric_has_samples_with_its_labels() -> None:
    details = CgroupDetails(
        block_io=(BlockIo((8, 0), "Read", 512, 1), BlockIo((8, 0), "Write", 4096, 2)),
        hugepages={"2MB": (1, 2)},
    )
    found = all_samples(Reading(STATS, details, 3))
    assert {sample.name for sample in found} == METRICS.keys()
    for sample in found:
        assert len(sample.labels) == len(METRICS[sample.name].labels), sample
    values = {(sample.name, sample.labels): sample.value for sample in found}
    assert values["container_fs_writes_bytes_total", ("/dev/sda",)] == 4096
    assert values["container_blkio_device_usage_total", ("/dev/sda", "8", "0", "Read")] == 512
    assert values["container_oom_events_total", ()] == 3
    assert values["container_threads_max", ()] == 0
    assert values["container_pressure_io_stalled_seconds_total", ()] == 2
    messages = metric_samples.messages(found, ["x"] * len(BASE_LABELS), 5)
    # No limit is 0, never a negative number in an unsigned field.
    [quota] = [m for m in messages if m.name == "container_spec_cpu_quota"]
    assert (quota.value.value, quota.metric_type, quota.timestamp) == (0, cri.GAUGE, 5)


def test_metrics_of_a_poor_kernel_are_left_out() -> None:
    names = {sample.name for sample in all_samples(Reading(NOTHING, CgroupDetails(), 0))}
    assert not any("memory_usage" in name or "pressure" in name for name in names)
    assert "container_fs_reads_bytes_total" in names


def test_parts_by_size_and_count() -> None:
    items = [cri.KeyValue(key="x" * 10) for _ in range(5)]
    each = items[0].ByteSize()
    assert [len(part) for part in by_size(items, 2 * each)] == [2, 2, 1]
    assert [len(part) for part in by_size(items, 1)] == [1] * 5
    assert list(by_size([], 1)) == []
    assert list(by_count(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(by_count([], 2)) == []
