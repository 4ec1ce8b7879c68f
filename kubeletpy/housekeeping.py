"""What keeps the node tidy besides its pods: images that nobody uses, logs that grow."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from kubeletpy.api.quantity import Quantity
from kubeletpy.cri import labels
from kubeletpy.cri.client import CriError
from kubeletpy_common import logs
from kubeletpy_proto import cri_pb2

from .images.collection import ImageCollector
from .images.collection import Policy as ImagePolicy
from .log_rotation.manager import Log, LogRotator
from .log_rotation.manager import Policy as LogPolicy

if TYPE_CHECKING:
    from .core import Core

_log = logging.getLogger(__name__)
_ENDED = ("Succeeded", "Failed")


def install(core: Core) -> None:
    """Add the collection of images and the rotation of logs to a kubelet."""
    one = core.settings.configuration
    images = ImageCollector(
        core.cri,
        ImagePolicy(
            high_percent=one.image_gc_high_threshold_percent,
            low_percent=one.image_gc_low_threshold_percent,
            minimum_age=one.image_minimum_gc_age,
            maximum_age=one.image_maximum_gc_age,
        ),
        core.recorder,
        core.manager.pods,
    )
    logs_of = LogRotator(
        core.cri,
        LogPolicy(
            maximum_size=int(Quantity(one.container_log_max_size)),
            maximum_files=one.container_log_max_files,
            workers=one.container_log_max_workers,
            interval=one.container_log_monitor_interval,
        ),
        lambda: [Log(key, Path(path)) for key, path in core.manager.workers.running_logs()],
    )
    # 100 percent means never.
    if one.image_gc_high_threshold_percent < 100 or one.image_maximum_gc_age:
        core.background.append(("image garbage collection", images.run))
    core.background.append(("log rotation", logs_of.run))
    core.on_status.append(lambda pod, status: logs_of.ring())
    core.on_status.append(images.used)
    core.reclaimers += [lambda: remove_ended(core), images.remove_unused]


async def remove_ended(core: Core) -> bool:
    """Remove the containers of pods that have come to their end; return whether any went.

    Their statuses stay, their logs and writable layers go: under pressure that comes before the
    eviction of a pod that runs.
    """
    ended = {pod.metadata.uid for pod in core.manager.pods() if pod.status.phase in _ENDED}
    try:
        containers = await core.cri.list_containers()
    except CriError:
        return False
    dead = [
        one.id
        for one in containers
        if one.state == cri_pb2.CONTAINER_EXITED and one.labels.get(labels.POD_UID) in ended
    ]
    outcomes = await asyncio.gather(
        *(core.cri.remove_container(one) for one in dead), return_exceptions=True
    )
    for failed in (one for one in outcomes if isinstance(one, BaseException)):
        logs.event(_log, logging.WARNING, "container not removed", reason=str(failed))
    return any(not isinstance(one, BaseException) for one in outcomes)
