"""StartContainer: limits first, then the process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from kubeletpy_common.cgroups import Cgroup, LinuxResources
from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.bundle import read_config
from runtime.cri.cgroups import container_cgroup
from runtime.cri.errors import NotReadyError, StartError
from runtime.cri.lifecycle import apply_exit, finish, publish
from runtime.cri.runtime import Runtime
from runtime.handlers.table import check_program
from runtime.oci.confinement import shared_confinement
from runtime.shim.client import ShimError
from runtime.shim.messages import Started, StartRequest
from runtime.state import records
from runtime.state.records import ContainerState
from runtime.state.store import Container, NotFoundError


async def start_container(
    runtime: Runtime, request: cri.StartContainerRequest
) -> cri.StartContainerResponse:
    """Start a created container; it runs its program when this returns.

    Raises:
        NotFoundError: there is no such container.
        NotReadyError: it was started before, or its pod is down.
        StartError: it could not be started, and has ended with code 128.
    """
    container = runtime.store.container(request.container_id)
    async with container.pod.lock:
        _check(container)
        runtime.store.update_container(container, records.starting(container.record))
        try:
            await _start(runtime, container)
        except Exception as error:
            if container.record.state is ContainerState.STARTING:
                text = f"start container {container.id}: {error}"
                failed = records.start_failed(container.record, message=text, at=time.time_ns())
                finish(runtime, container, failed)
            raise StartError(f"start container {container.id}: {error}") from error
    return cri.StartContainerResponse()


def _check(container: Container) -> None:
    if container.id not in container.pod.containers:
        raise NotFoundError(f"container {container.id} was removed meanwhile")
    state = container.record.state
    if state is not ContainerState.CREATED:
        raise NotReadyError(
            f"container {container.id} is {state}: only a created one can be started, once"
        )
    if not container.pod.ready:
        raise NotReadyError(f"pod sandbox {container.pod.id} is not ready: make a new one")


def _external(runtime: Runtime, container: Container) -> dict[str, Any] | None:
    external = container.pod.record.external
    if external is None:
        return None
    check_program(external)
    return external.command_line(runtime.sandbox_directory(container.pod.id)).to_message()


async def _start(runtime: Runtime, container: Container) -> None:
    oci = read_config(runtime.container_directory(container.id))
    limits = LinuxResources.from_oci(oci["linux"]["resources"])
    async with container_cgroup(runtime.cgroup_of(container), limits) as cgroup:
        started = await _ask_shim(runtime, container, oci, cgroup)
    running = records.running(container.record, pid=started.pid, started_at=started.started_at_ns)
    runtime.store.update_container(container, running)
    publish(runtime, container.pod, container.id, cri.CONTAINER_STARTED_EVENT)
    if container.early_exit is not None:
        apply_exit(runtime, container, container.early_exit)


async def _ask_shim(
    runtime: Runtime, container: Container, oci: dict[str, Any], cgroup: Cgroup
) -> Started:
    record, config = container.record, container.config
    shim = container.pod.shim
    if shim is None or record.rootfs is None:
        raise ShimError("lost", "the pod has no shim")
    return await shim.start(
        StartRequest(
            container_id=container.id,
            bundle=runtime.container_directory(container.id),
            rootfs=record.rootfs,
            linux=shared_confinement(oci),
            log_path=Path(record.log_path) if record.log_path else None,
            terminal=config.tty,
            stdin=config.stdin,
            stdin_once=config.stdin_once,
            cgroup_procs=tuple(cgroup.procs_files()),
            oom_file=cgroup.oom_file(),
            runtime=_external(runtime, container),
        ),
        timeout=runtime.config.limits.start_seconds,
    )
