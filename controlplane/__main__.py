"""``kubeletpy apiserver``: the command line of the API server."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

import click

from controlplane.auth.trust.authority import TrustError
from controlplane.options import DEFAULT_DATA, Options, OptionsError
from controlplane.serving import serving
from controlplane.store.model import StoreError
from kubeletpy_common import logs
from kubeletpy_common.readiness import tell_ready, tell_stopping

_log = logging.getLogger(__name__)
_LEVELS = ("error", "warning", "info", "debug")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--data-dir",
    type=Path,
    default=DEFAULT_DATA,
    show_default=True,
    help="Store, authorities and keys.",
)
@click.option("--bind-address", default="127.0.0.1", show_default=True, help="IP address.")
@click.option("--secure-port", type=int, default=6443, show_default=True, help="0: any.")
@click.option("--advertise-address", default="", help="IP address that clients reach it by.")
@click.option("--tls-san", multiple=True, help="One more name of the serving certificate.")
@click.option("--node-name", default="", help="Of this machine's node; the host's name.")
@click.option("--kubeconfig", type=Path, help="Where the administrator's one is written.")
@click.option("--token-auth-file", type=Path, help="Users with static tokens, as CSV.")
@click.option("--log-level", type=click.Choice(_LEVELS), default="info", show_default=True)
def main(
    data_dir: Path,
    bind_address: str,
    secure_port: int,
    advertise_address: str,
    tls_san: tuple[str, ...],
    node_name: str,
    kubeconfig: Path | None,
    token_auth_file: Path | None,
    log_level: str,
) -> None:
    """Serve the Kubernetes API on this machine, with an embedded store.

    The administrator's kubeconfig is admin.kubeconfig in the data directory.
    Stops on SIGTERM or SIGINT. What it has answered is on the disk.
    """
    logs.configure(log_level)
    options = Options(
        data_dir=data_dir,
        bind_address=bind_address,
        secure_port=secure_port,
        advertise_address=advertise_address,
        extra_names=tls_san,
        node_name=node_name,
        kubeconfig=kubeconfig,
        token_auth_file=token_auth_file,
    )
    try:
        asyncio.run(_run(options))
    except (OptionsError, StoreError, TrustError, OSError) as error:
        click.echo(f"apiserver: {error}", err=True)
        sys.exit(1)


async def _run(options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(options) as running:
        logs.event(_log, logging.INFO, "the API server listens", port=running.port)
        tell_ready(f"listens on https://{options.bind_address}:{running.port}")
        await stop.wait()
        tell_stopping()


if __name__ == "__main__":
    main(prog_name="kubeletpy apiserver")
