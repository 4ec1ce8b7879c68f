"""``kubeletpy proxy``: the command line of the proxy; flags are named as the Go kube-proxy's."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import click

from kubeletpy_common import logs

from . import detection
from .backend import LocalTraffic, RuleOptions, SyncError
from .backends import DEFAULT_MODE, MODES, ModeError, open_backend
from .inputs import files
from .model.addresses import of_family
from .model.objects import Node
from .runner import Proxy, Quiet
from .syncing import Pace


class StartError(Exception):
    """The proxy cannot start; the message says why and what to do."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kubeconfig", type=Path, help="How to reach the API server.")
@click.option("--master", default="", help="URL of the API server; overrides --kubeconfig's.")
@click.option(
    "--objects", "--input", type=Path, help="Take objects of a file or directory instead."
)
@click.option("--proxy-mode", default="", type=click.Choice(["", *MODES]))
@click.option("--hostname-override", default="", help="Name of this node.")
@click.option("--cluster-cidr", default="", help="Networks of the pods, one of each family.")
@click.option("--masquerade-all", is_flag=True, help="Source NAT for all traffic to cluster IPs.")
@click.option("--nodeport-addresses", default="", help="CIDRs, separated by commas.")
@click.option("--once", is_flag=True, help="Write the rules once and end.")
@click.option("--dry-run", is_flag=True, help="Print the rules, change nothing.")
@click.option("--cleanup", is_flag=True, help="Remove all rules of all modes and end.")
def main(
    kubeconfig: Path | None,
    master: str,
    objects: Path | None,
    proxy_mode: str,
    hostname_override: str,
    cluster_cidr: str,
    masquerade_all: bool,
    nodeport_addresses: str,
    once: bool,
    dry_run: bool,
    cleanup: bool,
) -> None:
    """Program Services into the kernel."""
    logs.configure()
    name = (hostname_override or socket.gethostname()).strip().lower()

    def options(node: Node | None) -> list[RuleOptions]:
        return [
            RuleOptions(
                family,
                detection.detector(
                    LocalTraffic.CLUSTER_CIDR, family, cluster_cidrs=_split(cluster_cidr)
                ),
                masquerade_all=masquerade_all,
                node_port_addresses=of_family(_split(nodeport_addresses), family),
            )
            for family in detection.families()
        ]

    try:
        if cleanup:
            _clean(options(None))
            return
        asyncio.run(
            _run(
                name,
                proxy_mode or DEFAULT_MODE,
                kubeconfig,
                master,
                objects,
                options,
                once,
                dry_run,
            )
        )
    except (StartError, ModeError, SyncError, files.FileError) as error:
        click.echo(f"kube-proxy: {error}", err=True)
        sys.exit(1)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _clean(options: list[RuleOptions]) -> None:
    for mode in MODES:
        for each in options:
            backend = open_backend(mode, each)
            backend.cleanup()
            backend.close()


async def _run(
    name: str,
    mode: str,
    kubeconfig: Path | None,
    master: str,
    path: Path | None,
    options: Callable[[Node | None], list[RuleOptions]],
    once: bool,
    dry_run: bool,
) -> None:
    proxy = Proxy(name, lambda each: open_backend(mode, each), Pace())
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if path is not None:
        files.load(path, proxy.inputs)
        if dry_run:
            click.echo(proxy.plan(options))
        elif once:
            if not await proxy.once(options, Quiet()):
                raise StartError("rules could not be written; see the log")
        else:
            await proxy.run(asyncio.sleep(10**9), options, stop, Quiet())
        return
    from kubeletpy_common.apiclient.client import ApiClient
    from kubeletpy_common.apiclient.kubeconfig import Access, KubeconfigError, read_kubeconfig

    from .inputs.cluster import follow

    try:
        access = read_kubeconfig(kubeconfig) if kubeconfig is not None else Access(server=master)
    except KubeconfigError as error:
        raise StartError(str(error)) from None
    if not access.server:
        raise StartError("give --kubeconfig, --master or --objects")
    async with ApiClient(access, rate=5.0, burst=10) as client:
        if not (once or dry_run):
            await proxy.run(follow(client, proxy.inputs, name), options, stop, Quiet())
            return
        task = asyncio.create_task(follow(client, proxy.inputs, name))
        await proxy.inputs.complete.wait()
        if dry_run:
            click.echo(proxy.plan(options))
        elif not await proxy.once(options, Quiet()):
            raise StartError("rules could not be written; see the log")
        task.cancel()
