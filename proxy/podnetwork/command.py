"""``kubeletpy network``: the command line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import click

from kubeletpy_common import logs, readiness, watchdog
from kubeletpy_common.apiclient.access import access_of
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.kubeconfig import KubeconfigError

from ..errors import StartError
from . import filters, kernel
from .running import connect
from .settings import DEVICE, NODE_FILE, PORT, VNI, Mode, Settings, settings_of
from .telling import COMPONENT

_LEVELS = ("error", "warning", "info", "debug")
_MODES = tuple(each.value for each in Mode)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kubeconfig", default="", help="How to reach the API server; without it as a pod.")
@click.option("--master", default="", help="URL of the API server, before the kubeconfig's.")
@click.option("--hostname-override", default="", help="Name of this node instead of the host's.")
@click.option(
    "--cluster-cidr", default="", metavar="LIST",
    help="Networks of all pods, one of each family; nothing else is routed.",
)  # fmt: skip
@click.option(
    "--mode", type=click.Choice(_MODES), default=Mode.AUTO.value, show_default=True,
    help="auto: by the node's address where that is on a network of this node, else by VXLAN.",
)  # fmt: skip
@click.option(
    "--node-address", default="", metavar="LIST",
    help="Addresses of this node for other nodes instead of its InternalIPs.",
)  # fmt: skip
@click.option("--vxlan-vni", type=int, default=VNI, show_default=True)
@click.option("--vxlan-port", type=int, default=PORT, show_default=True, help="UDP; IANA's: 4789.")
@click.option("--vxlan-device", default=DEVICE, show_default=True)
@click.option("--mtu", type=int, default=0, help="Of pods; default: what the uplink has room for.")
@click.option(
    "--node-file", type=Path, default=NODE_FILE, show_default=True,
    help="Where the MTU is told to the runtime.",
)  # fmt: skip
@click.option("--cleanup", is_flag=True, help="Remove routes, device and rules and end.")
@click.option("--log-level", type=click.Choice(_LEVELS), default="info", show_default=True)
def main(
    kubeconfig: str,
    master: str,
    hostname_override: str,
    cluster_cidr: str,
    mode: str,
    node_address: str,
    vxlan_vni: int,
    vxlan_port: int,
    vxlan_device: str,
    mtu: int,
    node_file: Path,
    cleanup: bool,
    log_level: str,
) -> None:
    """Route between the pods of all nodes: to each node's pod CIDRs, directly or by VXLAN.

    \b
    On a node:         kubeletpy network --kubeconfig FILE --cluster-cidr 10.244.0.0/16
    In the proxy:      kubeletpy proxy --kubeconfig FILE --cluster-cidr ... --pod-network=auto
    Remove all of it:  kubeletpy network --cleanup

    It stops on SIGTERM or SIGINT; routes stay, and the next one takes them over without a gap.
    """
    logs.configure(log_level)
    try:
        if cleanup:
            clean_up(vxlan_device, node_file)
            return
        settings = settings_of(
            mode, _list(cluster_cidr), vni=vxlan_vni, port=vxlan_port, mtu=mtu,
            device=vxlan_device, addresses=_list(node_address), node_file=node_file,
        )  # fmt: skip
        name = hostname_override.strip().lower() or socket.gethostname().strip().lower()
        asyncio.run(_run(kubeconfig, master, name, settings))
    except (StartError, KubeconfigError, OSError) as error:
        click.echo(f"network: {error}", err=True)
        sys.exit(1)


def _list(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def clean_up(device: str = DEVICE, node_file: Path | None = NODE_FILE) -> None:
    """Remove routes, device, rules and the node's file. Sysctls stay: others may need them.

    Raises:
        StartError: something could not be removed; all else was.
    """
    failed = filters.clean_up()
    try:
        kernel.clean_up(device)
        if node_file is not None:
            node_file.unlink(missing_ok=True)
    except OSError as error:
        failed.append(str(error))
    if failed:
        raise StartError("--cleanup: " + "; ".join(failed))


async def _run(kubeconfig: str, master: str, node: str, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    access = access_of(kubeconfig, master, os.environ)
    async with ApiClient(access, rate=0.0, agent=COMPONENT) as client:
        working = asyncio.create_task(
            connect(client, node, settings, lambda: readiness.tell_ready("watches nodes"))
        )
        watching = asyncio.create_task(watchdog.run())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            readiness.tell_stopping()
            for task in (working, watching, stopping):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
