"""UpdateContainerResources: other limits for a container, while it runs or before."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from dataclasses import replace
from typing import Any

import msgspec

from kubeletpy_common.atomic import write_atomic
from kubeletpy_common.cgroups import Cgroup, CgroupError, LinuxResources
from kubeletpy_common.logs import event
from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.bundle import read_config
from runtime.cri.errors import InvalidRequestError, NotReadyError
from runtime.cri.resource_updates import (
    check_memory,
    merged,
    refusals_told,
    undoing,
    updated_config,
)
from runtime.cri.runtime import Runtime, describe
from runtime.cri.statuses import current_resources
from runtime.oci.confinement import CONFIG_FILE
from runtime.shim.client import ShimError
from runtime.state.records import ContainerState
from runtime.state.store import Container

_log = logging.getLogger("runtime.cri")

_UPDATABLE = (ContainerState.CREATED, ContainerState.RUNNING)


async def update_container_resources(
    runtime: Runtime, request: cri.UpdateContainerResourcesRequest
) -> cri.UpdateContainerResourcesResponse:
    """Change limits; what the request leaves at 0 or empty stays as it is.

    The kernel comes first, the disk second: a daemon that is killed in between knows the old
    limits, and its client, which got no answer, asks again.

    Raises:
        InvalidRequestError, TranslationError: the request.
        NotFoundError: there is no such container.
        NotReadyError: it has ended, or its processes use more memory; the limits are the old ones.
        CgroupError: the kernel refuses; likewise.
        ShimError: the pod's external runtime refuses; likewise.
    """
    container = runtime.store.container(request.container_id)
    if request.HasField("windows") or not request.HasField("linux"):
        raise InvalidRequestError("give the limits in `linux`: this runtime runs Linux containers")
    async with container.pod.lock:
        if container.record.state not in _UPDATABLE:
            raise NotReadyError(
                f"container {container.id} is {container.record.state}: only a created or running "
                "one has limits to change"
            )
        resources = merged(current_resources(container), request.linux)
        bundle = runtime.container_directory(container.id)
        old = read_config(bundle)
        new = updated_config(old, resources, runtime.cgroups.version)
        _set_oom_score(new, request.linux.oom_score_adj, runtime.host.lowest_oom_score_adj)
        LinuxResources.from_oci(new["linux"]["resources"])
        if container.record.state is ContainerState.RUNNING:
            with refusals_told(runtime.cgroup_of(container)):
                await asyncio.to_thread(_apply, runtime, container, old, new)
            await _tell_runtime(runtime, container, old, new)
        await asyncio.to_thread(
            write_atomic, bundle / CONFIG_FILE, json.dumps(new, separators=(",", ":")), mode=0o600
        )
        container.process = None
        runtime.store.update_container(
            container,
            msgspec.structs.replace(container.record, resources=resources.SerializeToString()),
        )
    event(_log, logging.INFO, "limits changed", **describe(container.pod, container))
    return cri.UpdateContainerResourcesResponse()


async def _tell_runtime(
    runtime: Runtime, container: Container, old: dict[str, Any], new: dict[str, Any]
) -> None:
    """Have an external runtime write down, or pass on, limits that the cgroup has already.

    Raises:
        ShimError: it refuses; the limits are the old ones.
    """
    shim = container.pod.shim
    if container.pod.record.external is None or shim is None:
        return
    resources = {k: v for k, v in new["linux"]["resources"].items() if k != "devices"}
    try:
        await shim.update(container.id, resources)
    except ShimError:
        await asyncio.to_thread(_apply, runtime, container, new, old)
        raise


def _set_oom_score(config: dict[str, Any], score: int, lowest: int) -> None:
    if score:
        config["process"] = {**config["process"], "oomScoreAdj": max(score, lowest)}


def _apply(
    runtime: Runtime, container: Container, old: dict[str, Any], new: dict[str, Any]
) -> None:
    """Set the limits of a running container, or leave those that it had."""
    cgroup = runtime.cgroup_of(container)
    before, after = (LinuxResources.from_oci(c["linux"]["resources"]) for c in (old, new))
    check_memory(cgroup.path, after.memory_limit or 0, cgroup.stats().memory)
    try:
        # The device rules are in force, and none of this call's business.
        cgroup.apply(replace(after, devices=None))
    except CgroupError:
        try:
            cgroup.apply(undoing(before, after))
        except CgroupError as error:
            event(_log, logging.WARNING, "the limits from before could not be set again",
                  **describe(container.pod, container), error=error)  # fmt: skip
        raise
    score = new["process"].get("oomScoreAdj")
    if score is not None and score != old["process"].get("oomScoreAdj"):
        set_oom_scores(cgroup, score)


def set_oom_scores(cgroup: Cgroup, score: int) -> None:
    """Set how readily the OOM killer takes the processes of a cgroup.

    Raises:
        OSError: the kernel refuses the score.
    """
    for pid in cgroup.processes():
        try:
            directory = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            # The descriptor is bound to the process of this moment: a later one of the same
            # number is not reached through it. So look again whose it is, then write.
            if pid in cgroup.processes():
                _write_score(directory, score)
        except (FileNotFoundError, ProcessLookupError):
            continue
        finally:
            os.close(directory)


def _write_score(directory: int, score: int) -> None:
    descriptor = os.open("oom_score_adj", os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(descriptor, str(score).encode())
    finally:
        os.close(descriptor)
