"""What an installation did, or would do, for people and programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kubeletpy.install import configs, machine, places, units
from kubeletpy.install.applying import Outcome
from kubeletpy.install.changes import Action, Change
from kubeletpy.install.installation import NodeInstallation


def print_outcome(one: NodeInstallation, outcome: Outcome, output: str, *, started: bool) -> None:
    """Print what was done."""
    if output == "json":
        click.echo(json.dumps(_plain(one, outcome), indent=2))
        return
    console = Console(highlight=False)
    table = Table(title=f"kubeletpy {one.role} {one.node_name}", title_justify="left")
    for head in ("what", "done"):
        table.add_column(head, overflow="fold")
    for change in outcome.changes:
        if change.action is not Action.SAME:
            table.add_row(str(change.file.path), _colored(change.action))
    for name, done in outcome.services.items():
        table.add_row(name, done)
    if not any(change.action is not Action.SAME for change in outcome.changes):
        table.add_row("files", "all as they are to be")
    console.print(table)
    for change in outcome.changes:
        if change.action is Action.KEEP:
            console.print(f"{change.file.path} was changed here and is kept; it would become "
                          "(--overwrite):")  # fmt: skip
            console.print(escape(change.difference()))
    for note in outcome.notes:
        console.print(f"[yellow]note:[/yellow] {escape(note)}", soft_wrap=True)
    for line in _next(one, outcome, started=started):
        console.print(escape(line), soft_wrap=True)


def _next(one: NodeInstallation, outcome: Outcome, *, started: bool) -> Iterable[str]:
    if not started:
        yield "Nothing was started: `kubeletpy install --upgrade` does that on the machine."
        return
    if one.server is not None:
        yield f"export KUBECONFIG={places.ADMIN}"
    if outcome.join_command:
        here = "token create" in outcome.join_command
        yield f"To join one more machine, run {'here' if here else 'there'}:"
        yield f"  {outcome.join_command}"


def print_plan(
    one: NodeInstallation, changes: Sequence[Change], output: str, *, systemd: bool
) -> None:
    """Print what would be written and run."""
    commands = _commands(one, systemd=systemd)
    if output == "json":
        files = [
            {"path": str(change.file.path), "action": change.action.name.lower(),
             "mode": f"{change.file.mode:04o}", "difference": change.difference()}
            for change in changes
        ]  # fmt: skip
        click.echo(json.dumps({"role": one.role, "files": files, "commands": commands}, indent=2))
        return
    for change in changes:
        click.echo(f"# {change.file.path} ({change.file.mode:04o}): {change.action}")
        if change.action is not Action.SAME:
            click.echo(change.difference())
    click.echo("# would run:")
    for command in commands:
        click.echo(command)


def _commands(one: NodeInstallation, *, systemd: bool) -> list[str]:
    found = []
    if one.server is not None:
        found.append(f"useradd --system {units.USER}")
    if one.runs_pods:
        found += [f"modprobe {name}" for name in configs.modules(one)]
        found += [f"sysctl -w {name}={value}" for name, value in configs.sysctls(one).items()]
    found += [f"ln -s {target} {path}" for path, target in machine.links(one).items()]
    found.append("systemctl daemon-reload")
    found += [f"systemctl start {name}" for name in units.names(one)]
    if not systemd:
        found.append("# (no systemd here: nothing of it can be started)")
    return found


def _plain(one: NodeInstallation, outcome: Outcome) -> dict[str, object]:
    return {
        "role": one.role,
        "node": one.node_name if one.runs_pods else "",
        "files": {str(each.file.path): each.action.name.lower() for each in outcome.changes},
        "services": outcome.services,
        "notes": outcome.notes,
        "kubeconfig": str(places.ADMIN) if one.server else "",
        "joinCommand": outcome.join_command,
    }


def _colored(action: Action) -> str:
    return f"[yellow]{action}[/yellow]" if action is Action.KEEP else str(action)
