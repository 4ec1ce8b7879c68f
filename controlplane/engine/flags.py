"""Flags that every process of controllers has, named as those of the Go peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from controlplane.operation.durations import parse_duration
from kubeletpy_common import logs

from .election import Times
from .host import Settings

LEVELS: Final = ("error", "warning", "info", "debug")
_DEBUG: Final = 4


class Duration(click.ParamType[float]):
    """A duration as Go writes it (``1m30s``), in seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds; not negative."""
        try:
            seconds = value if isinstance(value, float) else parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds < 0:
            self.fail(f"{value} is less than nothing", param, ctx)
        return seconds


def host_flags(port: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds the flags to a command.

    Args:
        port: default of ``--secure-port``'s counterpart, where health and metrics are.
    """
    options = [
        click.option("--kubeconfig", default="", help="How to reach the API server; without it as "
                     "a pod does."),
        click.option("--master", default="", help="URL of the API server, before the "
                     "kubeconfig's."),
        click.option("--kube-api-qps", type=float, default=0.0, show_default=True,
                     help="Requests a second; 0: as many as the server takes."),
        click.option("--kube-api-burst", type=int, default=100, show_default=True,
                     help="Requests at once, with --kube-api-qps."),
        click.option("--leader-elect", type=bool, is_flag=False, flag_value="true", default=True,
                     show_default=True, help="Of several processes only one works."),
        click.option("--no-leader-elect", is_flag=True, help="The same as --leader-elect=false."),
        click.option("--leader-elect-lease-duration", type=Duration(), default="15s",
                     show_default=True, help="How long others wait for a leader that is alone."),
        click.option("--leader-elect-renew-deadline", type=Duration(), default="10s",
                     show_default=True, help="After which a leader that cannot renew gives up."),
        click.option("--leader-elect-retry-period", type=Duration(), default="2s",
                     show_default=True, help="Between attempts."),
        click.option("--leader-elect-resource-namespace", default="kube-system",
                     show_default=True, help="Of the lease."),
        click.option("--leader-elect-resource-name", default="", help="Of the lease."),
        click.option("--healthz-bind-address", default="127.0.0.1", show_default=True,
                     help="Where /healthz, /readyz and /metrics are, by HTTP."),
        click.option("--healthz-port", type=click.IntRange(-1, 65535), default=port,
                     show_default=True, help="0: any that is free; -1: nowhere."),
        click.option("--v", "verbosity", type=int, default=0, help="4 and more is "
                     "--log-level=debug."),
        click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True,
                     help="What is logged, as JSON, on standard error."),
    ]  # fmt: skip

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def settings_of(component: str, given: dict[str, Any]) -> Settings:
    """Return the settings that the flags say, and set up logging.

    Args:
        component: name of the process.
        given: values of all flags; those of `host_flags` are taken out of it, the rest becomes
            ``options``.
    """
    alone = given.pop("no_leader_elect")
    debug = given.pop("verbosity") >= _DEBUG
    logs.configure("debug" if debug else given.pop("log_level"))
    given.pop("log_level", None)
    return Settings(
        component=component,
        kubeconfig=given.pop("kubeconfig"),
        master=given.pop("master"),
        rate=given.pop("kube_api_qps"),
        burst=given.pop("kube_api_burst"),
        elect=given.pop("leader_elect") and not alone,
        times=Times(
            given.pop("leader_elect_lease_duration"),
            given.pop("leader_elect_renew_deadline"),
            given.pop("leader_elect_retry_period"),
        ),
        lease_namespace=given.pop("leader_elect_resource_namespace"),
        lease_name=given.pop("leader_elect_resource_name"),
        address=given.pop("healthz_bind_address"),
        port=given.pop("healthz_port"),
        options=given,
    )
