"""Flags of the metrics server, named as metrics-server's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from controlplane.engine.flags import Duration
from controlplane.flags import ADDRESS, TYPES
from controlplane.options import ADDRESS_TYPES

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def metrics_flags(prefix: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds the flags to a command.

    Args:
        prefix: of those that other parts of a process could have as well: ``metrics-``.
    """
    options = [
        click.option("--metric-resolution", type=Duration(), default="15s", show_default=True,
                     help="Between two questions to each kubelet and pod."),
        click.option(f"--{prefix}bind-address", "metrics_bind_address", type=ADDRESS,
                     default="0.0.0.0", show_default=True, help="That is listened on."),
        click.option(f"--{prefix}secure-port", "metrics_secure_port",
                     type=click.IntRange(0, 65535), default=4443, show_default=True,
                     help="TCP port of metrics APIs; 0: any that is free."),
        click.option(f"--{prefix}advertise-address", "metrics_advertise_address", type=ADDRESS,
                     help="That the API server reaches the metrics APIs by."),
        click.option(f"--{prefix}tls-cert-file", "metrics_tls_cert_file", type=_FILE,
                     help="Certificate of them; without one it is made at each start."),
        click.option(f"--{prefix}tls-private-key-file", "metrics_tls_private_key_file",
                     type=_FILE, help="Its key."),
        click.option("--kubelet-insecure-tls", is_flag=True,
                     help="Certificates of kubelets are not looked at."),
        click.option("--kubelet-certificate-authority", type=_FILE,
                     help="Signs the certificates of kubelets."),
        click.option("--kubelet-preferred-address-types", type=TYPES,
                     default=",".join(ADDRESS_TYPES), show_default=True,
                     help="Addresses of a node, the best first."),
        click.option("--kubelet-port", type=click.IntRange(0, 65535), default=0,
                     show_default=True, help="Of all kubelets; 0: as their nodes' statuses say."),
        click.option(f"--register{'-metrics' if prefix else ''}/--no-register"
                     f"{'-metrics' if prefix else ''}", "register_metrics", default=True,
                     show_default=True, help="Keep APIServices, a Service and its endpoint."),
    ]  # fmt: skip

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
