"""After a start of the daemon: making the records and the machine agree again.

The daemon may have been killed at any point, or the machine rebooted. Rows are written before the
step they announce, so each row tells how far things came at most:

- half-made pods and containers (CREATING) are undone, removals that had begun are finished;
- pods whose shim answers go on, with the exits that happened meanwhile taken over, and thawed if a
  daemon was killed while it had frozen them to kill them;
- pods whose shim does not answer are down; what their shim wrote before its end is taken over,
  other running containers are reported killed, or, after a reboot, unknown;
- directories, shims, snapshots and addresses of pods that no row knows are removed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable
from pathlib import Path

from kubeletpy_common.cgroups import CgroupError
from kubeletpy_common.logs import event
from runtime.cri.bundle import read_exit
from runtime.cri.lifecycle import (
    KILLED,
    Lost,
    apply_exit,
    conclude,
    connect,
    finish,
    sweep,
    take_down,
)
from runtime.cri.runtime import Runtime, describe
from runtime.cri.teardown import destroy_container, destroy_pod, remove_tree
from runtime.shim.messages import ContainerReport
from runtime.spawner.sandbox import destroy_sandbox_mounts
from runtime.state import records
from runtime.state.records import ContainerState, SandboxState
from runtime.state.store import Container, Pod

_log = logging.getLogger("runtime")

REBOOTED = Lost(records.UNKNOWN_CODE, "Unknown", "the machine was rebooted while the container ran")
UNKNOWN = Lost(records.UNKNOWN_CODE, "Unknown", "the pod's shim knows nothing of the container")
INTERRUPTED = "the runtime was killed while it started the container"
_SHIM_TITLE = b"kubeletpy-shim "


async def recover(runtime: Runtime) -> None:
    """Bring every known pod into a state that is true, and remove what nobody knows.

    A pod that cannot be dealt with is logged and stays as it was written down; it does not keep
    the daemon from serving the others.
    """
    await asyncio.gather(*(_guard(pod, _recover_pod(runtime, pod)) for pod in runtime.store.pods()))
    known = {pod.id for pod in runtime.store.pods()}
    await _remove_unknown(runtime, known)
    await runtime.network.reconcile(known)


async def _guard(pod: Pod, work: Awaitable[None]) -> None:
    try:
        await work
    except Exception as error:
        event(_log, logging.ERROR, "a pod could not be recovered", **describe(pod), error=error)


async def _recover_pod(runtime: Runtime, pod: Pod) -> None:
    if pod.record.state is SandboxState.CREATING:
        event(_log, logging.INFO, "undoing a half-made pod", **describe(pod))
        await destroy_pod(runtime, pod)
        return
    # The daemon may have been killed while it ended a pod that it had marked as down before.
    if pod.ready or any(container.running for container in pod.containers.values()):
        if pod.record.boot_id == runtime.boot_id and await _reconnect(runtime, pod):
            await _adopt(runtime, pod)
        else:
            _report_lost(runtime, pod)
    if pod.record.removing:
        event(_log, logging.INFO, "going on with a pod's removal", **describe(pod))
        await destroy_pod(runtime, pod)
        return
    for container in list(pod.containers.values()):
        if container.record.state is ContainerState.CREATING or container.record.removing:
            await destroy_container(runtime, container)
        elif container.record.state is ContainerState.EXITED and container.cleanup is None:
            _finish_sweep(runtime, container)


async def _reconnect(runtime: Runtime, pod: Pod) -> bool:
    try:
        await connect(runtime, pod)
    except (OSError, TimeoutError) as error:
        event(_log, logging.WARNING, "a pod's shim is gone", **describe(pod), error=error)
        return False
    return True


async def _adopt(runtime: Runtime, pod: Pod) -> None:
    assert pod.shim is not None
    reports = {report.container_id: report for report in await pod.shim.containers()}
    for container in list(pod.containers.values()):
        if container.running:
            _adopt_container(runtime, container, reports.get(container.id))
        if container.running:
            _thaw(runtime, container)


def _thaw(runtime: Runtime, container: Container) -> None:
    """Let a container go on, or die: on cgroup v1 the frozen do neither (freezer-subsystem.rst)."""
    try:
        runtime.cgroup_of(container).thaw()
    except CgroupError as error:
        event(
            _log, logging.WARNING, "a container's cgroup cannot be thawed", error=error,
            container_id=container.id[:12],
        )  # fmt: skip


def _adopt_container(
    runtime: Runtime, container: Container, report: ContainerReport | None
) -> None:
    exit_record = report.exit if report else read_exit(runtime.container_directory(container.id))
    if container.record.state is ContainerState.STARTING:
        if report is None and exit_record is None:
            failed = records.start_failed(container.record, message=INTERRUPTED, at=time.time_ns())
            finish(runtime, container, failed)
            return
        started = report.started_at_ns if report else container.record.created_at
        running = records.running(
            container.record, pid=report.pid if report else 0, started_at=started
        )
        runtime.store.update_container(container, running)
    if exit_record is not None:
        apply_exit(runtime, container, exit_record)
    elif report is None:
        conclude(runtime, container, UNKNOWN)


def _report_lost(runtime: Runtime, pod: Pod) -> None:
    end = KILLED if pod.record.boot_id == runtime.boot_id else REBOOTED
    for container in list(pod.containers.values()):
        if container.running:
            conclude(runtime, container, end)
    if pod.ready:
        take_down(runtime, pod)


def _finish_sweep(runtime: Runtime, container: Container) -> None:
    """Kill what an ended container left behind, if the daemon was killed before it did."""
    if runtime.cgroup_of(container).exists():
        container.cleanup = runtime.in_background(
            sweep(runtime, container), f"sweep {container.id[:12]}"
        )


async def _remove_unknown(runtime: Runtime, known: set[str]) -> None:
    containers = {container.id for container in runtime.store.containers()}
    state, root = runtime.config.state, runtime.config.root
    shims = await asyncio.to_thread(_shims)
    for name in _entries(state / "sandboxes") - known:
        if name in shims:
            _kill(shims[name])
        destroy_sandbox_mounts(state / "sandboxes" / name)
        await remove_tree(state / "sandboxes" / name)
        event(_log, logging.INFO, "removed what a pod nobody knows left", pod_id=name[:12])
    for parent in (state / "containers", root / "volumes"):
        for name in _entries(parent) - containers:
            await remove_tree(parent / name)
    await asyncio.to_thread(runtime.snapshots.reconcile, containers)


def _entries(directory: Path) -> set[str]:
    try:
        return set(os.listdir(directory))
    except FileNotFoundError:
        return set()


def _shims() -> dict[str, int]:
    """Return the process ids of all shims on the machine by the pod they are for."""
    found: dict[str, int] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            title = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            # It ended while we looked.
            continue
        if title.startswith(_SHIM_TITLE):
            found[title[len(_SHIM_TITLE) :].split(b"\0")[0].decode("ascii", "replace")] = int(name)
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
