"""Options that `kubeletpy install server` and `kubeletpy install node` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click


def words(text: str | None) -> tuple[str, ...] | None:
    """Return the parts of a list with commas; None for None."""
    if text is None:
        return None
    return tuple(part.strip() for part in text.split(",") if part.strip())


_PATH: Final = click.Path(path_type=Path)
_HOW: Final = (
    click.option("--dry-run", is_flag=True, help="Print what would be written and run, and end."),
    click.option("--no-start", is_flag=True, help="Write everything, start nothing."),
    click.option("--root", type=_PATH, default=Path("/"), help="Write below this directory, as for "
                 "an image of a machine; means --no-start."),
    click.option("--overwrite", is_flag=True, help="Write files that were changed here, too."),
    click.option("--skip-checks", is_flag=True, help="Install although `kubeletpy doctor` finds "
                 "that something required is missing."),
    click.option("--timeout", "seconds", type=click.FloatRange(1), default=300.0,
                 show_default=True, help="Seconds for each service, and the node, to get ready."),
    click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table",
                 show_default=True, help="Form of the result on stdout."),
)  # fmt: skip
_NODE: Final = (
    click.option("--node-name", help="Of the Node; the host's name."),
    click.option("--node-ip", help="Address of the node, or one of each family: v4,v6."),
    click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="The node is "
                 "registered with it; may be given again."),
    click.option("--taint", "taints", multiple=True, metavar="KEY[=VALUE]:EFFECT",
                 help="Likewise."),
    click.option("--runtime-endpoint", help="CRI socket of another runtime, such as "
                 "unix:///run/containerd/containerd.sock; ours is not installed then."),
    click.option("--cgroup-driver", type=click.Choice(["systemd", "cgroupfs"]), help="systemd "
                 "where it is PID 1 and cgroups are of version 2."),
    click.option("--proxy/--no-proxy", default=None, help="Install the service proxy, or not: the "
                 "cluster has one.  [default: proxy]"),
    click.option("--proxy-mode", type=click.Choice(["nftables", "iptables"])),
    click.option("--pod-network", type=click.Choice(["auto", "host-gw", "vxlan", "none"]),
                 help="How pods of other nodes are reached.  [default: auto]"),
    click.option("--program", help="How services start this command.  [default: as it was "
                 "installed]"),
)  # fmt: skip

Command = Callable[..., Any]


def how(command: Command) -> Command:
    """Add the options that say how it goes."""
    return _with(command, _HOW)


def node(command: Command) -> Command:
    """Add the options of a node."""
    return _with(command, _NODE)


def _with(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
