"""Flags of the Ingress controller."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from .controller import RUN_DIRECTORY


def _addresses(_: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    words = [word.strip() for word in value.split(",") if word.strip()]
    try:
        return tuple(str(ipaddress.ip_address(word)) for word in words)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None


_PORT: Final = click.IntRange(1, 65535)
_TEXTS: Final = (
    ("nginx", "ingress_nginx", "nginx", "Program; on Debian of the package nginx-light."),
    (
        "nginx-user",
        "ingress_user",
        "www-data",
        "That its workers run as; empty: as this process, which is then not root.",
    ),
)
_PORTS: Final = (
    ("http-port", 80, "Of HTTP."),
    ("https-port", 443, "Of HTTPS."),
)


def ingress_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command."""
    options = [
        click.option("--ingress-addresses", default="0.0.0.0,::", show_default=True,
                     callback=_addresses, help="Of this machine, where it listens."),
        *(
            click.option(f"--ingress-{name}", type=_PORT, default=port, show_default=True,
                         help=text)
            for name, port, text in _PORTS
        ),
        click.option("--ingress-publish-addresses", default="", callback=_addresses,
                     help="Written into the status of Ingresses: where clients reach it."),
        click.option("--ingress-run-dir", "ingress_directory", type=Path, default=RUN_DIRECTORY,
                     show_default=True, help="Its own: keys and configuration."),
        *(
            click.option(f"--ingress-{name}", variable, default=default, show_default=True,
                         help=text)
            for name, variable, default, text in _TEXTS
        ),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command
