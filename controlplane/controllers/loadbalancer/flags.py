"""Flags of the controller of load balancers."""

from __future__ import annotations

from collections.abc import Callable

import click


def balancer_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command."""
    for name, text in (
        ("--load-balancer-interface",
         "Link of this machine that answers for these addresses; none: others announce them."),
        ("--load-balancer-pool",
         "Networks and ranges, with commas, of which Services of type LoadBalancer get addresses."),
    ):  # fmt: skip
        command = click.option(name, default="", help=text)(command)
    return command
