"""Which pods get the resources that they want now: all pods of the node, and one queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from kubeletpy.api.base import now as api_now
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodCondition, PodStatus
from kubeletpy.events import Recorder
from kubeletpy.resources.totals import Resources

from .allocation import (
    Allocation,
    allocated,
    allocation_of,
    exclusive_fault,
    shortage,
    urgency,
)
from .messages import message

PENDING, IN_PROGRESS = "PodResizePending", "PodResizeInProgress"
DEFERRED, INFEASIBLE, ERROR = "Deferred", "Infeasible", "Error"


@dataclass
class PodResize:
    """One pod: what it wants, what it was allocated, and what is said about the difference.

    Attributes:
        wanted: as specified.
        allocation: what it may use.
        pending: condition PodResizePending, None if nothing is pending.
        in_progress: condition PodResizeInProgress, None if what runs is what was allocated.
        finished: the pod has come to its end and uses nothing any more.
    """

    wanted: Pod
    allocation: Allocation
    pending: PodCondition | None = None
    in_progress: PodCondition | None = None
    finished: bool = False

    @property
    def pod(self) -> Pod:
        """The pod with what it was allocated."""
        return allocated(self.wanted, self.allocation)

    @property
    def conditions(self) -> list[PodCondition]:
        """What the status says about the resize."""
        return [one for one in (self.pending, self.in_progress) if one is not None]

    def begin(self, reason: str = "", text: str = "") -> bool:
        """Say that a resize is in progress, and why it does not get on; return whether it is news.

        The generation is that of the specification that the resize was begun for.
        """
        before = self.in_progress
        if before is not None and not reason:
            return False
        generation = (
            self.wanted.metadata.generation if before is None else (before.observed_generation)
        )
        self.in_progress = _condition(IN_PROGRESS, before, reason, text, generation)
        return before is None or (before.reason, before.message) != (reason, text)

    def complete(self) -> int | None:
        """Say that it is done; return the generation it was begun for, None if there was none."""
        before, self.in_progress = self.in_progress, None
        return None if before is None else before.observed_generation


@dataclass
class Policies:
    """What of the node makes resizes infeasible: static policies give out whole CPUs or NUMA nodes.

    Attributes:
        static_cpus, static_memory: whether the managers are static.
        swap_fault: tells why containers with swap cannot be resized; "" if they can.
    """

    static_cpus: bool = False
    static_memory: bool = False
    swap_fault: Callable[[Pod, Pod], str] = field(default=lambda before, after: "")


class Resizes:
    """All pods of the node.

    Args:
        allocatable: what pods may use together, by resource name; what is missing is not checked.
        recorder: takes the events.
        changed: called with the uid of a pod whose allocation or conditions changed.
        policies: see `Policies`.
    """

    def __init__(
        self,
        allocatable: Callable[[], Resources],
        recorder: Recorder,
        changed: Callable[[str], None] = lambda uid: None,
        policies: Policies | None = None,
    ) -> None:
        self.changed = changed
        self.policies = policies or Policies()
        self._allocatable = allocatable
        self._recorder = recorder
        self._pods: dict[str, PodResize] = {}
        self._retrying = False

    def add(self, pod: Pod, saved: Pod | None = None, status: PodStatus | None = None) -> PodResize:
        """Take in a pod that the node admitted.

        Args:
            pod: as it is wanted.
            saved: as an earlier kubelet ran it; that is what it was allocated.
            status: as an earlier kubelet wrote it.
        """
        entry = PodResize(pod, allocation_of(pod if saved is None else saved))
        for condition in status.conditions if status is not None else []:
            if condition.type == PENDING:
                entry.pending = condition
            elif condition.type == IN_PROGRESS:
                entry.in_progress = condition
        self._pods[pod.metadata.uid] = entry
        if self._wants(entry):
            self._retry_soon()
        return entry

    def update(self, pod: Pod) -> Pod:
        """Take over a changed specification; return the pod with what it may use of it."""
        entry = self._pods.get(pod.metadata.uid)
        if entry is None:
            return self.add(pod).pod
        entry.wanted = pod
        if self._wants(entry):
            self.retry(but=pod.metadata.uid)
        else:
            entry.pending = None
        return entry.pod

    def get(self, uid: str) -> PodResize | None:
        """Return a pod."""
        return self._pods.get(uid)

    def finish(self, uid: str) -> None:
        """Count a pod no more: all of it has ended."""
        entry = self._pods.get(uid)
        if entry is not None and not entry.finished:
            entry.finished = True
            entry.pending = entry.in_progress = None
            self._retry_soon()

    def remove(self, uid: str) -> None:
        """Forget a pod."""
        if self._pods.pop(uid, None) is not None:
            self._retry_soon()

    def pods(self) -> list[Pod]:
        """Return the pods that use something, with what they were allocated."""
        return [entry.pod for entry in self._pods.values() if not entry.finished]

    def retry(self, *, but: str = "") -> None:
        """Try all pending resizes in their order; tell of what changed, but not of pod ``but``."""
        waiting = [
            entry for entry in self._pods.values() if not entry.finished and self._wants(entry)
        ]
        for entry in sorted(waiting, key=_order):
            uid = entry.wanted.metadata.uid
            if self._decide(entry) and uid != but:
                self.changed(uid)

    def _retry_soon(self) -> None:
        """Retry once everything that happens at this moment has been taken in."""
        if self._retrying or not any(self._wants(one) for one in self._pods.values()):
            return
        self._retrying = True

        def run() -> None:
            self._retrying = False
            self.retry()

        asyncio.get_running_loop().call_soon(run)

    def _wants(self, entry: PodResize) -> bool:
        return allocation_of(entry.wanted) != entry.allocation

    def _decide(self, entry: PodResize) -> bool:
        """Allocate what a pod wants, or say why not; return whether anything changed."""
        pod, before = entry.wanted, entry.pod
        uid, generation = pod.metadata.uid, pod.metadata.generation
        reason, text = INFEASIBLE, self._infeasible(before, pod)
        if not text:
            others = [one.pod for key, one in self._pods.items() if key != uid and not one.finished]
            reason, text = DEFERRED, shortage(pod, others, self._allocatable())
        if not text:
            entry.allocation = allocation_of(pod)
            entry.pending = entry.in_progress = None
            entry.begin()
            started = message("Pod resize started", pod, generation)
            self._recorder.normal(pod, "ResizeStarted", started)
            return True
        last = entry.pending
        entry.pending = _condition(PENDING, last, reason, text, generation)
        if last is not None and (last.reason, last.observed_generation) == (reason, generation):
            return last.message != text
        told = message(f"Pod resize {reason}", pod, generation, text)
        self._recorder.warning(pod, f"Resize{reason}", told)
        return True

    def _infeasible(self, before: Pod, after: Pod) -> str:
        return self.policies.swap_fault(before, after) or exclusive_fault(
            before,
            after,
            static_cpus=self.policies.static_cpus,
            static_memory=self.policies.static_memory,
        )


def _order(entry: PodResize) -> tuple[bool, int, bool, float]:
    since = entry.pending.last_transition_time if entry.pending is not None else None
    return urgency(entry.pod, entry.wanted, since.timestamp() if since else float("inf"))


def _condition(
    kind: str, before: PodCondition | None, reason: str, text: str, generation: int
) -> PodCondition:
    time: datetime = api_now()
    same = before is not None and before.reason == reason
    return PodCondition(
        type=kind,
        status="True",
        reason=reason,
        message=text,
        observed_generation=generation,
        last_probe_time=time if before is None or not same else before.last_probe_time,
        last_transition_time=before.last_transition_time if before is not None and same else time,
    )
