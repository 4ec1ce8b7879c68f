"""What the parts of one kubelet share, and where they hook in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiohttp import web

from kubeletpy.admission.admission import Admitter
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodStatus
from kubeletpy.cri.client import CriClient
from kubeletpy.cri.node import NodeFacts
from kubeletpy.eviction.manager import EvictionManager
from kubeletpy.object_cache import ObjectCache
from kubeletpy.pods.local import LocalEnvironment
from kubeletpy.pods.manager import PodManager
from kubeletpy.pods.tools import Tools
from kubeletpy.registration.presence import NodePresence
from kubeletpy.resources.cgroups import PodCgroups
from kubeletpy.sources.updates import PodUpdates
from kubeletpy.volumes.manager import PodVolumes
from kubeletpy_common import logs
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.cgroups import Hierarchy

from .events import Recorder
from .settings import Settings

_log = logging.getLogger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a background task that broke is started again: at first, and at most."""

Background: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


@dataclass(kw_only=True)
class Core:
    """One kubelet's shared parts; each package's ``install(core)`` adds to it.

    Attributes:
        settings: of the kubelet.
        facts: of the node.
        hierarchy: the cgroups of the machine.
        cgroups: those of the pods.
        cri: the runtime.
        api: the API server; None for a standalone kubelet.
        objects: ConfigMaps and Secrets of the pods; None for a standalone kubelet.
        presence: the node in the API server, as it is there and how its status is added to; None
            for a standalone kubelet.
        recorder: takes events.
        volumes: of the pods.
        environment: files, volumes and cgroups of the pods; other parts add to configurations.
        tools: what the workers of the pods share.
        manager: the pods.
        background: what runs as long as the kubelet, by name; started again if it breaks.
        ready_checks: by name; each returns why the node is not Ready, or "".
        pressure: what the node is short of: MemoryPressure, DiskPressure, PIDPressure.
        eviction: the eviction manager, once it runs.
        reclaimers: each frees disk space of the node and tells whether it freed any.
        sources: of pods, by name, besides the directory of static pods.
        node_adders: each adds to the status of a standalone node, which admission goes by.
        statuses_told: returns once the API server knows the statuses of all pods; None: there is
            none to tell.
        on_status: each is called with every new status of a pod.
        on_gone: each is called with a pod of which nothing is left on the node.
        admitters: each is awaited with a pod that comes to the node, gives it what it asks for,
            and returns why it cannot be had.
        routes: each adds its handlers to the application of port 10250.
        closers: awaited in reverse order when the kubelet ends.
    """

    settings: Settings
    facts: NodeFacts
    hierarchy: Hierarchy
    cgroups: PodCgroups
    cri: CriClient
    api: ApiClient | None
    objects: ObjectCache | None
    presence: NodePresence | None = None
    recorder: Recorder
    volumes: PodVolumes
    environment: LocalEnvironment
    tools: Tools
    manager: PodManager
    background: list[tuple[str, Background]] = field(default_factory=list)
    ready_checks: dict[str, Callable[[], str]] = field(default_factory=dict)
    pressure: set[str] = field(default_factory=set)
    eviction: EvictionManager | None = None
    reclaimers: list[Callable[[], Awaitable[bool]]] = field(default_factory=list)
    sources: dict[str, AsyncIterable[PodUpdates]] = field(default_factory=dict)
    node_adders: list[Callable[[dict[str, Any]], None]] = field(default_factory=list)
    statuses_told: Background | None = None
    on_status: list[Callable[[Pod, PodStatus], None]] = field(default_factory=list)
    on_gone: list[Callable[[Pod], None]] = field(default_factory=list)
    admitters: list[Admitter] = field(default_factory=list)
    routes: list[Callable[[web.Application], None]] = field(default_factory=list)
    closers: list[Background] = field(default_factory=list)

    def published(self, pod: Pod, status: PodStatus) -> None:
        """Tell all who want to know of a new status."""
        for each in self.on_status:
            each(pod, status)

    def object_changed(self, uid: str) -> None:
        """A ConfigMap or Secret that a pod names has changed, or was read first."""
        self.manager.workers.retry(uid)
        self.volumes.changed(uid)

    def gone(self, pod: Pod) -> None:
        """Tell all who want to know that nothing is left of a pod."""
        for each in self.on_gone:
            each(pod)


async def keep_running(name: str, work: Background) -> None:
    """Run ``work`` until cancelled; if it breaks, log why and start it again after a pause.

    An API server that does not answer is a condition of the cluster, and no defect of the part.
    """
    pause = FIRST_PAUSE
    loop = asyncio.get_running_loop()
    while True:
        begun = loop.time()
        try:
            await work()
            return
        except Exception as error:
            if loop.time() - begun > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            level, what = logging.ERROR, "a part of the kubelet broke; it is started again"
            if isinstance(error, ApiError) and error.transient:
                level, what = logging.WARNING, "the API server failed a part of the kubelet"
            reason = f"{type(error).__name__}: {error}"
            logs.event(_log, level, what, part=name, reason=reason, after_s=pause)
            _log.debug("traceback", exc_info=error)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
