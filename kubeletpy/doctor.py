"""``kubeletpy doctor``: what this machine must have, what it lacks, and how to mend that."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import click
from rich.console import Console
from rich.table import Table

from kubeletpy import debian
from kubeletpy_common import cgroups

_CHECK_SECONDS = 60


@dataclass(frozen=True)
class Requirement:
    """One thing that the machine must or should have.

    Attributes:
        needed_by: ``runtime``, ``kubelet`` or ``up``.
        name: what it is.
        ok: whether it is there.
        required: without it nothing of ``needed_by`` works; else only a part is lost.
        found: what was seen, or why it counts as missing.
        remedy: what to do when it is missing.
    """

    needed_by: str
    name: str
    ok: bool
    required: bool
    found: str
    remedy: str


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    help="A table for people, or JSON for programs.",
)
def doctor(output: str) -> None:
    """Check what this machine has of all that is needed.

    Ends with 1 when something required is missing.
    """
    found = examine()
    if output == "json":
        click.echo(json.dumps([asdict(requirement) for requirement in found], indent=2))
    else:
        console = Console()
        console.print(_table(found))
        console.print(_verdict(found))
    sys.exit(0 if not lacking(found) else 1)


def examine() -> list[Requirement]:
    """Return all requirements, looked at now."""
    return [*_runtime_checks(), _cgroups(), *_packages()]


def lacking(requirements: Iterable[Requirement]) -> list[Requirement]:
    """Return what is required and missing."""
    return [item for item in requirements if item.required and not item.ok]


def _cgroups() -> Requirement:
    remedy = "mount cgroup2 on /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1"
    try:
        hierarchy = cgroups.detect()
        found = f"v{hierarchy.version}: {' '.join(sorted(hierarchy.controllers()))}"
    except (cgroups.CgroupError, OSError) as error:
        return Requirement("kubelet", "cgroup controllers", False, True, str(error), remedy)
    return Requirement("kubelet", "cgroup controllers", True, True, found, remedy)


def _packages() -> list[Requirement]:
    absent = debian.missing(debian.TOUR)
    return [
        Requirement(
            "up",
            package.name,
            package not in absent,
            False,
            package.why,
            f"apt-get install {package.name} (`kubeletpy up` does it by itself)",
        )
        for package in debian.TOUR
    ]


def _runtime_checks() -> list[Requirement]:
    """Return what the runtime says of its own requirements; it knows them best."""
    command = [sys.executable, "-P", "-m", "runtime", "--check", "-o", "json"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_CHECK_SECONDS, check=False
        )
        return [
            Requirement(
                "runtime",
                str(entry["name"]),
                bool(entry["ok"]),
                True,
                str(entry["detail"]),
                str(entry["remedy"]),
            )
            for entry in json.loads(done.stdout)
        ]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        reason = f"`{' '.join(command)}` gave no result: {error}"
        remedy = "run that command to see why"
        return [Requirement("runtime", "its own checks", False, True, reason, remedy)]


def _table(requirements: Iterable[Requirement]) -> Table:
    table = Table(title="What kubeletpy needs of this machine", title_justify="left")
    for name in ("needed by", "what", "", "found", "how to mend it"):
        table.add_column(name, overflow="fold")
    for item in requirements:
        if item.ok:
            verdict = "[green]ok[/green]"
        else:
            verdict = "[red]missing[/red]" if item.required else "[yellow]missing[/yellow]"
        row = (item.needed_by, item.name, verdict, item.found, "" if item.ok else item.remedy)
        table.add_row(*row)
    return table


def _verdict(requirements: Iterable[Requirement]) -> str:
    absent = lacking(requirements)
    if not absent:
        return "[green]All that is required is there.[/green]"
    return f"[red]Missing: {', '.join(item.name for item in absent)}.[/red]"
