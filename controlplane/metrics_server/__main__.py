"""``kubeletpy metrics``: the command line of the metrics server."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click

from controlplane.engine.flags import host_flags, settings_of
from controlplane.engine.host import serve
from controlplane.metrics_server.flags import metrics_flags
from controlplane.metrics_server.server import MetricsServer
from kubeletpy_common.apiclient.kubeconfig import KubeconfigError

_SHORTEST = 1.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@metrics_flags()
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
