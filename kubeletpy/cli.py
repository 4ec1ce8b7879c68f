"""The command ``kubeletpy``: one subcommand for each thing that runs."""

from __future__ import annotations

import importlib
import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from typing import NoReturn

import click
from click.shell_completion import CompletionItem, get_completion_class

_COMPLETION = 30.0
"""Seconds that a daemon has to say its flags."""
# Imported when asked for: what they need takes a daemon's start half a second to load.
_LAZY = {
    "cri": ("kubeletpy.cri_cli.commands", "cri_group"),
    "doctor": ("kubeletpy.doctor.command", "doctor"),
    "image": ("kubeletpy.cri_cli.images", "image_group"),
    "install": ("kubeletpy.install.command", "install"),
    "kubeconfig": ("kubeletpy.joining.kubeconfig_command", "kubeconfig_command"),
    "package": ("kubeletpy.packaging.command", "package"),
    "token": ("kubeletpy.joining.command", "token_group"),
    "uninstall": ("kubeletpy.install.uninstall", "uninstall"),
    "up": ("kubeletpy.up.command", "up"),
    "why": ("kubeletpy.why.command", "why"),
}


class _Commands(click.Group):
    """The subcommands, some of them loaded at their first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, sorted."""
        return sorted([*super().list_commands(ctx), *_LAZY])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of a name, None if there is none."""
        if cmd_name not in _LAZY:
            return super().get_command(ctx, cmd_name)
        module, name = _LAZY[cmd_name]
        command = getattr(importlib.import_module(module), name)
        return command if isinstance(command, click.Command) else None


class _Daemon(click.Command):
    """A subcommand that is a daemon: it gets every argument as it is, ``--help`` included."""

    def __init__(self, name: str, module: str, text: str) -> None:
        super().__init__(name, help=text, add_help_option=False)
        self._module = module

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave all arguments to the daemon."""
        ctx.args = list(args)
        return ctx.args

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Ask the daemon: it alone knows its flags."""
        name = f"kubeletpy {self.name}"
        words = [name, *ctx.args, incomplete]
        environment = {
            **os.environ,
            f"_{name.upper()}_COMPLETE": "bash_complete",
            "COMP_WORDS": shlex.join(words),
            "COMP_CWORD": str(len(words) - 1),
        }
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", self._module], env=environment, timeout=_COMPLETION,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return []
        lines = (line.partition(",") for line in done.stdout.splitlines())
        return [CompletionItem(value, type=kind) for kind, _, value in lines]

    def invoke(self, ctx: click.Context) -> NoReturn:
        """Replace this process by the daemon; nothing of ours stays in it.

        ``-P``: a folder of the module's name in the working directory is not run in its place.
        """
        os.execv(sys.executable, [sys.executable, "-P", "-m", self._module, *ctx.args])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(metadata.version("kubeletpy"), prog_name="kubeletpy")
def main() -> None:
    """A Kubernetes node in Python: kubelet, container runtime and proxy.

    \b
    See it work, as root:      kubeletpy up
    What this machine lacks:   kubeletpy doctor
    What runs here:            kubeletpy cri ps
    Why a pod does not run:    kubeletpy why POD

    Each daemon is a process of its own and speaks its peers' protocols, so it can be replaced by
    its Go peer: the kubelet works with any CRI v1 socket, the runtime serves any CRI v1 client.

    \b
    By hand, in two terminals:
      kubeletpy runtime --address unix:///run/kubeletpy/runtime.sock
      kubeletpy kubelet --container-runtime-endpoint unix:///run/kubeletpy/runtime.sock \\
                        --pod-manifest-path /etc/kubernetes/manifests
    Then put a pod manifest, such as examples/web.yaml, into that directory.
    """


main.add_command(_Daemon("runtime", "runtime", "Run the container runtime."))
main.add_command(_Daemon("kubelet", "kubeletpy.kubelet_main", "Run the kubelet."))
main.add_command(_Daemon("apiserver", "controlplane", "Run the API server of one machine."))
main.add_command(_Daemon("proxy", "proxy", "Run the service proxy."))
main.add_command(_Daemon("ingress", "controlplane.ingress", "Serve Ingresses by an nginx."))
main.add_command(_Daemon("network", "proxy.podnetwork", "Route between the pods of all nodes."))
main.add_command(_Daemon("policy", "proxy.policy", "Enforce NetworkPolicies on this node."))
main.add_command(
    _Daemon("controllers", "controlplane.controllers", "Run the controllers of a cluster.")
)
main.add_command(
    _Daemon("metrics", "controlplane.metrics_server", "Serve what nodes and pods use.")
)
main.add_command(_Daemon("scheduler", "controlplane.scheduler", "Run the scheduler of a cluster."))
main.add_command(_Daemon("dns", "controlplane.dns", "Run the DNS of a cluster."))


@main.command()
def version() -> None:
    """Print the versions of kubeletpy, Python and the kernel."""
    click.echo(f"kubeletpy {metadata.version('kubeletpy')}")
    click.echo(f"Python {platform.python_version()} ({sys.executable})")
    click.echo(f"Linux {platform.release()} {platform.machine()}")


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that completes kubeletpy's commands and flags.

    \b
    bash:  source <(kubeletpy completion bash)
    zsh:   source <(kubeletpy completion zsh)
    fish:  kubeletpy completion fish | source
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"this version of click cannot complete for {shell}")
    click.echo(kind(main, {}, "kubeletpy", "_KUBELETPY_COMPLETE").source())
