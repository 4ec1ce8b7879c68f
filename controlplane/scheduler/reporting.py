"""What is told of an attempt: events, the condition of the pod, and the node promised to it."""

from __future__ import annotations

import logging
from typing import Final

from controlplane.engine.controller import Context, timestamp
from controlplane.engine.resources import Object
from kubeletpy_common import logs
from kubeletpy_common.apiclient.errors import ApiError

from .binding import Binder
from .nodes import condition_of
from .pods import PodInfo

_log = logging.getLogger(__name__)
UNSCHEDULABLE: Final = "Unschedulable"
ERROR: Final = "SchedulerError"
_LONGEST: Final = 1024


class Reporter:
    """Tells of attempts.

    Args:
        context: of the process.
        binder: writes.
    """

    def __init__(self, context: Context, binder: Binder) -> None:
        self._context = context
        self._binder = binder

    def scheduled(self, pod: PodInfo, node: str) -> None:
        """Tell that a pod has a node."""
        name = pod.pod["metadata"]["name"]
        text = f"Successfully assigned {pod.namespace}/{name} to {node}"
        self._context.recorder.of(pod.scheduler).normal(pod.pod, "Scheduled", text)

    def failed(self, pod: PodInfo, message: str) -> None:
        """Tell why a pod has no node."""
        text = message if len(message) <= _LONGEST else message[: _LONGEST - 4] + " ..."
        self._context.recorder.of(pod.scheduler).warning(pod.pod, "FailedScheduling", text)

    async def mark(self, pod: PodInfo, condition: Object | None, nominated: str | None) -> None:
        """Write a condition and the promised node into the status of a pod, if they changed.

        Args:
            pod: as it is known.
            condition: to write; None: leave them.
            nominated: the node; "": none any more; None: leave it.
        """
        status: Object = {}
        if condition is not None and changes(pod.pod, condition):
            status["conditions"] = [self._stamped(pod.pod, condition)]
        if nominated is not None and nominated != pod.nominated:
            status["nominatedNodeName"] = nominated or None
        if not status:
            return
        try:
            await self._binder.status(pod.pod, status)
        except ApiError as error:
            if not error.not_found:
                logs.event(_log, logging.WARNING, "the status of a pod was not written",
                           pod=pod.key, reason=str(error))  # fmt: skip

    def _stamped(self, pod: Object, condition: Object) -> Object:
        before = condition_of(pod, condition["type"])
        moment = before.get("lastTransitionTime")
        if before.get("status") != condition["status"] or moment is None:
            moment = timestamp(self._context.clock())
        return {**condition, "lastProbeTime": None, "lastTransitionTime": moment}


def refusal(pod: Object, reason: str, message: str) -> Object:
    """Return the condition of a pod that has no node (pure)."""
    made = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    generation = pod["metadata"].get("generation")
    return {**made, "observedGeneration": generation} if generation else made


def changes(pod: Object, condition: Object) -> bool:
    """Whether a condition says something that the pod's does not (pure)."""
    before = condition_of(pod, condition["type"])
    return any(before.get(key) != value for key, value in condition.items())
