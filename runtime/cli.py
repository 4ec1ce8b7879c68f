"""The command line of the container runtime."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from runtime.config import Config, ConfigError, load_config

_EPILOG = """
\b
Examples:
  Serve on the default socket, with everything in its default place:
    kubeletpy runtime
  See whether this machine can run pods, without starting anything:
    kubeletpy runtime --check
  A second runtime beside the first; its config file names another bridge and subnets:
    kubeletpy runtime --config second.toml --address unix:///run/second/runtime.sock \\
        --root /var/lib/second --state /run/second

\b
A config file holds the same settings and more; every key is optional:
  address = "unix:///run/kubeletpy/runtime.sock"
  log_level = "info"
  default_runtime = "kubeletpy"    # of pods that name no runtime handler; this is the built-in one
  [network]
  bridge = "kubeletpy0"
  subnet_v4 = "10.88.0.0/16"
  subnet_v6 = "fd88::/64"          # "" for IPv4 only
  from_node = true                 # subnets of Node.spec.podCIDRs instead
  no_masquerade = ["10.244.0.0/16"]         # pods of all nodes
  [cni]
  conf_dir = "/etc/cni/net.d"      # its plugins instead of the network above
  [images]
  config_path = "/etc/containerd/certs.d"   # <registry>/hosts.toml: mirrors, TLS
  pinned = ["registry.example/base:*"]
  [registries."registry.example:5000"]      # or in few words here
  plain_http = true
  [runtimes.runc]                  # an OCI runtime, by the name of its handler
  path = "/usr/sbin/runc"
  [sysctls]
  allowed_unsafe = ["net.core.somaxconn"]

It has to run as root. Stopped by SIGTERM it leaves the pods running and exits with 0; the next
start takes them over. Exit code 1: it could not start, and one line on stderr says why.
"""


@click.command(
    name="kubeletpy runtime",
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file with settings; flags win over it.",
)
@click.option(
    "--address", metavar="URL", help=f"Where to serve CRI v1.  [default: {Config().address}]"
)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help=f"Images and what else survives a reboot.  [default: {Config().root}]",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help=f"Sockets and directories of running pods.  [default: {Config().state}]",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help=f"How much to log, as JSON lines on stderr.  [default: {Config().log_level}]",
)
@click.option(
    "--cgroup-driver",
    type=click.Choice(["cgroupfs", "systemd"]),
    help="Who makes cgroups; a kubelet has to use the same and asks for it.  "
    f"[default: {Config().cgroups.driver}]",
)
@click.option(
    "--cni-conf-dir",
    type=click.Path(path_type=str),
    metavar="DIR",
    help="Where CNI configuration lists are, such as /etc/cni/net.d. While there is one, pods get "
    "their network by its plugins.  [default: none, the built-in network serves]",
)
@click.option(
    "--cni-bin-dir",
    type=click.Path(path_type=str),
    metavar="DIR",
    multiple=True,
    help="Where CNI plugins are; can be given more than once.  "
    f"[default: {', '.join(Config().cni.bin_dirs)}]",
)
@click.option(
    "--registry-config-dir",
    type=click.Path(path_type=str),
    metavar="DIR",
    help="Where hosts.toml files of registries are, as containerd has them; several, separated by "
    f"colons.  [default: {Config().images.config_path}]",
)
@click.option(
    "--check", is_flag=True, help="Only look whether this machine can run pods; exit code 1 if not."
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Form of the result of --check.",
)
def main(
    config_file: Path | None,
    address: str | None,
    root: Path | None,
    state: Path | None,
    log_level: str | None,
    cgroup_driver: str | None,
    cni_conf_dir: str | None,
    cni_bin_dir: tuple[str, ...],
    registry_config_dir: str | None,
    check: bool,
    output: str,
) -> None:  # fmt: skip
    """Run the container runtime: serve the Kubernetes Container Runtime Interface.

    A kubelet (ours or any other), crictl or a program of yours connects to --address and asks it
    to pull images and to run pods.
    """
    overrides = {
        "address": address,
        "root": root,
        "state": state,
        "log_level": log_level,
        "cgroups": {"driver": cgroup_driver},
        "cni": {"conf_dir": cni_conf_dir, "bin_dirs": cni_bin_dir or None},
        "images": {"config_path": registry_config_dir},
    }
    try:
        config = load_config(config_file, overrides)
    except ConfigError as error:
        _fail(str(error))
    if check:
        _check(config, output)
        return
    # The daemon's libraries cost a good part of a second; help and errors come without them.
    from runtime.daemon import DaemonError, serve
    from runtime.preflight import MissingRequirementError

    try:
        serve(config)
    except (DaemonError, MissingRequirementError) as error:
        _fail(str(error))


def _check(config: Config, output: str) -> None:
    from runtime.preflight import check_state, run_checks

    found = [*run_checks(config), check_state(config)]
    if output == "json":
        click.echo(json.dumps([asdict(item) for item in found]))
    else:
        for item in found:
            remedy = "" if item.ok or not item.remedy else f"; {item.remedy}"
            click.echo(f"{'ok' if item.ok else 'MISSING':8} {item.name:14} {item.detail}{remedy}")
    if not all(item.ok for item in found):
        sys.exit(1)


def _fail(text: str) -> None:
    line = " ".join(text.split())
    click.echo(f"kubeletpy runtime: {line}", err=True)
    sys.exit(1)
