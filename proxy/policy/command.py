"""``kubeletpy policy``: the command line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys

import click

from kubeletpy_common import logs, readiness
from kubeletpy_common.apiclient.access import access_of
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.kubeconfig import KubeconfigError

from .. import options
from ..backend import SyncError
from .enforcer import clean_up
from .events import COMPONENT
from .running import enforce

_LEVELS = ("error", "warning", "info", "debug")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kubeconfig", default="", help="How to reach the API server; without it as a pod.")
@click.option("--master", default="", help="URL of the API server, before the kubeconfig's.")
@click.option("--hostname-override", default="", help="Name of this node instead of the host's.")
@click.option("--cleanup", is_flag=True, help="Remove all rules of policies and end.")
@click.option("--log-level", type=click.Choice(_LEVELS), default="info", show_default=True)
def main(
    kubeconfig: str, master: str, hostname_override: str, cleanup: bool, log_level: str
) -> None:
    """Enforce the NetworkPolicies of a cluster for the pods of this node, by nftables.

    \b
    On a node:         kubeletpy policy --kubeconfig FILE
    In the proxy:      kubeletpy proxy --kubeconfig FILE --enforce-network-policies
    Remove its rules:  kubeletpy policy --cleanup

    It stops on SIGTERM or SIGINT; rules stay, and the next one takes them over without a gap.
    """
    logs.configure(log_level)
    try:
        if cleanup:
            clean_up()
        else:
            name = hostname_override.strip().lower() or socket.gethostname().strip().lower()
            asyncio.run(_run(kubeconfig, master, name))
    except (SyncError, KubeconfigError, OSError) as error:
        click.echo(f"policy: {error}", err=True)
        sys.exit(1)


async def _run(kubeconfig: str, master: str, node: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    access = access_of(kubeconfig, master, os.environ)
    async with ApiClient(access, rate=0.0, agent=COMPONENT) as client:
        working = asyncio.create_task(
            enforce(client, node, options.families(), lambda: readiness.tell_ready("enforcing"))
        )
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            readiness.tell_stopping()
            for task in (working, stopping):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
