"""Flags of the autoscaler, named as kube-controller-manager's."""

from __future__ import annotations

from collections.abc import Callable

import click

from controlplane.engine.flags import Duration


def autoscaler_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command."""
    prefix = "--horizontal-pod-autoscaler"
    options = [
        click.option("--concurrent-horizontal-pod-autoscaler-syncs", type=click.IntRange(1),
                     default=5, show_default=True, help="Autoscalers looked at, at once."),
        click.option(f"{prefix}-sync-period", type=Duration(), default="15s", show_default=True,
                     help="Between two looks at an autoscaler."),
        click.option(f"{prefix}-downscale-stabilization", type=Duration(), default="5m",
                     show_default=True, help="It never scales below what it recommended in it."),
        click.option(f"{prefix}-tolerance", type=click.FloatRange(0), default=0.1,
                     show_default=True, help="Of usage to target, from 1.0: nothing is done."),
        click.option(f"{prefix}-cpu-initialization-period", type=Duration(), default="5m",
                     show_default=True, help="After a start: CPU may not count yet."),
        click.option(f"{prefix}-initial-readiness-delay", type=Duration(), default="30s",
                     show_default=True, help="After a start: unreadiness is part of it."),
        click.option(f"{prefix}-scale-to-zero/--no{prefix.removeprefix('-')}-scale-to-zero",
                     default=False, show_default=True, help="As the feature gate HPAScaleToZero "
                     "of the Go peer."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command
