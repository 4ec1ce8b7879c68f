"""``kubeletpy scheduler``: the command line of the scheduler."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click

from controlplane.engine.election import LeadershipLostError
from controlplane.engine.flags import host_flags, settings_of
from controlplane.engine.host import serve
from controlplane.scheduler.scheduler import Scheduler
from kubeletpy_common.apiclient.kubeconfig import KubeconfigError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@host_flags(10259)
def main(**given: Any) -> None:
    """Run the scheduler of a cluster: it gives pods to nodes.

    \b
    kubeletpy scheduler --kubeconfig scheduler.kubeconfig

    It needs nothing but an API server, this one's or any other. Stops on SIGTERM or SIGINT.
    """
    settings = settings_of("kube-scheduler", given)
    try:
        asyncio.run(serve(settings, [Scheduler]))
    except (KubeconfigError, LeadershipLostError, OSError) as error:
        click.echo(f"scheduler: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="kubeletpy scheduler")
