"""Flags of the Ingress controller."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path

import click

from .controller import RUN_DIRECTORY


def _addresses(_: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    words = [word.strip() for word in value.split(",") if word.strip()]
    try:
        return tuple(str(ipaddress.ip_address(word)) for word in words)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None


def ingress_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command."""
    options = [
        click.option("--ingress-addresses", "ingress_addresses", default="0.0.0.0,::", show_default=True,
                      callback=_addresses, help="Of this machine, where it listens."),
        click.option("--ingress-http-port", "ingress_http_port", type=click.IntRange(1, 65535), default=80,
                      show_default=True, help="Of HTTP."),
        click.option("--ingress-https-port", "ingress_https_port", type=click.IntRange(1, 65535), default=443,
                      show_default=True, help="Of HTTPS."),
        click.option("--ingress-publish-addresses", "ingress_publish_addresses", default="", callback=_addresses,
                      help="Written into the status of Ingresses: where clients reach it."),
        click.option("--ingress-run-dir", "ingress_directory", type=Path, default=RUN_DIRECTORY,
                      show_default=True, help="Its own: keys and configuration."),
        click.option("--ingress-nginx", "ingress_nginx", default="nginx", show_default=True,
                      help="Program; on Debian of the package nginx-light."),
        click.option("--ingress-nginx-user", "ingress_user", default="www-data", show_default=True,
                      help="That its workers run as."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command
