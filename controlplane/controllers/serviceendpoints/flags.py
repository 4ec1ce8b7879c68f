"""Flags of the controllers of endpoints, named as those of kube-controller-manager."""

from __future__ import annotations

from collections.abc import Callable

import click

from controlplane.engine.flags import Duration


def endpoint_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command."""
    counts = (
        ("--max-endpoints-per-slice", 100, "Endpoints of an EndpointSlice."),
        ("--mirroring-max-endpoints-per-subset", 1000,
         "Addresses of a subset of Endpoints that are mirrored."),
    )  # fmt: skip
    periods = (
        ("--endpoint-updates-batch-period", "How long changes of pods are gathered before "
         "Endpoints are written."),
        ("--endpointslice-updates-batch-period", "The same for EndpointSlices."),
        ("--mirroring-endpointslice-updates-batch-period", "The same for mirrored EndpointSlices."),
    )  # fmt: skip
    for name, text in reversed(periods):
        command = click.option(
            name, type=Duration(), default="0s", show_default=True, help=text
        )(command)  # fmt: skip
    for name, default, text in reversed(counts):
        command = click.option(
            name, type=click.IntRange(1, 1000), default=default, show_default=True, help=text
        )(command)
    return command
