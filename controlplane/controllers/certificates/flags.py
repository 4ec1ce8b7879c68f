"""Flags of the signer, as kube-controller-manager has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from controlplane.engine.flags import Duration


def check_signer_flags(given: dict[str, Any]) -> None:
    """Refuse half of an authority.

    Raises:
        click.UsageError: one of two files is named.
    """
    if bool(given["cluster_signing_cert_file"]) != bool(given["cluster_signing_key_file"]):
        raise click.UsageError("--cluster-signing-cert-file and --cluster-signing-key-file: both "
                               "or none")  # fmt: skip


def signer_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command."""
    command = click.option(
        "--cluster-signing-duration",
        type=Duration(),
        default="8760h0m0s",
        show_default=True,
        help="The longest life of what is signed.",
    )(command)
    for name, what in (("key", "Key of it."), ("cert", "Authority that signs approved requests; "
                       "without it nothing is signed.")):  # fmt: skip
        command = click.option(f"--cluster-signing-{name}-file", default="", help=what)(command)
    return command
