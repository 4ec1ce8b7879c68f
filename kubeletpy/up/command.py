"""The command ``kubeletpy up``."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from kubeletpy import bootstrap, debian
from kubeletpy.up import report
from kubeletpy.up.errors import UpError
from kubeletpy.up.keeping import Keeper
from kubeletpy.up.layout import API_PORT, DATA, REGISTRY_PORT, RUN, Layout
from kubeletpy.up.leftovers import end_leftovers
from kubeletpy.up.node import Node
from kubeletpy.up.progress import Progress
from kubeletpy.up.tour import Findings, take_tour


class Outcome(enum.IntEnum):
    """How it ended; the value is the exit code."""

    DONE = 0
    FAILED = 1
    INTERRUPTED = 130


@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    layout: Layout
    registry_port: int
    api_port: int
    once: bool
    output: str


@click.command()
@click.option("--once", is_flag=True, help="Run the tour, then remove everything, data included.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    help="How the findings are printed on stdout.",
)
@click.option(
    "--registry-port",
    type=click.IntRange(0, 65535),
    default=REGISTRY_PORT,
    show_default=True,
    help="Loopback port of the registry; 0 takes any free one.",
)
@click.option(
    "--apiserver-port",
    type=click.IntRange(0, 65535),
    default=API_PORT,
    show_default=True,
    help="Loopback port of the API server; 0 takes any free one.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=DATA,
    show_default=True,
    help="Keeps images, volumes and logs, also for the next start.",
)
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    default=RUN,
    show_default=True,
    help="Keeps sockets, pid files and manifests while it runs.",
)
def up(
    once: bool, output: str, registry_port: int, apiserver_port: int, data_dir: Path, run_dir: Path
) -> None:
    """Run a whole cluster of one node on this machine, and examples on it.

    Starts an API server, a registry, the runtime, the kubelet, controllers and scheduler, the
    service proxy and a DNS; makes an OCI image from Debian's busybox-static and pushes it; runs
    examples/web.yaml and shows pod, page, log and an exec; then a Deployment with a Service, which
    is scaled and heals. All of it runs until Ctrl-C: use kubectl with the kubeconfig that it names.

    Progress goes to stderr, the findings to stdout. After a `kill -9` start it again: it takes up
    what is left.
    """
    options = Options(Layout(data_dir, run_dir), registry_port, apiserver_port, once, output)
    sys.exit(asyncio.run(_run(options)))


async def _run(options: Options) -> Outcome:
    """Run the tour and the node."""
    progress = Progress()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    layout = options.layout
    try:
        _require_machine()
        layout.check()
        layout.make()
        with _alone(layout):
            return await _up(options, progress, stop)
    except (UpError, bootstrap.BootstrapError, OSError) as error:
        progress.fail(str(error))
        return Outcome.FAILED


def _require_machine() -> None:
    """Have root and the tour's packages, also when started past ``python3 -m kubeletpy``.

    Raises:
        UpError: we are not root.
        BootstrapError: packages are missing and cannot be had.
    """
    if os.geteuid() != 0:
        raise UpError("`up` needs root, for namespaces, mounts and cgroups; use sudo")
    bootstrap.ensure_packages(debian.TOUR)


async def _up(options: Options, progress: Progress, stop: asyncio.Event) -> Outcome:
    for name in end_leftovers(options.layout.run):
        progress.say(f"ended the {name.partition('-')[2]} that an earlier, killed run left")
    node = Node(options.layout, options.registry_port, options.api_port)
    outcome = Outcome.FAILED
    try:
        findings = await _unless_stopped(node, progress, stop)
        if findings is None:
            outcome = Outcome.INTERRUPTED
        else:
            _print(options, findings)
            outcome = Outcome.DONE if options.once else await _stay(node, progress, stop)
    except UpError as error:
        progress.fail(str(error))
    finally:
        problems = await _clean_up(options, node, progress, failed=outcome is Outcome.FAILED)
    for problem in problems:
        progress.fail(problem)
    return Outcome.FAILED if problems else outcome


async def _unless_stopped(node: Node, progress: Progress, stop: asyncio.Event) -> Findings | None:
    """Take the tour; return None when the user stopped it."""
    tour = asyncio.create_task(take_tour(node, progress))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({tour, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return await tour if tour.done() else None
    finally:
        for task in (tour, stopped):
            task.cancel()
        await asyncio.gather(tour, stopped, return_exceptions=True)


async def _stay(node: Node, progress: Progress, stop: asyncio.Event) -> Outcome:
    """Keep the node running until the user stops it, or a daemon cannot be kept running."""
    layout = node.layout
    progress.say("")
    progress.say(f"The node runs until Ctrl-C. Manifests: {layout.manifests}  Logs: {layout.logs}")
    progress.say(f"Pods: curl {node.kubelet_url}/pods  CRI socket: {node.endpoint}")
    progress.say(f"API server, for kubectl: export KUBECONFIG={layout.kubeconfig}")
    progress.say(
        "Deployments, Services, Jobs and the like work; try `kubectl get all` and the files of "
        "examples/tour."
    )
    progress.say(
        "Ingresses are served at ports 80 and 443."
        if node.ingress
        else "Ingresses are not served: they need nginx-light of Debian, and ports 80 and 443."
    )
    keeping = asyncio.create_task(Keeper(node.daemons, progress.say).run())
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({keeping, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done():
            await keeping
        return Outcome.DONE
    except UpError as error:
        progress.fail(str(error))
        return Outcome.FAILED
    finally:
        for task in (keeping, stopped):
            task.cancel()
        await asyncio.gather(keeping, stopped, return_exceptions=True)


async def _clean_up(options: Options, node: Node, progress: Progress, *, failed: bool) -> list[str]:
    """End everything and remove what is to be removed; return what went wrong.

    After a failure the data directory stays even with ``--once``: it holds the logs.
    """
    with progress.step("Stopping: pods and daemons"):
        problems = await node.stop()
    try:
        options.layout.remove_run()
        if options.once and not failed and not problems:
            options.layout.remove_data()
        elif failed or problems:
            progress.say(f"the logs are in {options.layout.logs}")
    except (UpError, OSError) as error:
        problems.append(str(error))
    return problems


def _print(options: Options, findings: Findings) -> None:
    if options.output == "json":
        click.echo(report.as_json(findings))
    else:
        report.show(findings, Console())


@contextlib.contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    """Hold the lock of the run directory.

    Raises:
        UpError: another ``up`` holds it.
    """
    descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UpError(
                f"another `kubeletpy up` uses {layout.run}; stop it, or choose other directories "
                "with --run-dir and --data-dir"
            ) from error
        yield
    finally:
        os.close(descriptor)
