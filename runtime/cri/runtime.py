"""What the RPCs work on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubeletpy_common.logs import event
from runtime.cdi.registry import CdiRegistry
from runtime.config import Config
from runtime.cri.events import EventBroker
from runtime.cri.stats_sampling import CpuRates, LayerSizes
from runtime.handlers.features import FeatureReader
from runtime.handlers.table import Handlers
from runtime.oci.request import HostFacts
from runtime.state.store import Container, Pod, Store

if TYPE_CHECKING:
    from kubeletpy_common.cgroups import Cgroup, Hierarchy
    from runtime.images.service import ImageStore
    from runtime.network.pod_network import PodNetwork
    from runtime.snapshots.overlay import Snapshots
    from runtime.spawner.client import Spawner
    from runtime.streaming.server import StreamingServer

_log = logging.getLogger("runtime")


@dataclass
class Runtime:
    """The parts of the daemon, put together once by ``runtime.daemon``.

    Attributes:
        config: the settings.
        store: pods and containers.
        spawner: makes shims.
        images: pulls and keeps images.
        snapshots: makes containers' root file systems.
        network: gives pods their links and addresses.
        cgroups: the cgroups of the machine.
        events: who wants to know of changes.
        streaming: serves exec, attach and port-forward.
        host: facts of the machine.
        boot_id: of this boot.
        background: tasks that are under way.
        cpu_rates: how much CPU containers and pods use at present.
        layer_sizes: how large containers' writable layers are.
        handlers: the runtime handlers.
        features: asks their programs what they can do.
        cdi: devices that vendors describe.
    """

    config: Config
    store: Store
    spawner: Spawner
    images: ImageStore
    snapshots: Snapshots
    network: PodNetwork
    cgroups: Hierarchy
    events: EventBroker
    streaming: StreamingServer
    host: HostFacts
    boot_id: str
    background: set[asyncio.Future[Any]] = field(default_factory=set)
    cpu_rates: CpuRates = field(default_factory=CpuRates)
    layer_sizes: LayerSizes = field(init=False)
    handlers: Handlers = field(init=False)
    features: FeatureReader = field(default_factory=FeatureReader)
    cdi: CdiRegistry = field(init=False)

    def __post_init__(self) -> None:
        self.layer_sizes = LayerSizes(self.snapshots.usage)
        self.handlers = Handlers(self.config)
        self.cdi = CdiRegistry(self.config.cdi.spec_dirs)

    def sandbox_directory(self, sandbox_id: str) -> Path:
        """Return where a pod's files, pins and shim socket are."""
        return self.config.state / "sandboxes" / sandbox_id

    def container_directory(self, container_id: str) -> Path:
        """Return the bundle of a container: its OCI configuration and exit record."""
        return self.config.state / "containers" / container_id

    def volumes_directory(self, container_id: str) -> Path:
        """Return where the anonymous volumes of a container are, which may be large."""
        return self.config.root / "volumes" / container_id

    def cgroup_of(self, container: Container) -> Cgroup:
        """Return the cgroup of a container."""
        return self.cgroups.cgroup(container.record.cgroup)

    def in_background(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run ``work`` beside the caller; a failure of it is logged."""
        task = asyncio.create_task(work, name=name)
        self.keep(task)
        task.add_done_callback(_report)
        return task

    def keep(self, task: asyncio.Future[Any]) -> None:
        """Hold on to a task until it is done, so that a shutdown can wait for it."""
        self.background.add(task)
        task.add_done_callback(self._let_go)

    def _let_go(self, task: asyncio.Future[Any]) -> None:
        self.background.discard(task)
        if not task.cancelled():
            # Retrieved, so that asyncio does not report a failure that the caller was told of,
            # or that nobody waits for any more.
            task.exception()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        event(_log, logging.ERROR, "background work failed", task=task.get_name(), error=error)


def describe(pod: Pod, container: Container | None = None) -> dict[str, str]:
    """Return the log fields that name a pod, and a container of it."""
    fields = {"pod": pod.label, "pod_id": pod.id[:12]}
    if container is not None:
        fields |= {
            "container": container.config.metadata.name,
            "container_id": container.id[:12],
        }
    return fields
