"""``kubeletpy scheduler``: the command line of the scheduler."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from controlplane.engine.election import LeadershipLostError, Times
from controlplane.engine.flags import host_flags, settings_of
from controlplane.engine.host import Settings, serve
from controlplane.scheduler.configuration import Configuration, read
from controlplane.scheduler.profiles import check
from controlplane.scheduler.scheduler import Scheduler
from kubeletpy_common.apiclient.kubeconfig import KubeconfigError
from kubeletpy_common.settings.durations import ConfigurationError

_FLAGS = {
    "kubeconfig": ("kubeconfig",),
    "rate": ("kube_api_qps",),
    "burst": ("kube_api_burst",),
    "elect": ("leader_elect",),
    "times": ("leader_elect_lease_duration", "leader_elect_renew_deadline",
              "leader_elect_retry_period"),
    "lease_namespace": ("leader_elect_resource_namespace",),
    "lease_name": ("leader_elect_resource_name",),
}  # fmt: skip
"""Fields of the settings, and the flags that set them before the file does."""


def configured(settings: Settings, one: Configuration, given: frozenset[str]) -> Settings:
    """Return settings with what a configuration says, where no flag says it (pure).

    Args:
        settings: of the flags.
        one: the configuration.
        given: names of flags on the command line.
    """
    election, client = one.leader_election, one.client_connection
    said: dict[str, Any] = {
        "kubeconfig": client.kubeconfig or settings.kubeconfig,
        "rate": max(client.qps, 0.0),
        "burst": client.burst,
        "elect": election.leader_elect,
        "times": Times(election.lease_duration, election.renew_deadline, election.retry_period),
        "lease_namespace": election.resource_namespace,
        "lease_name": election.resource_name,
    }
    kept = {name: value for name, value in said.items() if not given & {*_FLAGS[name]}}
    options = {**settings.options, "scheduler_configuration": one}
    return dataclasses.replace(settings, options=options, **kept)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", default="", help="A file with a KubeSchedulerConfiguration "
              "(kubescheduler.config.k8s.io/v1); flags go before it.")  # fmt: skip
@host_flags(10259)
@click.pass_context
def main(ctx: click.Context, /, config: str, **given: Any) -> None:
    """Run the scheduler of a cluster: it gives pods to nodes.

    \b
    kubeletpy scheduler --kubeconfig scheduler.kubeconfig

    It needs nothing but an API server, this one's or any other. Stops on SIGTERM or SIGINT.
    """
    explicit = frozenset(
        name for name in given
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    )  # fmt: skip
    settings = settings_of("kube-scheduler", given)
    try:
        if config:
            one = read(Path(config))
            check(one)
            settings = configured(settings, one, explicit)
        asyncio.run(serve(settings, [Scheduler]))
    except (ConfigurationError, KubeconfigError, LeadershipLostError, OSError) as error:
        click.echo(f"scheduler: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="kubeletpy scheduler")
