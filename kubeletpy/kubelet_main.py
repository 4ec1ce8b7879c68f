"""``kubeletpy kubelet``: the command line of the kubelet; flags are named as the Go kubelet's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import click

from kubeletpy_common import logs
from kubeletpy_common.settings.component_logging import level_of
from kubeletpy_common.settings.flags import BOOL, MANY

from .errors import StartError
from .kubelet import Kubelet
from .settings import ConfigurationError, Settings
from .settings.flags import FIELDS, NO_EFFECT, OWN, settings_of
from .settings.host import apply_oom_score

_log = logging.getLogger(__name__)
KUBERNETES = "v1.36.2"
"""The version of the Go kubelet whose place this one takes; kubeadm asks for it by --version."""
_LEVELS = ("error", "warning", "info", "debug")
_PROMINENT = frozenset(
    {"container-runtime-endpoint", "pod-manifest-path", "healthz-port", "pod-logs-dir"}
)


def _flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags of the table; all values are texts, read where they are checked."""
    for name in sorted(FIELDS.keys() | OWN.keys() | NO_EFFECT, reverse=True):
        field, kind = FIELDS.get(name, ("", ""))
        own = OWN.get(name)
        options: dict[str, Any] = {"multiple": kind in MANY or (own is not None and own.many)}
        if kind == BOOL or name in ("experimental-allocatable-ignore-eviction", "runonce"):
            # As in Go: the flag alone means true, --flag=false is possible.
            options = {"is_flag": False, "flag_value": "true"}
        if name in NO_EFFECT:
            options |= {"is_flag": False, "flag_value": ""}
        text = own.help if own is not None else f"Sets {field} of --config." if field else ""
        command = click.option(
            f"--{name}", name.replace("-", "_"), type=str, default=None, help=text,
            hidden=not text, **options,
        )(command)  # fmt: skip
    return command


@click.command(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: token.replace("_", "-"),
    }
)
@click.option("--config", type=Path, help="KubeletConfiguration file (v1beta1, YAML or JSON).")
@click.option("--config-dir", type=Path, help="Directory of *.conf files merged into it, in order.")
@click.option("--log-level", type=click.Choice(_LEVELS), default=None, help="Default: info.")
@click.option("-v", "--v", "verbosity", type=int, default=None, help="As Go's: from 4 on, debug.")
@click.option(
    "--terminate-pods-on-exit",
    is_flag=True,
    help="When stopped, end all pods and remove all that is theirs; else they go on running.",
)
@click.version_option(
    metadata.version("kubeletpy"), message=f"Kubernetes {KUBERNETES} (kubeletpy %(version)s)"
)
@_flags
def main(
    config: Path | None,
    config_dir: Path | None,
    log_level: str | None,
    verbosity: int | None,
    terminate_pods_on_exit: bool,
    **flags: Any,
) -> None:
    """Run the pods of this node.

    Stops on SIGTERM or SIGINT; pods go on running, and the next kubelet takes them over.
    """
    logs.configure(log_level or level_of(verbosity or 0))
    given = {
        name.replace("_", "-"): value for name, value in flags.items() if value not in (None, ())
    }
    try:
        settings = settings_of(config, config_dir, given)
        if log_level is None and verbosity is None:
            logs.configure(level_of(settings.configuration.logging.verbosity))
        _tell(settings, given)
        clean = asyncio.Runner().run(_run(settings, terminate_pods_on_exit))
    except (ConfigurationError, StartError) as error:
        click.echo(f"kubelet: {error}", err=True)
        sys.exit(1)
    leave(0 if clean else 1)


def leave(code: int) -> NoReturn:
    """End the process, whatever its threads do.

    All that has to be done is done by now. Closing the event loop, or the interpreter, would wait
    for threads: one that looks at a file system which hangs would keep the kubelet for ever.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _tell(settings: Settings, given: dict[str, Any]) -> None:
    """Say once what was set and has no effect."""
    if settings.unsupported:
        logs.event(
            _log, logging.WARNING, "fields that are set and that this kubelet does not honour",
            fields=list(settings.unsupported),
        )  # fmt: skip
    if idle := sorted(given.keys() & NO_EFFECT):
        logs.event(_log, logging.INFO, "flags that have no effect here", flags=idle)


async def _run(settings: Settings, terminate_pods: bool) -> bool:
    if problem := apply_oom_score(settings.configuration.oom_score_adj):
        logs.event(_log, logging.INFO, "the kernel may end the kubelet early", reason=problem)
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
