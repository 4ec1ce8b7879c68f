"""``kubeletpy ingress``: the command line of the Ingress controller."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click

from controlplane.engine.flags import host_flags, settings_of
from controlplane.engine.host import serve
from controlplane.ingress.controller import IngressController
from controlplane.ingress.flags import ingress_flags
from kubeletpy_common.apiclient.kubeconfig import KubeconfigError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@ingress_flags
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
