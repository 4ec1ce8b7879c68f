"""The command ``kubeletpy doctor``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kubeletpy.doctor import examination
from kubeletpy.doctor.finding import Finding, errors, warnings
from kubeletpy.doctor.purpose import PURPOSES

_VERDICTS = {
    "error": "[red]error[/red]",
    "warning": "[yellow]warning[/yellow]",
    "ok": "[green]ok[/green]",
}


@click.command()
@click.option(
    "--for",
    "purpose",
    type=click.Choice(sorted(PURPOSES)),
    default="up",
    show_default=True,
    help="What the machine shall be: a node to try things with, a node of a cluster, or a "
    "cluster's API server and node.",
)
@click.option(
    "--server",
    default="",
    metavar="URL",
    help="The cluster's API server: its clock is compared with this machine's.",
)
@click.option("--all", "everything", is_flag=True, help="Show what is well, too.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    help="A table for people, or JSON for programs (everything, always).",
)
def doctor(purpose: str, server: str, everything: bool, output: str) -> None:
    """Find what keeps this machine from running pods, and say how to mend it.

    Nothing is changed. Ends with 1 if there are errors; warnings alone are no failure.
    """
    found = examination.examine(purpose, server)
    if output == "json":
        click.echo(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        _print(found, purpose, everything)
    sys.exit(1 if errors(found) else 0)


def _print(found: Sequence[Finding], purpose: str, everything: bool) -> None:
    console = Console()
    order = list(_VERDICTS)
    shown = [finding for finding in found if everything or finding.verdict != "ok"]
    shown.sort(key=lambda finding: order.index(finding.verdict))
    if shown:
        console.print(_table(shown))
    # Not in the table, whose cells would break the commands.
    for finding in shown:
        if finding.remedy:
            console.print(f"[bold]{escape(finding.name)}[/bold]:", highlight=False)
            console.print(f"  {escape(finding.remedy)}", soft_wrap=True, highlight=False)
    console.print(summary(found, purpose), soft_wrap=True, highlight=False)


def _table(findings: Sequence[Finding]) -> Table:
    table = Table()
    for title in ("", "what", "needed by", "found"):
        table.add_column(title, overflow="fold", max_width=24 if title == "needed by" else None)
    for one in findings:
        cells = (one.name, one.needed_by, one.found)
        table.add_row(_VERDICTS[one.verdict], *map(escape, cells))
    return table


def summary(found: Sequence[Finding], purpose: str) -> str:
    """Return the last line: how many of each, and what that means (pure)."""
    bad, doubtful = errors(found), warnings(found)
    well = len(found) - len(bad) - len(doubtful)
    counts = f"{well} ok, {len(doubtful)} warnings, {len(bad)} errors"
    if bad:
        listed = escape(", ".join(finding.name for finding in bad))
        return f"[red]Not fit for {purpose}: {listed}[/red] ({counts})."
    return f"[green]Fit for {purpose}[/green] ({counts})."
