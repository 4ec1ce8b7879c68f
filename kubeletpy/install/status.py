"""``kubeletpy install status``: services, versions, the node."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from rich.console import Console
from rich.table import Table

from kubeletpy.install import places, server, systemd, units
from kubeletpy.install.errors import InstallError
from kubeletpy.install.installation import NodeInstallation
from kubeletpy_common.apiclient.client import object_path
from kubeletpy_common.apiclient.errors import ApiError

_SECONDS = 10.0


@dataclass(frozen=True)
class Service:
    """A service as it is now.

    Attributes:
        unit: its name.
        state: active, activating, failed, inactive.
        pid: of its main process; 0: none.
        since: when it became so.
        restarts: by systemd, since it was started.
        memory: bytes of all of its processes; None: not known.
        status: what it says of itself.
    """

    unit: str
    state: str
    pid: int
    since: str
    restarts: int
    memory: int | None
    status: str


@dataclass(frozen=True)
class Status:
    """An installation as it is now."""

    role: str
    version: str
    program: str
    services: tuple[Service, ...]
    node: str
    ready: bool
    reason: str

    @property
    def well(self) -> bool:
        """Whether all runs."""
        return all(one.state == "active" for one in self.services) and (self.ready or not self.node)


def look(one: NodeInstallation) -> Status:
    """Return how an installation is now.

    Raises:
        InstallError: systemd cannot be asked.
    """
    services = tuple(_service(name) for name in units.names(one))
    reason = ""
    if one.runs_pods:
        reason = asyncio.run(_node(one))
    program = os.path.realpath(one.program[0])
    return Status(one.role, metadata.version("kubeletpy"), program, services,
                  one.node_name if one.runs_pods else "", not reason, reason)  # fmt: skip


def _service(name: str) -> Service:
    found = systemd.show(
        name, "ActiveState", "MainPID", "StateChangeTimestamp", "NRestarts", "MemoryCurrent",
        "StatusText",
    )  # fmt: skip
    memory = found.get("MemoryCurrent", "")
    return Service(
        unit=name,
        state=found.get("ActiveState", "unknown"),
        pid=int(found.get("MainPID") or 0),
        since=found.get("StateChangeTimestamp", ""),
        restarts=int(found.get("NRestarts") or 0),
        memory=int(memory) if memory.isdigit() and len(memory) < 19 else None,
        status=found.get("StatusText", ""),
    )


async def _node(one: NodeInstallation) -> str:
    path = places.ADMIN if one.server else one.credentials
    try:
        async with server.client_of(path) as client:
            return server.node_ready(
                await client.get(object_path("v1", "nodes", "", one.node_name), timeout=_SECONDS)
            )
    except (ApiError, InstallError) as error:
        return str(error)


def as_json(status: Status) -> dict[str, Any]:
    """Return it as plain data."""
    return {**asdict(status), "well": status.well}


def show(status: Status, console: Console) -> None:
    """Print it for people."""
    table = Table(title=f"kubeletpy {status.version}, installed as a {status.role}",
                  title_justify="left")  # fmt: skip
    for head in ("service", "state", "pid", "since", "restarts", "memory", "says"):
        table.add_column(head, overflow="fold")
    for one in status.services:
        color = {"active": "green", "failed": "red"}.get(one.state, "yellow")
        memory = f"{one.memory / 2**20:.0f} MiB" if one.memory is not None else ""
        table.add_row(one.unit, f"[{color}]{one.state}[/{color}]", str(one.pid or ""), one.since,
                      str(one.restarts), memory, one.status)  # fmt: skip
    console.print(table)
    console.print(f"program: {status.program}", highlight=False)
    if status.node:
        word = "[green]Ready[/green]" if status.ready else "[red]not Ready[/red]"
        console.print(f"node {status.node}: {word} {status.reason}".rstrip(), highlight=False)
