"""``kubeletpy proxy``: the command line of the proxy; flags are named as the Go kube-proxy's."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from kubeletpy_common import logs
from kubeletpy_common.atomic import write_atomic
from kubeletpy_common.settings.component_logging import level_of
from kubeletpy_common.settings.durations import ConfigurationError
from kubeletpy_common.settings.flags import BOOL, LIST, MANY

from .backend import SyncError
from .backends import ModeError
from .daemon import Daemon
from .errors import StartError
from .inputs.files import FileError
from .settings import Settings
from .settings.configuration import encode
from .settings.flags import FIELDS, NO_EFFECT, PORTS, settings_of_flags

_log = logging.getLogger(__name__)
KUBERNETES = "v1.36.2"
"""The version of the Go kube-proxy whose place this one takes."""
_LEVELS = ("error", "warning", "info", "debug")

_HELP = {
    "cluster-cidr": "Networks of all pods, one of each family: how traffic of pods is told.",
    "detect-local-mode": "How traffic of this node's pods is told: ClusterCIDR (default), "
    "NodeCIDR, BridgeInterface or InterfaceNamePrefix.",
    "feature-gates": "Feature gates; AllowServiceExternalIPs=false refuses spec.externalIPs.",
    "healthz-bind-address": "Where /healthz and /livez are.  [default: 0.0.0.0:10256]",
    "hostname-override": "Name of this node instead of the host's name.",
    "kubeconfig": "How to reach the API server; without it as a pod does.",
    "masquerade-all": "Source NAT for everything that goes to a cluster IP.",
    "metrics-bind-address": "Where /metrics is.  [default: 127.0.0.1:10249]",
    "nodeport-addresses": "CIDRs of the node's addresses on which node ports answer, or primary.",
    "proxy-mode": "iptables (default) or nftables.",
}
"""Flags that one needs first; all others are in --help-all."""


class _Command(click.Command):
    """A command whose --help tells what one needs first."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, and where the rest are."""
        super().format_options(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text(
            "Every flag of the Go kube-proxy works here, by its name: --help-all lists them."
        )


def _flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags of the table; all values are texts, read where they are checked."""
    for name in sorted(FIELDS.keys() | PORTS.keys() | NO_EFFECT, reverse=True):
        field, kind = FIELDS.get(name, ("", ""))
        options: dict[str, Any] = {"multiple": kind in MANY}
        if kind == BOOL:
            # As in Go: the flag alone means true, --flag=false is possible.
            options = {"is_flag": False, "flag_value": "true"}
        names = ("-v", "--v") if name == "v" else (f"--{name}",)
        command = click.option(
            *names, f"flag_{name.replace('-', '_')}", type=str, default=None,
            help=_HELP.get(name, f"Sets {field} of --config." if field else ""),
            hidden=name not in _HELP, metavar="LIST" if kind == LIST else None, **options,
        )(command)  # fmt: skip
    return command


def _help_all(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value:
        return
    for each in ctx.command.params:
        if isinstance(each, click.Option):
            each.hidden = False
    click.echo(ctx.command.get_help(ctx))
    ctx.exit()


@click.command(
    cls=_Command,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)
@click.option("--config", type=Path, help="KubeProxyConfiguration file (v1alpha1, YAML or JSON).")
@click.option("--master", default="", help="URL of the API server, before the kubeconfig's.")
@click.option(
    "--objects", "--input", type=Path, metavar="PATH",
    help="Take Services, EndpointSlices and Nodes of a file or directory, without a cluster.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Write the rules once and end.")
@click.option("--dry-run", is_flag=True, help="Print the rules that would be written, and end.")
@click.option("--cleanup", is_flag=True, help="Remove all rules of all modes and end.")
@click.option(
    "--enforce-network-policies", is_flag=True,
    help="Enforce NetworkPolicies too, as `kubeletpy policy` does.",
)  # fmt: skip
@click.option(
    "--pod-network", type=click.Choice(("none", "host-gw", "vxlan", "auto")), default="none",
    help="Route between the pods of all nodes too, as `kubeletpy network` does.",
)  # fmt: skip
@click.option("--init-only", is_flag=True, help="Set the sysctls that need root, and end.")
@click.option("--write-config-to", type=Path, help="Write the configuration to a file and end.")
@click.option("--log-level", type=click.Choice(_LEVELS), default=None, help="Default: info.")
@click.option(
    "--help-all", is_flag=True, is_eager=True, expose_value=False, callback=_help_all,
    help="Show every flag and end.",
)  # fmt: skip
@click.version_option(
    metadata.version("kubeletpy"), message=f"Kubernetes {KUBERNETES} (kubeletpy %(version)s)"
)
@_flags
def main(
    config: Path | None,
    master: str,
    objects: Path | None,
    once: bool,
    dry_run: bool,
    cleanup: bool,
    enforce_network_policies: bool,
    pod_network: str,
    init_only: bool,
    write_config_to: Path | None,
    log_level: str | None,
    **flags: Any,
) -> None:
    """Make the Services of a cluster work on this node, by rules in its kernel.

    A Service is an address that no machine has. This daemon watches Services and their endpoints
    and writes rules that lead each connection to one of them.

    \b
    On a node:              kubeletpy proxy --kubeconfig /etc/kubernetes/kube-proxy.conf
    See what it would do:   kubeletpy proxy --kubeconfig FILE --dry-run
    Without a cluster:      kubeletpy proxy --objects services.yaml --dry-run
    Remove its rules:       kubeletpy proxy --cleanup

    It stops on SIGTERM or SIGINT; rules stay, and the next proxy takes them over.
    """
    logs.configure(log_level or "info")
    given = {
        name.removeprefix("flag_").replace("_", "-"): value
        for name, value in flags.items()
        if value not in (None, ())
    }
    try:
        settings = settings_of_flags(config, given, master)
        if log_level is None:
            logs.configure(level_of(settings.configuration.logging.verbosity))
        if write_config_to is not None:
            _write_config(settings, write_config_to)
            return
        for name, wanted in (
            ("--enforce-network-policies", enforce_network_policies),
            ("--pod-network", pod_network != "none"),
        ):
            if wanted and objects is not None:
                raise StartError(f"{name} needs an API server, not --objects")
        _tell(settings, given)
        daemon = Daemon(
            settings, objects, policies=enforce_network_policies, pod_network=pod_network
        )
        if cleanup:
            daemon.clean_up()
        elif init_only:
            daemon.set_up_kernel()
        elif dry_run:
            click.echo(asyncio.run(daemon.plan()))
        elif once:
            asyncio.run(daemon.once())
        else:
            asyncio.run(daemon.run())
    except (ConfigurationError, StartError, ModeError, SyncError, FileError) as error:
        click.echo(f"kube-proxy: {error}", err=True)
        sys.exit(1)


def _write_config(settings: Settings, path: Path) -> None:
    import yaml

    text = yaml.safe_dump(encode(settings.configuration), sort_keys=True)
    try:
        write_atomic(path, text)
    except OSError as error:
        raise StartError(f"--write-config-to {path}: {error.strerror}") from None


def _tell(settings: Settings, given: dict[str, Any]) -> None:
    """Say once what was set and has no effect."""
    for name, reason in settings.unsupported.items():
        logs.event(
            _log, logging.WARNING, "a field that is set and has no effect here", field=name,
            reason=reason,
        )  # fmt: skip
    if settings.overridden:
        logs.event(
            _log, logging.WARNING, "flags that do not count beside --config",
            flags=list(settings.overridden),
        )  # fmt: skip
    if idle := sorted(given.keys() & NO_EFFECT):
        logs.event(_log, logging.INFO, "flags that have no effect here", flags=idle)
