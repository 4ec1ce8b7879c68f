"""Flags of the provisioner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import click

DEFAULT_ROOT: Final = "/var/lib/kubeletpy/storage"
"""Where the directories of volumes are by default."""


def volume_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command."""
    command = click.option(
        "--host-path-class",
        default="",
        help="Storage class of such volumes that is made at the start, if it is not there.",
    )(command)
    return click.option(
        "--host-path-root",
        default=DEFAULT_ROOT,
        show_default=True,
        help="Directory below which volume-provisioner makes volumes of this machine.",
    )(command)
