"""Flags of the controller of load balancers."""

from __future__ import annotations

from collections.abc import Callable

import click

from .pool import Pool, PoolError


def _pool(_: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        Pool.parse(value)
    except PoolError as error:
        raise click.BadParameter(str(error), param=parameter) from None
    return value


def balancer_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command."""
    for name, text in (
        ("--load-balancer-interface",
         "Link of this machine that answers for these addresses; none: others announce them."),
        ("--load-balancer-pool",
         "Networks and ranges, with commas, of which Services of type LoadBalancer get addresses."),
    ):  # fmt: skip
        check = _pool if name.endswith("pool") else None
        command = click.option(name, default="", callback=check, help=text)(command)
    return command
