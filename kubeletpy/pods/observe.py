"""From what the runtime reports to the immutable state that decisions are made from."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from kubeletpy.cri import labels
from kubeletpy.cri.client import CriError
from kubeletpy.resize.plan import Amounts
from kubeletpy.status.termination import termination_message
from kubeletpy_proto import cri_pb2

from .state import (
    ContainerPhase,
    ContainerRecord,
    RuntimeLimits,
    SandboxRecord,
    frozen,
    newest_first,
)

BACKOFF = "kubeletpy.io/back-off-seconds"
"""Annotation of a container: the delay after its end (see `backoff`)."""
AMOUNTS = "kubeletpy.io/resources"
"""Annotation of a container: CPU and memory that it was created with (`resize.plan.Amounts`)."""

_PHASES = {
    cri_pb2.CONTAINER_CREATED: ContainerPhase.CREATED,
    cri_pb2.CONTAINER_RUNNING: ContainerPhase.RUNNING,
    cri_pb2.CONTAINER_EXITED: ContainerPhase.EXITED,
    cri_pb2.CONTAINER_UNKNOWN: ContainerPhase.UNKNOWN,
}


class RuntimeService(Protocol):
    """What is needed of the runtime; `kubeletpy.cri.client.CriClient` has it."""

    async def list_pod_sandboxes(
        self, labels: dict[str, str] | None = None
    ) -> list[cri_pb2.PodSandbox]:
        """List sandboxes."""

    async def pod_sandbox_status(self, sandbox_id: str) -> cri_pb2.PodSandboxStatusResponse:
        """Return the status of a sandbox."""

    async def list_containers(
        self, *, labels: dict[str, str] | None = None
    ) -> list[cri_pb2.Container]:
        """List containers."""

    async def container_status(self, container_id: str) -> cri_pb2.ContainerStatusResponse:
        """Return the status of a container."""


@dataclass(frozen=True, slots=True)
class PodView:
    """Sandboxes and containers of one pod, newest first each."""

    sandboxes: tuple[SandboxRecord, ...] = ()
    containers: tuple[ContainerRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a pod is, as its sandbox's labels tell."""

    uid: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything of the runtime at one instant, cheap to get and to compare.

    Attributes:
        states: by pod UID, the ids and states of its sandboxes and containers.
        identities: by pod UID.
    """

    states: Mapping[str, frozenset[tuple[str, int]]] = field(default_factory=frozen)
    identities: Mapping[str, Identity] = field(default_factory=frozen)


class Observer:
    """Reads the state of pods from the runtime.

    What does not change any more (an ended container, a sandbox that is down) is asked once.
    """

    def __init__(self, service: RuntimeService) -> None:
        self._service = service
        self._ended: dict[str, ContainerRecord] = {}

    async def listing(self) -> Listing:
        """List everything once.

        Raises:
            CriError: the runtime did not answer.
        """
        sandboxes, containers = await asyncio.gather(
            self._service.list_pod_sandboxes(), self._service.list_containers()
        )
        states: dict[str, set[tuple[str, int]]] = {}
        identities: dict[str, Identity] = {}
        items: list[cri_pb2.PodSandbox | cri_pb2.Container] = [*sandboxes, *containers]
        for item in items:
            uid = item.labels.get(labels.POD_UID, "")
            if not uid:
                continue
            states.setdefault(uid, set()).add((item.id, item.state))
            identities.setdefault(
                uid,
                Identity(
                    uid,
                    item.labels.get(labels.POD_NAMESPACE, ""),
                    item.labels.get(labels.POD_NAME, ""),
                ),
            )
        alive = {item.id for item in containers}
        for gone in [one for one in self._ended if one not in alive]:
            del self._ended[gone]
        return Listing(
            frozen({uid: frozenset(pairs) for uid, pairs in states.items()}), frozen(identities)
        )

    async def pod(self, uid: str) -> PodView:
        """Read the state of one pod.

        Raises:
            CriError: the runtime did not answer.
        """
        selector = {labels.POD_UID: uid}
        sandboxes, containers = await asyncio.gather(
            self._service.list_pod_sandboxes(selector),
            self._service.list_containers(labels=selector),
        )
        boxes = await asyncio.gather(*(self._sandbox(item) for item in sandboxes))
        records = await asyncio.gather(*(self._container(item) for item in containers))
        return PodView(
            *newest_first(
                [box for box in boxes if box is not None],
                [record for record in records if record is not None],
            )
        )

    async def _sandbox(self, item: cri_pb2.PodSandbox) -> SandboxRecord | None:
        if item.state != cri_pb2.SANDBOX_READY:
            return SandboxRecord(
                id=item.id,
                attempt=item.metadata.attempt,
                ready=False,
                created_at=item.created_at / 1e9,
            )
        try:
            status = (await self._service.pod_sandbox_status(item.id)).status
        except CriError as error:
            if error.not_found:
                return None
            raise
        return sandbox_record(status)

    async def _container(self, item: cri_pb2.Container) -> ContainerRecord | None:
        known = self._ended.get(item.id)
        if known is not None:
            return known
        try:
            status = (await self._service.container_status(item.id)).status
        except CriError as error:
            if error.not_found:
                return None
            raise
        record = container_record(status, item.pod_sandbox_id)
        if record.exited:
            self._ended[item.id] = record
        return record


def sandbox_record(status: cri_pb2.PodSandboxStatus) -> SandboxRecord:
    """Return the state of a sandbox; pure."""
    options = status.linux.namespaces.options
    addresses = (status.network.ip, *(extra.ip for extra in status.network.additional_ips))
    return SandboxRecord(
        id=status.id,
        attempt=status.metadata.attempt,
        ready=status.state == cri_pb2.SANDBOX_READY,
        created_at=status.created_at / 1e9,
        host_network=options.network == cri_pb2.NODE,
        ips=tuple(address for address in addresses if address),
    )


def container_record(status: cri_pb2.ContainerStatus, sandbox_id: str) -> ContainerRecord:
    """Return the state of a container, with its termination message read from the host."""
    notes = status.annotations
    phase = _PHASES.get(status.state, ContainerPhase.UNKNOWN)
    message = status.message
    if phase is ContainerPhase.EXITED:
        message = termination_message(
            reported=status.message,
            file=_host_path(status.mounts, notes.get(labels.TERMINATION_MESSAGE_PATH, "")),
            policy=notes.get(labels.TERMINATION_MESSAGE_POLICY, ""),
            log=status.log_path,
            failed=status.exit_code != 0 or status.reason == "OOMKilled",
        )
    return ContainerRecord(
        id=status.id,
        sandbox_id=sandbox_id,
        name=status.labels.get(labels.CONTAINER_NAME, status.metadata.name),
        attempt=_count(notes.get(labels.RESTART_COUNT), status.metadata.attempt),
        phase=phase,
        created_at=status.created_at / 1e9,
        started_at=status.started_at / 1e9,
        finished_at=status.finished_at / 1e9,
        exit_code=status.exit_code,
        reason=status.reason,
        message=message,
        image=status.image.user_specified_image or status.image.image,
        image_id=status.image_ref or status.image_id,
        spec_hash=notes.get(labels.CONTAINER_HASH, ""),
        backoff=float(_count(notes.get(BACKOFF), 0)),
        log_path=status.log_path,
        user=_user(status),
        amounts=Amounts.parse(notes.get(AMOUNTS, "")),
        limits=_limits(status),
    )


def _limits(status: cri_pb2.ContainerStatus) -> RuntimeLimits | None:
    if not status.resources.HasField("linux"):
        return None
    linux = status.resources.linux
    return RuntimeLimits(
        cpu_shares=linux.cpu_shares,
        cpu_quota_us=linux.cpu_quota,
        cpu_period_us=linux.cpu_period,
        memory_bytes=linux.memory_limit_in_bytes,
    )


def _user(status: cri_pb2.ContainerStatus) -> tuple[int, int, tuple[int, ...]] | None:
    if not status.user.HasField("linux"):
        return None
    linux = status.user.linux
    return linux.uid, linux.gid, tuple(linux.supplemental_groups)


def _host_path(mounts: Iterable[cri_pb2.Mount], container_path: str) -> str:
    if not container_path:
        return ""
    for mount in mounts:
        if mount.container_path == container_path:
            return mount.host_path
    return ""


def _count(text: str | None, default: int) -> int:
    """Return a number from an annotation; whoever else wrote nonsense there is ignored."""
    return int(text) if text is not None and text.isdecimal() and len(text) < 10 else default
