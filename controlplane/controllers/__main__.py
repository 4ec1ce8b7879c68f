"""``kubeletpy controllers``: the command line of the controllers."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click

from controlplane.controllers import catalog
from controlplane.controllers.autoscaling.flags import autoscaler_flags
from controlplane.controllers.certificates.flags import check_signer_flags, signer_flags
from controlplane.controllers.loadbalancer.flags import balancer_flags
from controlplane.controllers.nodelifecycle.flags import node_flags
from controlplane.controllers.serviceendpoints.flags import endpoint_flags
from controlplane.controllers.volumes.flags import volume_flags
from controlplane.engine.controller import OptionError
from controlplane.engine.election import LeadershipLostError
from controlplane.engine.flags import host_flags, settings_of
from controlplane.engine.host import serve
from controlplane.ingress.flags import ingress_flags
from controlplane.metrics_server.flags import metrics_flags
from kubeletpy_common.apiclient.kubeconfig import KubeconfigError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--controllers",
    default="*",
    show_default=True,
    help="Which run, as of kube-controller-manager: *, foo, -foo; scheduler, "
    "ingress-controller, metrics-server, bootstrapsigner, tokencleaner and "
    "kubelet-serving-approving-controller only where they are named.",
)
@endpoint_flags
@autoscaler_flags
@balancer_flags
@ingress_flags
@signer_flags
@volume_flags
@click.option(
    "--root-ca-file",
    default="",
    help="Certificates that every namespace gets to trust; without it those of the kubeconfig.",
)
@click.option(
    "--service-account-private-key-file",
    default="",
    help="Signs the tokens of Secrets that ask for one; without it none is signed.",
)
@node_flags
@metrics_flags("metrics-")
@host_flags(10252)
def main(controllers: str, **given: Any) -> None:
    """Run the controllers of a cluster: Deployments become pods, Services get endpoints ...

    \b
    All:    kubeletpy controllers --kubeconfig admin.kubeconfig
    Some:   kubeletpy controllers --kubeconfig admin.kubeconfig --controllers=deployment,replicaset

    They need nothing but an API server, this one's or any other. Stops on SIGTERM or SIGINT; what
    was begun is taken up by the next start.
    """
    check_signer_flags(given)
    settings = settings_of("kube-controller-manager", given)
    words = [word.strip() for word in controllers.split(",") if word.strip()]
    try:
        makes = [catalog.make(name) for name in catalog.selected(words)]
        asyncio.run(serve(settings, makes))
    except (catalog.UnknownControllerError, OptionError, KubeconfigError, LeadershipLostError,
            OSError) as error:  # fmt: skip
        click.echo(f"controllers: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="kubeletpy controllers")
