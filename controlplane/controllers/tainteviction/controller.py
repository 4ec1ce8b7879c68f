"""Pods are deleted from nodes that have a NoExecute taint which they do not tolerate any more."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from controlplane.controllers.nodes import BY_NODE, disruption, node_of, taints_of
from controlplane.engine.controller import Context, Controller, moment_of, monotonic
from controlplane.engine.measures import Spread, Tally
from controlplane.engine.resources import NODES, PODS, Object, is_deleting, key_of
from kubeletpy_common.apiclient.client import STRATEGIC_PATCH
from kubeletpy_common.apiclient.errors import ApiError

from .tolerations import FOREVER, patience

_EFFECT = "NoExecute"
_BOUNDS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 120.0, 180.0, 240.0)


class TaintEvictionController(Controller):
    """Deletes pods, each when the shortest time that it tolerates its node's taints is over.

    The time counts from when the first of the taints was added, or the pod was made, if that was
    later; once it counts, by a clock that nobody sets.
    """

    name: ClassVar[str] = "taint-eviction-controller"
    workers: ClassVar[int] = 8

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._recorder = context.recorder.of(self.name)
        self._since: dict[str, tuple[str, float]] = {}
        self._nodes = context.informers.of(NODES)
        self._pods = context.informers.of(PODS)
        self._pods.index(BY_NODE, node_of)
        self._deletions = Tally("taint_eviction_controller_pod_deletions", "Pods deleted.")
        self._late = Spread(
            "taint_eviction_controller_pod_deletion_duration_seconds",
            "From the end of a pod's time on its node until it was deleted.", _BOUNDS,
        )  # fmt: skip
        self.measures += [self._deletions, self._late]
        self._nodes.listen(self._node_changed)
        self._pods.listen(self._pod_changed)

    def _node_changed(self, before: Object | None, node: Object | None) -> None:
        found = node or before
        assert found is not None
        old = taints_of(before, _EFFECT) if before is not None else []
        if node is not None and taints_of(node, _EFFECT) != old:
            for pod in self._pods.indexed(BY_NODE, found["metadata"]["name"]):
                self.queue.add(key_of(pod))

    def _pod_changed(self, before: Object | None, pod: Object | None) -> None:
        found = pod or before
        assert found is not None
        if before is not None and pod is not None and _placing(before) == _placing(pod):
            return
        if pod is None and key_of(found) not in self._since:
            return
        self.queue.add(key_of(found))

    async def sync(self, key: str) -> float | None:
        """Delete a pod if its time on its node is over."""
        pod = self._pods.get(key)
        if pod is None or is_deleting(pod):
            self._since.pop(key, None)
            return None
        node = self._nodes.get(pod["spec"].get("nodeName") or "")
        taints = taints_of(node, _EFFECT) if node is not None else []
        seconds = patience(taints, pod["spec"].get("tolerations") or [])
        if seconds == FOREVER:
            self._cancel(key, pod)
            return None
        since = self._since_of(key, pod, [one["timeAdded"] for one in taints if "timeAdded" in one])
        left = since + seconds - monotonic()
        if seconds and left > 0:
            return left
        if await self._evict(key, pod):
            self._deletions.add()
            self._late.add(monotonic() - since - seconds)
        return None

    def _since_of(self, key: str, pod: Object, added: list[str]) -> float:
        """Return since when the time of a pod counts; other taints do not begin it anew."""
        uid = pod["metadata"]["uid"]
        known = self._since.get(key)
        if known is not None and known[0] == uid:
            return known[1]
        made = moment_of(pod["metadata"]["creationTimestamp"])
        past = _seconds_since(max([made, *map(moment_of, sorted(added)[:1])]), self.context.clock())
        since = monotonic() - past
        self._since[key] = (uid, since)
        return since

    def _cancel(self, key: str, pod: Object) -> None:
        known = self._since.pop(key, None)
        if known is not None and known[0] == pod["metadata"]["uid"]:
            text = f"Cancelling deletion of Pod {key}"
            self._recorder.normal(pod, "TaintManagerEviction", text)

    async def _evict(self, key: str, pod: Object) -> bool:
        """Delete a pod; whether it was there."""
        self._recorder.normal(pod, "TaintManagerEviction", f"Marking for deletion Pod {key}")
        condition = disruption(pod, "DeletionByTaintManager",
                               "Taint manager: deleting due to NoExecute taint",
                               self.context.clock())  # fmt: skip
        changes = {"metadata": {"uid": pod["metadata"]["uid"]},
                   "status": {"conditions": [condition]}}  # fmt: skip
        try:
            await self.context.writer.patch(
                PODS, pod, changes, subresource="status", kind=STRATEGIC_PATCH
            )
        except ApiError as error:
            # Gone, or another pod has the name.
            if error.not_found or error.reason in ("Conflict", "Invalid"):
                return False
            raise
        await self.context.writer.delete(PODS, pod)
        self._since.pop(key, None)
        return True


def _placing(pod: Object) -> tuple[object, ...]:
    """Return what a decision depends on."""
    spec = pod["spec"]
    meta = pod["metadata"]
    return spec.get("nodeName"), spec.get("tolerations"), meta["uid"], is_deleting(pod)


def _seconds_since(moment: datetime, now: datetime) -> float:
    return max((now - moment).total_seconds(), 0.0)
