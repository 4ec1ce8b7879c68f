"""Flags of the controllers of nodes, named as kube-controller-manager's."""

from __future__ import annotations

from collections.abc import Callable

import click

from controlplane.engine.flags import Duration


def node_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command."""
    options = [
        click.option("--node-monitor-grace-period", type=Duration(), default="50s",
                     show_default=True, help="After which a node that is silent is lost."),
        click.option("--node-startup-grace-period", type=Duration(), default="1m0s",
                     show_default=True, help="The same for a node that never spoke."),
        click.option("--node-eviction-rate", type=click.FloatRange(0), default=0.1,
                     show_default=True, help="Lost nodes of a zone that are emptied a second."),
        click.option("--secondary-node-eviction-rate", type=click.FloatRange(0), default=0.01,
                     show_default=True, help="The same in a zone of which many are lost."),
        click.option("--large-cluster-size-threshold", type=click.IntRange(0), default=50,
                     show_default=True, help="Nodes from which on the secondary rate is not 0."),
        click.option("--unhealthy-zone-threshold", type=click.FloatRange(0, 1), default=0.55,
                     show_default=True, help="Share of lost nodes that is many."),
        click.option("--terminated-pod-gc-threshold", type=int, default=12500, show_default=True,
                     help="Pods that ended which are kept; 0: all."),
        click.option("--allocate-node-cidrs/--no-allocate-node-cidrs", default=False,
                     show_default=True, help="Give each node its range of pod addresses."),
        click.option("--cluster-cidr", default="", help="Ranges of all pods, one for each family."),
        click.option("--service-cluster-ip-range", default="", help="Ranges of Services, which no "
                     "node gets."),
        click.option("--node-cidr-mask-size", type=click.IntRange(0, 128), default=0,
                     help="Bits of a node's range, for one family."),
        click.option("--node-cidr-mask-size-ipv4", type=click.IntRange(0, 32), default=0,
                     help="Bits of a node's IPv4 range; 0: 24."),
        click.option("--node-cidr-mask-size-ipv6", type=click.IntRange(0, 128), default=0,
                     help="Bits of a node's IPv6 range; 0: 64."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command
