"""Having pods go that make room for another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from controlplane.engine.controller import Context, timestamp
from controlplane.engine.resources import PODS, is_deleting
from kubeletpy_common import logs
from kubeletpy_common.apiclient.errors import ApiError

from .binding import Binder
from .pods import PodInfo
from .preemption import BY_SCHEDULER, Candidate
from .reporting import Reporter, changes

_log = logging.getLogger(__name__)
TARGET: Final = "DisruptionTarget"


class Evictor:
    """Deletes victims; the pods for which it does are not tried meanwhile.

    Args:
        context: of the process.
        binder: writes statuses.
        reporter: tells.
    """

    def __init__(self, context: Context, binder: Binder, reporter: Reporter) -> None:
        self._context = context
        self._binder = binder
        self._reporter = reporter
        self._preempting: set[str] = set()
        self._last: dict[str, PodInfo] = {}

    def is_busy(self, uid: str) -> bool:
        """Whether victims of a pod are still to be deleted."""
        if uid not in self._preempting:
            return False
        last = self._last.get(uid)
        if last is None:
            return True
        found = self._context.informers.of(PODS).get(last.key)
        # Once the last is on its way the informer may tell of it before the answer comes.
        return found is not None and found["metadata"]["uid"] == last.uid and not is_deleting(found)

    def begin(self, pod: PodInfo) -> None:
        """Take note that victims of a pod are to be deleted."""
        self._preempting.add(pod.uid)

    async def make_room(
        self, pod: PodInfo, candidate: Candidate, nominated: Sequence[PodInfo]
    ) -> bool:
        """Delete the victims.

        Args:
            pod: that needs the room.
            candidate: where, and who goes.
            nominated: less important pods to which the node was promised.

        Returns:
            Whether all are on their way.
        """
        try:
            for one in nominated:
                await self._reporter.mark(one, None, "")
            victims = [one for one in candidate.victims if not one.deleting]
            if not victims:
                return True
            work = (self._delete(pod, one, candidate) for one in victims[:-1])
            for result in await asyncio.gather(*work, return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result
            self._last[pod.uid] = victims[-1]
            await self._delete(pod, victims[-1], candidate)
        except ApiError as error:
            logs.event(_log, logging.WARNING, "no room was made for a pod", pod=pod.key,
                       node=candidate.node, reason=str(error))  # fmt: skip
            return False
        finally:
            self._preempting.discard(pod.uid)
            self._last.pop(pod.uid, None)
        return True

    async def _delete(self, pod: PodInfo, victim: PodInfo, candidate: Candidate) -> None:
        text = f"{pod.scheduler}: preempting to accommodate a higher priority pod"
        condition = {"type": TARGET, "status": "True", "reason": BY_SCHEDULER, "message": text}
        generation = victim.pod["metadata"].get("generation")
        if generation:
            condition["observedGeneration"] = generation
        try:
            if changes(victim.pod, condition):
                moment = timestamp(self._context.clock())
                stamped = {**condition, "lastProbeTime": None, "lastTransitionTime": moment}
                await self._binder.status(victim.pod, {"conditions": [stamped]})
            await self._context.writer.delete(PODS, victim.pod)
        except ApiError as error:
            if not error.not_found:
                raise
            return
        text = f"Preempted by pod {pod.uid} on node {candidate.node}"
        self._context.recorder.of(pod.scheduler).normal(victim.pod, "Preempted", text)
