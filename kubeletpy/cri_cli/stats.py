"""``kubeletpy cri stats``: what containers and pods use."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from kubeletpy.cri_cli import find, lists, text
from kubeletpy.cri_cli.connection import Connection, runtime_options
from kubeletpy.cri_cli.output import output_option, plain, show, table
from kubeletpy_proto import cri_pb2 as cri


@click.command("stats")
@click.argument("name", required=False)
@click.option("-p", "--pods", "of_pods", is_flag=True, help="Pods instead of containers.")
@click.option("-s", "--seconds", type=click.FloatRange(0.1, 60), default=1.0, show_default=True,
              help="How long to measure the use of CPU.")  # fmt: skip
@output_option("table", "json", "yaml")
@runtime_options
def stats(
    connection: Connection, name: str | None, of_pods: bool, seconds: float, output: str
) -> None:
    """Show CPU, memory, disk and network use: of all that runs, or of NAME.

    CPU is in percent of one core, measured between two readings.
    """
    if of_pods:
        _show_pods(connection, name, seconds, output)
    else:
        _show_containers(connection, name, seconds, output)


def _show_containers(connection: Connection, name: str | None, seconds: float, output: str) -> None:
    wanted = cri.ContainerStatsFilter()
    if name:
        wanted.id = find.one_container(lists.list_containers(connection), name, running=True).id
    request = cri.ListContainerStatsRequest(filter=wanted)

    def read() -> list[cri.ContainerStats]:
        method = connection.runtime.ListContainerStats
        return list(connection.call("read statistics", method, request).stats)

    first = {item.attributes.id: item.cpu for item in read()}
    time.sleep(seconds)
    found = read()
    if output != "table":
        show(plain(cri.ListContainerStatsResponse(stats=found)), output)
        return
    table(
        ("CONTAINER", "NAME", "CPU %", "MEMORY", "LIMIT", "SWAP", "DISK", "INODES"),
        [
            (
                text.short(item.attributes.id),
                item.attributes.metadata.name,
                percent(first.get(item.attributes.id), item.cpu),
                text.size(item.memory.working_set_bytes.value),
                limit(item.memory),
                text.size(item.swap.swap_usage_bytes.value),
                text.size(item.writable_layer.used_bytes.value),
                str(item.writable_layer.inodes_used.value),
            )
            for item in by_cpu(found)
        ],
    )


def _show_pods(connection: Connection, name: str | None, seconds: float, output: str) -> None:
    wanted = cri.PodSandboxStatsFilter()
    if name:
        wanted.id = find.one_pod(lists.list_pods(connection), name).id
    request = cri.ListPodSandboxStatsRequest(filter=wanted)

    def read() -> list[cri.PodSandboxStats]:
        method = connection.runtime.ListPodSandboxStats
        return list(connection.call("read statistics", method, request).stats)

    first = {item.attributes.id: item.linux.cpu for item in read()}
    time.sleep(seconds)
    found = read()
    if output != "table":
        show(plain(cri.ListPodSandboxStatsResponse(stats=found)), output)
        return
    table(
        ("POD", "NAMESPACE", "NAME", "CPU %", "MEMORY", "PROCESSES", "RECEIVED", "SENT"),
        [
            (
                text.short(item.attributes.id),
                item.attributes.metadata.namespace,
                item.attributes.metadata.name,
                percent(first.get(item.attributes.id), item.linux.cpu),
                text.size(item.linux.memory.working_set_bytes.value),
                str(item.linux.process.process_count.value),
                text.size(item.linux.network.default_interface.rx_bytes.value),
                text.size(item.linux.network.default_interface.tx_bytes.value),
            )
            for item in sorted(found, key=lambda item: item.attributes.metadata.name)
        ],
    )


def by_cpu(found: Sequence[cri.ContainerStats]) -> list[cri.ContainerStats]:
    """Return the busiest first (pure)."""
    return sorted(found, key=lambda item: -item.cpu.usage_nano_cores.value)


def percent(first: cri.CpuUsage | None, second: cri.CpuUsage) -> str:
    """Return the use of CPU between two readings in percent of a core; ``-`` if unknown (pure)."""
    if first is None or second.timestamp <= first.timestamp:
        return "-"
    used = second.usage_core_nano_seconds.value - first.usage_core_nano_seconds.value
    return f"{max(0, used) * 100 / (second.timestamp - first.timestamp):.1f}"


def limit(memory: cri.MemoryUsage) -> str:
    """Return the memory limit, ``-`` for none (pure)."""
    if not memory.HasField("available_bytes") or not memory.available_bytes.value:
        return "-"
    return text.size(memory.available_bytes.value + memory.working_set_bytes.value)
