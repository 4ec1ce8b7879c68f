"""``kubeletpy ingress``: the command line of the Ingress controller."""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from pathlib import Path
from typing import Any

import click

from controlplane.engine.flags import host_flags, settings_of
from controlplane.engine.host import serve
from controlplane.ingress.controller import RUN_DIRECTORY, IngressController
from kubeletpy_common.apiclient.kubeconfig import KubeconfigError


def _addresses(_: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    words = [word.strip() for word in value.split(",") if word.strip()]
    try:
        return tuple(str(ipaddress.ip_address(word)) for word in words)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--addresses", "ingress_addresses", default="0.0.0.0,::", show_default=True,
              callback=_addresses, help="Of this machine, where it listens.")  # fmt: skip
@click.option("--http-port", "ingress_http_port", type=click.IntRange(1, 65535), default=80,
              show_default=True, help="Of HTTP.")  # fmt: skip
@click.option("--https-port", "ingress_https_port", type=click.IntRange(1, 65535), default=443,
              show_default=True, help="Of HTTPS.")  # fmt: skip
@click.option("--publish-addresses", "ingress_publish_addresses", default="", callback=_addresses,
              help="Written into the status of Ingresses: where clients reach it.")  # fmt: skip
@click.option("--run-dir", "ingress_directory", type=Path, default=RUN_DIRECTORY,
              show_default=True, help="Its own: keys and configuration.")  # fmt: skip
@click.option("--nginx", "ingress_nginx", default="nginx", show_default=True,
              help="Program; on Debian of the package nginx-light.")  # fmt: skip
@click.option("--nginx-user", "ingress_user", default="www-data", show_default=True,
              help="That its workers run as.")  # fmt: skip
@host_flags(10254)
def main(**given: Any) -> None:
    """Serve Ingresses on this machine: HTTP and HTTPS from outside go to Services.

    \b
    On a node:   kubeletpy ingress --kubeconfig /etc/kubernetes/ingress.conf --no-leader-elect

    It runs an nginx of its own. The class of its Ingresses is made if there is none. Each node
    that shall serve them runs one; the election is for those that stand by on one address.
    """
    try:
        asyncio.run(serve(settings_of("kubeletpy-ingress", given), [IngressController]))
    except (KubeconfigError, OSError) as error:
        click.echo(f"ingress: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="kubeletpy ingress")
