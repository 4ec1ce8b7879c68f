"""What all workers of pods share."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodStatus
from kubeletpy.cri.client import CriClient
from kubeletpy.events import Recorder
from kubeletpy.hooks.runner import Hooks
from kubeletpy.images.pulls import Images
from kubeletpy.probes.worker import Check
from kubeletpy.resize.coordinator import Resizes
from kubeletpy.resize.execute import Executor
from kubeletpy.status.generate import Node

from .checkpoint import Checkpoints
from .environment import Environment
from .handlers import RuntimeHandlers
from .measures import Measures
from .observe import Observer


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What all workers share.

    Attributes:
        farewells: awaited with a pod that has ended and of which nothing lives or is mounted any
            more, before its last traces are removed.
        measures: told how long things took.
        status_adders: each adds to the status of a pod what is known elsewhere.
    """

    cri: CriClient
    observer: Observer
    environment: Environment
    images: Images
    check: Check
    hooks: Hooks
    recorder: Recorder
    checkpoints: Checkpoints
    node: Node
    resizes: Resizes | None = None
    executor: Executor | None = None
    handlers: RuntimeHandlers = field(default_factory=RuntimeHandlers)
    clock: Callable[[], float] = time.time
    farewells: list[Callable[[Pod], Awaitable[None]]] = field(default_factory=list)
    measures: Measures = field(default_factory=Measures)
    status_adders: list[Callable[[Pod, PodStatus], None]] = field(default_factory=list)
