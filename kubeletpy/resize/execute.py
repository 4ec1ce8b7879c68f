"""Changing the limits of running containers and of their pod, in an order that always fits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec

from kubeletpy.api.container import Container, ResourceRequirements
from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Family, Quantity
from kubeletpy.cri.client import CriClient, CriError
from kubeletpy.cri.node import NodeFacts
from kubeletpy.cri.resources import container_resources
from kubeletpy.resources.cgroups import CgroupError, PodCgroups
from kubeletpy.resources.limits import UNLIMITED, Limits
from kubeletpy_common.cgroups import LinuxResources
from kubeletpy_proto import cri_pb2

from .plan import Amounts, ContainerResize, Resize


class ResizeError(Exception):
    """A resize that could not be carried out, or only in part; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Executor:
    """Carries out resizes.

    Attributes:
        cri: the runtime.
        cgroups: those of the pods.
        node: facts of the node.
    """

    cri: CriClient
    cgroups: PodCgroups
    node: NodeFacts

    async def resize(
        self,
        pod: Pod,
        sandbox_id: str,
        resize: Resize,
        now: Limits,
        done: Callable[[ContainerResize, Amounts], None],
    ) -> Limits:
        """Change what is to be changed; return the limits that the pod's cgroup then has.

        What grows grows from the pod's cgroup down, what shrinks shrinks from the containers up,
        memory first, then CPU: a cgroup never has less than one of those in it.

        Args:
            pod: with what it was allocated.
            sandbox_id: of the pod.
            resize: what to change.
            now: limits that the pod's cgroup has.
            done: called with what a container has after each change.

        Raises:
            ResizeError: not all of it; what ``done`` was not called for is as it was.
        """
        wanted = self.wanted(pod)
        await self._check_memory(pod, resize, now, wanted)
        states = {one.id: one.now for one in resize.containers}
        for resource, part in (("memory", _memory), ("cpu", _cpu)):
            target = part(now, wanted)
            if _grows(now, target):
                now = await self._set_pod(pod, sandbox_id, now, target)
            for one in _ordered(resize.containers, resource):
                mixed = _mixed(states[one.id], one.wanted, resource)
                if mixed == states[one.id]:
                    continue
                await self._set_container(pod, one, states[one.id], mixed)
                states[one.id] = mixed
                done(one, mixed)
            now = await self._set_pod(pod, sandbox_id, now, target)
        return now

    def wanted(self, pod: Pod) -> Limits:
        """Return the limits that the cgroup of a pod shall have."""
        return self.cgroups.wanted(pod)

    async def _set_pod(self, pod: Pod, sandbox_id: str, now: Limits, target: Limits) -> Limits:
        if (now.cpu_shares, now.cpu_quota_us, now.memory_bytes) == (
            target.cpu_shares, target.cpu_quota_us, target.memory_bytes,
        ):  # fmt: skip
            return now
        await self._tell_runtime(sandbox_id, target)
        try:
            await asyncio.to_thread(self.cgroups.change, pod, _changes(now, target))
        except CgroupError as error:
            await self._tell_runtime(sandbox_id, now)
            raise ResizeError(str(error)) from error
        return target

    async def _tell_runtime(self, sandbox_id: str, limits: Limits) -> None:
        resources = cri_pb2.LinuxContainerResources(
            cpu_shares=limits.cpu_shares,
            cpu_quota=limits.cpu_quota_us or 0,
            cpu_period=limits.cpu_period_us or 0,
            memory_limit_in_bytes=limits.memory_bytes or 0,
        )
        try:
            await self.cri.update_pod_sandbox_resources(sandbox_id, resources)
        except CriError as error:
            if not error.unimplemented:
                raise ResizeError(
                    f"failed to notify runtime for UpdatePodSandboxResources: {error.message}"
                ) from error

    async def _set_container(
        self, pod: Pod, one: ContainerResize, before: Amounts, after: Amounts
    ) -> None:
        container = msgspec.structs.replace(
            find(pod, one.name), resources=_requirements(find(pod, one.name), after)
        )
        resources = container_resources(pod, container, self.node)
        # For the runtime 0 means: as it is.
        if before.cpu_limit and not resources.cpu_quota:
            resources.cpu_quota = UNLIMITED
        if before.memory_limit and not resources.memory_limit_in_bytes:
            resources.memory_limit_in_bytes = UNLIMITED
        try:
            await self.cri.update_container_resources(one.id, resources)
        except CriError as error:
            raise ResizeError(error.message) from error

    async def _check_memory(self, pod: Pod, resize: Resize, now: Limits, wanted: Limits) -> None:
        """Refuse limits below what is in use: the kernel would kill, or fail half-way.

        Raises:
            ResizeError: with the numbers.
        """
        faults = []
        limit = wanted.memory_bytes
        if limit is not None and (now.memory_bytes is None or limit < now.memory_bytes):
            used = await self._pod_usage(pod)
            if used >= limit:
                faults.append(
                    f"attempting to set pod memory limit ({limit}) below current usage ({used})"
                )
        for one in resize.containers:
            limit = one.wanted.memory_limit
            if limit and (not one.now.memory_limit or limit < one.now.memory_limit):
                used = await self._container_usage(one)
                if used >= limit:
                    faults.append(
                        f'attempting to set container "{one.name}" memory limit ({limit}) '
                        f"below current usage ({used})"
                    )
        if faults:
            text = faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]"
            raise ResizeError(f"cannot decrease memory limits: {text}")

    async def _pod_usage(self, pod: Pod) -> int:
        try:
            stats = await asyncio.to_thread(self.cgroups.usage, pod)
        except CgroupError as error:
            raise ResizeError(f"unable to read memory usage of the pod: {error}") from error
        return stats.memory.usage if stats.memory is not None else 0

    async def _container_usage(self, one: ContainerResize) -> int:
        try:
            stats = await self.cri.container_stats(one.id)
        except CriError as error:
            raise ResizeError(
                f'missing container "{one.name}" memory usage: {error.message}'
            ) from error
        return stats.memory.usage_bytes.value or stats.memory.working_set_bytes.value


