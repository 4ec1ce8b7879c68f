"""``kubeletpy metrics``: the command line of the metrics server."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from controlplane.engine.flags import Duration, host_flags, settings_of
from controlplane.engine.host import serve
from controlplane.flags import ADDRESS, TYPES
from controlplane.metrics_server.collecting import ADDRESS_TYPES
from controlplane.metrics_server.server import MetricsServer
from kubeletpy_common.apiclient.kubeconfig import KubeconfigError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_SHORTEST = 1.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--metric-resolution", type=Duration(), default="15s", show_default=True,
              help="Between two questions to each kubelet and pod.")  # fmt: skip
@click.option("--bind-address", "metrics_bind_address", type=ADDRESS, default="0.0.0.0",
              show_default=True, help="That is listened on.")  # fmt: skip
@click.option("--secure-port", "metrics_secure_port", type=click.IntRange(0, 65535), default=4443,
              show_default=True, help="TCP port; 0: any that is free.")  # fmt: skip
@click.option("--advertise-address", "metrics_advertise_address", type=ADDRESS,
              help="That the API server reaches it by.")  # fmt: skip
@click.option("--tls-cert-file", "metrics_tls_cert_file", type=_FILE,
              help="Certificate; without one it is made at each start.")  # fmt: skip
@click.option("--tls-private-key-file", "metrics_tls_private_key_file", type=_FILE,
              help="Its key.")  # fmt: skip
@click.option("--kubelet-insecure-tls", is_flag=True,
              help="Certificates of kubelets are not looked at.")  # fmt: skip
@click.option("--kubelet-certificate-authority", type=_FILE,
              help="Signs the certificates of kubelets.")  # fmt: skip
@click.option("--kubelet-preferred-address-types", type=TYPES, default=",".join(ADDRESS_TYPES),
              show_default=True, help="Addresses of a node, the best first.")  # fmt: skip
@click.option("--kubelet-port", type=click.IntRange(0, 65535), default=0, show_default=True,
              help="Of all kubelets; 0: as their nodes' statuses say.")  # fmt: skip
@click.option("--register/--no-register", "register_metrics", default=True, show_default=True,
              help="Keep APIServices, a Service and its endpoint.")  # fmt: skip
@host_flags(10249)
def main(**given: Any) -> None:
    """Serve what nodes and pods use, and what pods say of themselves.

    \b
    kubeletpy metrics --kubeconfig admin.kubeconfig --kubelet-insecure-tls
    kubectl top nodes

    metrics.k8s.io comes of kubelets; custom.metrics.k8s.io and external.metrics.k8s.io come of pods
    with the annotation prometheus.io/scrape. Stops on SIGTERM or SIGINT.
    """
    if given["metric_resolution"] < _SHORTEST:
        raise click.UsageError(f"--metric-resolution is {_SHORTEST:g} s at least")
    if bool(given["metrics_tls_cert_file"]) != bool(given["metrics_tls_private_key_file"]):
        raise click.UsageError("--tls-cert-file and --tls-private-key-file belong together")
    # Each that runs serves; the one that registered last is asked.
    given["leader_elect"] = False
    settings = settings_of("metrics-server", given)
    try:
        asyncio.run(serve(settings, [MetricsServer]))
    except (KubeconfigError, OSError) as error:
        click.echo(f"metrics: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="kubeletpy metrics")
