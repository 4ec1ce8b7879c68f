"""After a ``systemctl daemon-reload``: containers get again what systemd does not keep."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import replace

from kubeletpy_common.cgroups import LinuxResources
from kubeletpy_common.cgroups.systemd.reloads import NOT_KEPT, reloads
from kubeletpy_common.logs import event
from runtime.cri.bundle import read_config
from runtime.cri.runtime import Runtime, describe
from runtime.cri.statuses import current_resources
from runtime.state.records import ContainerState
from runtime.state.store import Container

_log = logging.getLogger("runtime.cri")


async def follow_reloads(runtime: Runtime) -> None:
    """Set limits again whenever systemd may have written over them; until it is cancelled."""
    async with aclosing(reloads()) as heard:
        async for _ in heard:
            for container in runtime.store.containers():
                await _repair(runtime, container)


def needs_repair(unified: dict[str, str]) -> bool:
    """Tell whether systemd may write over a file that was asked for (pure)."""
    return not unified.keys().isdisjoint(NOT_KEPT)


async def _repair(runtime: Runtime, container: Container) -> None:
    if not needs_repair(dict(current_resources(container).unified)):
        return
    async with container.pod.lock:
        if container.record.state is not ContainerState.RUNNING:
            return
        try:
            await asyncio.to_thread(_apply, runtime, container)
            event(_log, logging.DEBUG, "limits set again after a reload of systemd",
                  **describe(container.pod, container))  # fmt: skip
        except (OSError, ValueError, KeyError) as error:
            # An end of the container is noticed elsewhere.
            level = logging.WARNING if runtime.cgroup_of(container).exists() else logging.DEBUG
            event(_log, level, "limits could not be set again after a reload of systemd",
                  **describe(container.pod, container), error=error)  # fmt: skip


def _apply(runtime: Runtime, container: Container) -> None:
    """Have systemd write what it may still have to, then write what it does not keep."""
    config = read_config(runtime.container_directory(container.id))
    limits = LinuxResources.from_oci(config["linux"]["resources"])
    runtime.cgroup_of(container).apply(replace(limits, devices=None))
