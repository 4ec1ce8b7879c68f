"""``kubeletpy kubelet``: the command line of the kubelet; flags are named as the Go kubelet's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from kubeletpy_common import logs

from .config import (
    DEFAULT_ENDPOINT,
    DEFAULT_ROOT,
    NEEDLESS,
    ConfigurationError,
    Settings,
    address,
    addresses,
    port,
    read_file,
)
from .kubelet import Kubelet, StartError

_log = logging.getLogger(__name__)
_LEVELS = ("error", "warning", "info", "debug")
_DEBUG_VERBOSITY = 4


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", type=Path, help="KubeletConfiguration file (v1beta1, YAML or JSON).")
@click.option("--kubeconfig", type=Path, help="How to reach the API server.")
@click.option("--bootstrap-kubeconfig", type=Path, help="Not yet: how to join a cluster.")
@click.option("--hostname-override", help="Name of the node instead of the host's name.")
@click.option("--node-ip", help="IP address of the node, or one of each family: v4,v6.")
@click.option("--root-dir", type=Path, help=f"Files of the kubelet.  [default: {DEFAULT_ROOT}]")
@click.option("--container-runtime-endpoint", help=f"CRI v1 socket.  [default: {DEFAULT_ENDPOINT}]")
@click.option("--image-service-endpoint", help="CRI socket for images, if it is another.")
@click.option("--pod-manifest-path", type=Path, help="Directory (or file) of static pods, watched.")
@click.option("--pod-logs-dir", type=Path, help="Logs of pods.  [default: /var/log/pods]")
@click.option("--cgroup-root", help="Cgroup under which kubepods is made.  [default: /]")
@click.option(
    "--healthz-port",
    type=int,
    help="Port of /healthz, /pods and /events, 0 for none.  [default: 10248]",
)
@click.option("--healthz-bind-address", help="Address of the same.  [default: 127.0.0.1]")
@click.option("--log-level", type=click.Choice(_LEVELS), default=None, help="Default: info.")
@click.option("-v", "--v", "verbosity", type=int, default=0, help="As Go's: from 4 on, debug.")
@click.option(
    "--terminate-pods-on-exit",
    is_flag=True,
    help="When stopped, end all pods and remove all that is theirs; else they go on running.",
)
def main(
    config: Path | None,
    log_level: str | None,
    verbosity: int,
    terminate_pods_on_exit: bool,
    **flags: Any,
) -> None:
    """Run the pods of this node.

    Stops on SIGTERM or SIGINT; pods go on running, and the next kubelet takes them over.
    """
    logs.configure(log_level or ("debug" if verbosity >= _DEBUG_VERBOSITY else "info"))
    try:
        if flags.pop("bootstrap_kubeconfig"):
            raise ConfigurationError(
                "--bootstrap-kubeconfig: joining by a token comes with a later release; "
                "for now set --kubeconfig"
            )
        settings = settings_of(config, flags)
        clean = asyncio.run(_run(settings, terminate_pods_on_exit))
    except (ConfigurationError, StartError) as error:
        click.echo(f"kubelet: {error}", err=True)
        sys.exit(1)
    sys.exit(0 if clean else 1)


def settings_of(config: Path | None, flags: dict[str, Any]) -> Settings:
    """Return the settings of file and flags; flags that are not given do not count.

    Raises:
        ConfigurationError: one cannot be taken.
    """
    settings = read_file(config) if config is not None else Settings()
    if settings.unsupported:
        logs.event(
            _log, logging.WARNING, "fields of --config that this kubelet does not honour yet",
            fields=list(settings.unsupported), no_need_for=sorted(NEEDLESS),
        )  # fmt: skip
    given = {name: value for name, value in flags.items() if value is not None}
    changes: dict[str, Any] = {}
    for flag, attribute in (
        ("kubeconfig", "kubeconfig"),
        ("hostname_override", "node_name"),
        ("root_dir", "root_dir"),
        ("container_runtime_endpoint", "runtime_endpoint"),
        ("image_service_endpoint", "image_endpoint"),
        ("pod_manifest_path", "static_pod_path"),
        ("pod_logs_dir", "pod_logs_dir"),
        ("cgroup_root", "cgroup_root"),
    ):
        if flag in given:
            changes[attribute] = given[flag]
    if "node_ip" in given:
        changes["node_ips"] = addresses(given["node_ip"], "--node-ip")
    if "healthz_port" in given:
        changes["healthz_port"] = port(given["healthz_port"], "--healthz-port")
    if "healthz_bind_address" in given:
        changes["healthz_address"] = address(
            given["healthz_bind_address"], "--healthz-bind-address"
        )
    settings = replace(settings, **changes)
    for name, path in (
        ("--root-dir", settings.root_dir),
        ("--pod-logs-dir", settings.pod_logs_dir),
    ):
        if not path.is_absolute():
            raise ConfigurationError(f"{name}: {path} is not an absolute path")
    return settings


async def _run(settings: Settings, terminate_pods: bool) -> bool:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        return await Kubelet(settings).run(stop, terminate_pods=terminate_pods)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError):
                loop.remove_signal_handler(number)


if __name__ == "__main__":
    main(prog_name="kubeletpy kubelet")
