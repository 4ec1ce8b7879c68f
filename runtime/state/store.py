"""Pods and containers in memory, always behind what the database says.

Every change goes to disk first and to memory second, so a daemon that is killed in between finds
out after its restart. The store belongs to the event loop's thread; nothing in it awaits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from kubeletpy_proto import cri_pb2 as cri
from runtime.state.database import Database
from runtime.state.records import (
    ContainerRecord,
    ContainerState,
    SandboxRecord,
    SandboxState,
    StateError,
)

if TYPE_CHECKING:
    from runtime.shim.client import ShimClient
    from runtime.shim.messages import ExitRecord

_MIN_PREFIX = 4  # shorter prefixes of an id are more often a slip than an intention


class NotFoundError(Exception):
    """No sandbox or container has this id."""


class NameTakenError(Exception):
    """Another sandbox or container of the same metadata exists."""


class AmbiguousIdError(Exception):
    """More than one id begins with what was given."""


@dataclass(eq=False)
class Pod:
    """One pod sandbox.

    Attributes:
        record: what is on disk as well.
        config: the CRI config it was made of.
        lock: held by whoever changes the pod or starts something in it; never while waiting for
            a container to end.
        shim: the connection to its shim; None before it runs, and once it is gone.
        containers: its containers by id.
        stopping: a stop has begun: the loss of the shim is then no accident.
    """

    record: SandboxRecord
    config: cri.PodSandboxConfig
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    shim: ShimClient | None = None
    containers: dict[str, Container] = field(default_factory=dict)
    stopping: bool = False

    @property
    def id(self) -> str:
        """The CRI id."""
        return self.record.id

    @property
    def ready(self) -> bool:
        """Containers can be created and started in it."""
        return self.record.state is SandboxState.READY

    @property
    def label(self) -> str:
        """Namespace and name, for the log."""
        return f"{self.config.metadata.namespace}/{self.config.metadata.name}"


@dataclass(eq=False)
class Container:
    """One container.

    Attributes:
        record: what is on disk as well.
        config: the CRI config it was made of.
        pod: the sandbox it belongs to.
        exited: set once the record says so.
        early_exit: an exit that was reported before the start was (a very short life).
        cleanup: kills what the first process left behind and removes the cgroup.
        process: the OCI ``process`` that commands in it are made of, once there was one.
    """

    record: ContainerRecord
    config: cri.ContainerConfig
    pod: Pod
    exited: asyncio.Event = field(default_factory=asyncio.Event)
    early_exit: ExitRecord | None = None
    cleanup: asyncio.Task[None] | None = None
    process: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        """The CRI id."""
        return self.record.id

    @property
    def running(self) -> bool:
        """Its first process runs, or is about to."""
        return self.record.state in (ContainerState.STARTING, ContainerState.RUNNING)


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


_Item = TypeVar("_Item", bound=_Identified)


class Store:
    """All pods and containers this runtime knows."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pods: dict[str, Pod] = {}
        self._containers: dict[str, Container] = {}
        self._names: dict[str, str] = {}
        self._pending: dict[str, Callable[[], None]] = {}

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open the state file and load every row of it.

        Raises:
            StateError: the file is unusable; the message says what to do.
        """
        store = cls(Database(path))
        for sandbox, config in store._database.sandboxes():
            store._remember_pod(Pod(sandbox, cri.PodSandboxConfig.FromString(config)))
        for record, config in store._database.containers():
            pod = store._pods[record.sandbox_id]
            store._remember(Container(record, cri.ContainerConfig.FromString(config), pod))
        return store

    def close(self) -> None:
        """Close the state file."""
        self._database.close()

    def pods(self) -> list[Pod]:
        """Return all pods, those being created included."""
        return list(self._pods.values())

    def containers(self) -> list[Container]:
        """Return all containers, those being created included."""
        return list(self._containers.values())

    def knows(self, pod: Pod) -> bool:
        """Tell whether ``pod`` was not removed meanwhile."""
        return self._pods.get(pod.id) is pod

    def pod(self, sandbox_id: str) -> Pod:
        """Return a pod by its id or a prefix of it that no other id has.

        Raises:
            NotFoundError: there is none.
            AmbiguousIdError: there are several.
        """
        return _find(self._pods, sandbox_id, "pod sandbox")

    def container(self, container_id: str) -> Container:
        """Return a container by its id or a prefix of it that no other id has.

        Raises:
            NotFoundError: there is none.
            AmbiguousIdError: there are several.
        """
        return _find(self._containers, container_id, "container")

    def add_pod(self, record: SandboxRecord, config: cri.PodSandboxConfig) -> Pod:
        """Write down and return a new pod.

        Raises:
            NameTakenError: a pod with this name, namespace, uid and attempt exists.
            StateError: the disk refused.
        """
        self._check_name(record.name, "pod sandbox")
        # The row of a removed one of this name may be still there.
        self.write_pending()
        self._database.put_sandbox(record, config.SerializeToString())
        pod = Pod(record, config)
        self._remember_pod(pod)
        return pod

    def update_pod(self, pod: Pod, record: SandboxRecord) -> None:
        """Write down and take over a changed record.

        Raises:
            StateError: the disk refused; the memory still agrees with it.
        """
        self._database.update_sandbox(record)
        self._pending.pop(pod.id, None)
        pod.record = record

    def note_pod(self, pod: Pod, record: SandboxRecord) -> bool:
        """Take over a record that is a fact, whether the disk takes it or not.

        Only for what a restarted daemon finds out again by itself, as the end of a shim.

        Returns:
            whether it is on disk; if not, :meth:`write_pending` is to be called later.
        """
        pod.record = record
        return self._write(pod.id, lambda: self._database.update_sandbox(pod.record))

    def note_container(self, container: Container, record: ContainerRecord) -> bool:
        """Take over a record that is a fact, as :meth:`note_pod`."""
        self._take_over(container, record)
        return self._write(container.id, lambda: self._database.update_container(container.record))

    def write_pending(self) -> bool:
        """Try again what the disk refused; return whether all of it is written now."""
        for identifier, write in list(self._pending.items()):
            if not self._write(identifier, write):
                return False
        return True

    def _write(self, identifier: str, write: Callable[[], None]) -> bool:
        try:
            write()
        except StateError:
            self._pending[identifier] = write
            return False
        self._pending.pop(identifier, None)
        return True

    def remove_pod(self, pod: Pod) -> bool:
        """Forget a pod of which nothing is left, and whose containers are forgotten already.

        Returns:
            whether its row is gone; if not, :meth:`write_pending` is to be called later. A
            restarted daemon would find the row, and by it that the pod is to be removed.
        """
        gone = self._write(pod.id, lambda: self._database.delete_sandbox(pod.id))
        del self._pods[pod.id]
        del self._names[pod.record.name]
        return gone

    def add_container(
        self, record: ContainerRecord, config: cri.ContainerConfig, pod: Pod
    ) -> Container:
        """Write down and return a new container of ``pod``.

        Raises:
            NameTakenError: the pod has a container with this name and attempt.
            StateError: the disk refused.
        """
        self._check_name(record.name, "container")
        self.write_pending()
        self._database.put_container(record, config.SerializeToString())
        container = Container(record, config, pod)
        self._remember(container)
        return container

    def update_container(self, container: Container, record: ContainerRecord) -> None:
        """Write down and take over a changed record.

        Raises:
            StateError: the disk refused; the memory still agrees with it.
        """
        self._database.update_container(record)
        self._pending.pop(container.id, None)
        self._take_over(container, record)

    def _take_over(self, container: Container, record: ContainerRecord) -> None:
        container.record = record
        if record.state is ContainerState.EXITED:
            container.exited.set()

    def remove_container(self, container: Container) -> bool:
        """Forget a container of which nothing is left; returns as :meth:`remove_pod`."""
        gone = self._write(container.id, lambda: self._database.delete_container(container.id))
        del self._containers[container.id]
        del self._names[container.record.name]
        container.pod.containers.pop(container.id, None)
        return gone

    def _remember_pod(self, pod: Pod) -> None:
        self._pods[pod.id] = pod
        self._names[pod.record.name] = pod.id

    def _remember(self, container: Container) -> None:
        self._containers[container.id] = container
        self._names[container.record.name] = container.id
        container.pod.containers[container.id] = container
        if container.record.state is ContainerState.EXITED:
            container.exited.set()

    def _check_name(self, name: str, kind: str) -> None:
        holder = self._names.get(name)
        if holder is not None:
            raise NameTakenError(
                f"the {kind} name {name!r} is reserved for {holder}: remove that one first, or "
                "ask with another attempt number"
            )


def sandbox_name(metadata: cri.PodSandboxMetadata) -> str:
    """Return the name that at most one pod may have (as containerd forms it)."""
    return "_".join((metadata.name, metadata.namespace, metadata.uid, str(metadata.attempt)))


def container_name(metadata: cri.ContainerMetadata, pod: Pod) -> str:
    """Return the name that at most one container may have (as containerd forms it)."""
    owner = pod.config.metadata
    return "_".join((metadata.name, owner.name, owner.namespace, pod.id, str(metadata.attempt)))


def _find(items: dict[str, _Item], wanted: str, kind: str) -> _Item:
    exact = items.get(wanted)
    if exact is not None:
        return exact
    matches = _with_prefix(items.values(), wanted)
    if len(matches) > 1:
        raise AmbiguousIdError(f"{len(matches)} {kind} ids begin with {wanted!r}: give more of it")
    if not matches:
        raise NotFoundError(f"there is no {kind} with id {wanted!r}")
    return matches[0]


def _with_prefix(items: Iterable[_Item], prefix: str) -> list[_Item]:
    if len(prefix) < _MIN_PREFIX:
        return []
    return [item for item in items if item.id.startswith(prefix)]
