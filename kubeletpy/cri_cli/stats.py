"""``kubeletpy cri stats``: what containers and pods use."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence

import click

from kubeletpy.cri_cli import find, lists, text
from kubeletpy.cri_cli.connection import Connection, runtime_options
from kubeletpy.cri_cli.output import output_option, plain, show, table
from kubeletpy_proto import cri_pb2 as cri


@click.command("stats")
@click.argument("name", required=False)
@click.option("-p", "--pods", "of_pods", is_flag=True, help="Pods instead of containers.")
@click.option("-w", "--watch", is_flag=True, help="Again and again, until Ctrl-C.")
@click.option(
    "-s",
    "--seconds",
    type=click.FloatRange(0.1, 60),
    default=1.0,
    show_default=True,
    help="How long to measure the use of CPU; with --watch, between two tables.",
)
@output_option("table", "json", "yaml")
@runtime_options
def stats(
    connection: Connection, name: str | None, of_pods: bool, watch: bool, seconds: float,
    output: str,
) -> None:  # fmt: skip
    """Show CPU, memory, disk and network use: of all that runs, or of NAME.

    CPU is in percent of one core, measured between two readings. With --watch a terminal shows the
    latest table; elsewhere, and as JSON or YAML, one document follows the other.

    \b
    kubeletpy cri stats --watch
    kubeletpy cri stats -o json web | jq '.stats[0].memory.workingSetBytes.value'
    """
    read = _pod_reader(connection, name) if of_pods else _container_reader(connection, name)
    try:
        before = read()
        while True:
            time.sleep(seconds)
            found = read()
            if watch and output == "table" and sys.stdout.isatty():
                click.clear()
            _show(before, found, output, one_line=watch)
            if not watch:
                return
            before = found
    except KeyboardInterrupt:
        # The only end of a watch.
        return


_Found = cri.ListContainerStatsResponse | cri.ListPodSandboxStatsResponse


def _container_reader(connection: Connection, name: str | None) -> Callable[[], _Found]:
    wanted = cri.ContainerStatsFilter()
    if name:
        wanted.id = find.one_container(lists.list_containers(connection), name, running=True).id
    request = cri.ListContainerStatsRequest(filter=wanted)
    method = connection.runtime.ListContainerStats
    return lambda: connection.call("read statistics", method, request)


def _pod_reader(connection: Connection, name: str | None) -> Callable[[], _Found]:
    wanted = cri.PodSandboxStatsFilter()
    if name:
        wanted.id = find.one_pod(lists.list_pods(connection), name).id
    request = cri.ListPodSandboxStatsRequest(filter=wanted)
    method = connection.runtime.ListPodSandboxStats
    return lambda: connection.call("read statistics", method, request)


def _show(before: _Found, found: _Found, output: str, *, one_line: bool) -> None:
    if output == "json" and one_line:
        click.echo(json.dumps(plain(found)))
    elif output != "table":
        if one_line:
            click.echo("---")
        show(plain(found), output)
    elif isinstance(found, cri.ListContainerStatsResponse):
        assert isinstance(before, cri.ListContainerStatsResponse)
        table(
            ("CONTAINER", "NAME", "CPU %", "MEMORY", "LIMIT", "SWAP", "DISK", "INODES"),
            container_rows(before.stats, found.stats),
        )
    else:
        assert isinstance(before, cri.ListPodSandboxStatsResponse)
        table(
            ("POD", "NAMESPACE", "NAME", "CPU %", "MEMORY", "PROCESSES", "RECEIVED", "SENT"),
            pod_rows(before.stats, found.stats),
        )
    sys.stdout.flush()


def container_rows(
    before: Iterable[cri.ContainerStats], found: Iterable[cri.ContainerStats]
) -> list[tuple[str, ...]]:
    """Return a row for each container, the busiest first (pure)."""
    first = {item.attributes.id: item.cpu for item in before}
    return [
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
        for item in by_cpu(list(found))
    ]


def pod_rows(
    before: Iterable[cri.PodSandboxStats], found: Iterable[cri.PodSandboxStats]
) -> list[tuple[str, ...]]:
    """Return a row for each pod, by name (pure)."""
    first = {item.attributes.id: item.linux.cpu for item in before}
    return [
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
    ]


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
