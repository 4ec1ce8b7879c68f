"""``kubeletpy uninstall``."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import click
from rich.console import Console
from rich.markup import escape

from kubeletpy.install import draining, facts, installation, places, removing
from kubeletpy.install.applying import alone
from kubeletpy.install.errors import InstallError
from kubeletpy.install.installation import NodeInstallation
from kubeletpy.install.places import Places
from kubeletpy.up.progress import Progress


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--keep-data", is_flag=True, help="Leave images, volumes and the API server's store.")
@click.option("--drain", is_flag=True, help="Have the cluster move this node's pods first.")
@click.option("--timeout", "seconds", type=click.FloatRange(1), default=60.0, show_default=True,
              help="Seconds for each service to stop, and for all pods to end.")  # fmt: skip
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def uninstall(yes: bool, keep_data: bool, drain: bool, seconds: float, output: str) -> None:
    """Remove what `kubeletpy install` made: services, pods, network, files.

    Works when daemons are dead and when half of it is gone already; what could not be removed is
    told, and it can be run again. The program itself is the package's to remove.
    """
    progress = Progress()
    try:
        if os.geteuid() != 0:
            raise InstallError("needs root, to stop services and to remove files; use sudo")
        one = _installed(progress)
        plan = removing.read_plan(one, keep_data=keep_data, seconds=seconds)
        if not removing.is_there():
            progress.say("nothing is installed here")
            return
        if not yes:
            _ask(plan)
        with alone(Places()):
            if drain and one is not None and one.runs_pods:
                with progress.step("Draining the node"):
                    asyncio.run(draining.drain(one.node_name, one.credentials, seconds))
            remover = removing.Remover(plan, progress, facts.gather().systemd)
            remover.run()
    except (InstallError, OSError) as error:
        progress.fail(str(error))
        sys.exit(1)
    _report(one, remover, output)
    sys.exit(1 if remover.problems else 0)


def _installed(progress: Progress) -> NodeInstallation | None:
    try:
        return installation.read(places.NODE)
    except InstallError as error:
        progress.say(f"going on without what was chosen at the installation: {error}")
        return None


def _ask(plan: removing.Plan) -> None:
    console = Console(stderr=True, highlight=False)
    console.print("This removes from this machine:")
    for line in plan.lines():
        console.print(f"  - {escape(line)}")
    click.confirm("Remove all of that?", abort=True, err=True)


def _report(one: NodeInstallation | None, remover: removing.Remover, output: str) -> None:
    notes = list(remover.notes)
    if one is not None and one.server is None:
        notes.append(
            f"The Node object stays, for its own credentials may not delete it: "
            f"kubectl delete node {one.node_name}"
        )
    if output == "json":
        found = {"done": remover.done, "problems": remover.problems, "notes": notes}
        click.echo(json.dumps(found, indent=2))
        return
    for problem in remover.problems:
        remover.progress.fail(problem)
    for note in notes:
        remover.progress.say(note)
    if not remover.problems:
        remover.progress.say("Removed. Kernel modules stay loaded until the next boot.")