def find(pod: Pod, name: str) -> Container:
    """Return a container of a pod.

    Raises:
        KeyError: it has none of this name.
    """
    for container in (*pod.spec.containers, *pod.spec.init_containers):
        if container.name == name:
            return container
    raise KeyError(name)


def _memory(now: Limits, wanted: Limits) -> Limits:
    return replace(now, memory_bytes=wanted.memory_bytes)


def _cpu(now: Limits, wanted: Limits) -> Limits:
    return replace(
        now,
        cpu_shares=wanted.cpu_shares,
        cpu_quota_us=wanted.cpu_quota_us,
        cpu_period_us=wanted.cpu_period_us,
    )


def _grows(now: Limits, target: Limits) -> bool:
    """Whether a limit of the pod has to be raised before its containers' can be."""

    def more(old: int | None, new: int | None) -> bool:
        old, new = old or UNLIMITED, new or UNLIMITED
        return old != UNLIMITED and (new == UNLIMITED or new > old)

    return more(now.memory_bytes, target.memory_bytes) or more(
        now.cpu_quota_us, target.cpu_quota_us
    )


def _changes(now: Limits, target: Limits) -> LinuxResources:
    """Return what of the pod's cgroup to write; a limit that goes is taken away by -1."""
    quota = memory = None
    if now.cpu_quota_us != target.cpu_quota_us:
        quota = target.cpu_quota_us or UNLIMITED
    if now.memory_bytes != target.memory_bytes:
        memory = target.memory_bytes or UNLIMITED
    return LinuxResources(
        cpu_shares=target.cpu_shares if now.cpu_shares != target.cpu_shares else None,
        cpu_quota_us=quota,
        cpu_period_us=target.cpu_period_us if quota is not None else None,
        memory_limit=memory,
    )


def _ordered(containers: Sequence[ContainerResize], resource: str) -> list[ContainerResize]:
    """Return the containers in the order in which they are changed: what shrinks goes first."""

    def difference(one: ContainerResize) -> int:
        old, new = (
            (one.now.cpu_limit or one.now.cpu_request, one.wanted.cpu_limit or
             one.wanted.cpu_request)
            if resource == "cpu"
            else (one.now.memory_limit, one.wanted.memory_limit)
        )  # fmt: skip
        return new - old

    return sorted(containers, key=difference)


def _mixed(now: Amounts, wanted: Amounts, resource: str) -> Amounts:
    """Return ``now`` with what is ``wanted`` of one resource."""
    if resource == "cpu":
        return replace(now, cpu_request=wanted.cpu_request, cpu_limit=wanted.cpu_limit)
    return replace(now, memory_request=wanted.memory_request, memory_limit=wanted.memory_limit)


def _requirements(container: Container, amounts: Amounts) -> ResourceRequirements:
    """Return the requirements of a container with other CPU and memory."""
    limits, requests = dict(container.resources.limits), dict(container.resources.requests)
    for table, cpu, memory in (
        (limits, amounts.cpu_limit, amounts.memory_limit),
        (requests, amounts.cpu_request, amounts.memory_request),
    ):
        for name, amount in (
            ("cpu", Quantity(f"{cpu}m")),
            ("memory", Quantity(memory, Family.BINARY)),
        ):
            if amount or name in table:
                table[name] = amount
            if not amount:
                table.pop(name, None)
    return ResourceRequirements(limits=limits, requests=requests, claims=container.resources.claims)
