"""Pods are removed that ended long ago, or whose node is gone for good."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from controlplane.controllers.nodes import BY_NODE, disruption, node_of, ready_status
from controlplane.controllers.podcontrol import all_of
from controlplane.controllers.pods import has_ended
from controlplane.engine.controller import Context, Controller
from controlplane.engine.measures import Tally
from controlplane.engine.resources import NODES, PODS, Object, is_deleting, key_of
from kubeletpy_common.apiclient.client import STRATEGIC_PATCH
from kubeletpy_common.apiclient.errors import ApiError

QUARANTINE: Final = 40.0
"""Seconds that a node must be gone for before its pods go, too: it may be made again."""
BATCH: Final = 1.0
"""Seconds for which pods that ended are collected before the oldest go."""
_TAINT: Final = "node.kubernetes.io/out-of-service"
_TERMINATED: Final = "terminated"
_ORPHANED: Final = "orphaned"
_OUT_OF_SERVICE: Final = "out-of-service"
_UNBOUND: Final = "unscheduled"
_ENDED: Final = "ended"
_POD: Final = "pod "
_NODE: Final = "node "


def should_go(pod: Object, node: Object | None) -> bool:
    """Whether a pod that is being deleted goes at once: nobody is there to end it (pure)."""
    if not is_deleting(pod):
        return False
    if not pod["spec"].get("nodeName"):
        return True
    if node is None or ready_status(node) == "True":
        return False
    return any(one["key"] == _TAINT for one in node["spec"].get("taints") or ())


def oldest(ended: list[Object], count: int) -> list[Object]:
    """Return so many pods that go first: those that were evicted, then by age (pure)."""

    def order(pod: Object) -> tuple[bool, str, str]:
        evicted = pod["status"].get("reason") == "Evicted" and pod["status"]["phase"] == "Failed"
        meta = pod["metadata"]
        return not evicted, meta["creationTimestamp"], meta["name"]

    return sorted(ended, key=order)[: max(count, 0)]


class PodGarbageCollector(Controller):
    """Removes pods; keys are ``pod NAMESPACE/NAME``, ``node NAME`` and ``ended``."""

    name: ClassVar[str] = "pod-garbage-collector-controller"
    workers: ClassVar[int] = 4

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._threshold: int = context.options.get("terminated_pod_gc_threshold", 12500)
        self._quarantine: float = context.options.get("pod_gc_quarantine", QUARANTINE)
        self._ended: set[str] = set()
        self._nodes = context.informers.of(NODES)
        self._pods = context.informers.of(PODS)
        self._pods.index(BY_NODE, node_of)
        self._removals = Tally(
            "pod_gc_collector_force_delete_pods", "Pods that were removed at once.",
            "namespace", "reason",
        )  # fmt: skip
        self._failures = Tally(
            "pod_gc_collector_force_delete_pod_errors", "Pods that could not be removed.",
            "namespace", "reason",
        )  # fmt: skip
        self.measures += [self._removals, self._failures]
        self._nodes.listen(self._node_changed)
        self._pods.listen(self._pod_changed)

    def _node_changed(self, before: Object | None, node: Object | None) -> None:
        found = node or before
        assert found is not None
        name = found["metadata"]["name"]
        pods = self._pods.indexed(BY_NODE, name)
        if node is None:
            if pods:
                self.queue.add_after(_NODE + name, self._quarantine)
        elif before is None or _state(before) != _state(node):
            for pod in pods:
                if is_deleting(pod):
                    self.queue.add(_POD + key_of(pod))

    def _pod_changed(self, before: Object | None, pod: Object | None) -> None:
        found = pod or before
        assert found is not None
        key = key_of(found)
        if pod is None or not has_ended(pod):
            self._ended.discard(key)
        else:
            self._ended.add(key)
            if 0 < self._threshold < len(self._ended):
                self.queue.add_after(_ENDED, BATCH)
        if pod is None:
            return
        if is_deleting(pod):
            self.queue.add(_POD + key)
        for name in node_of(pod):
            if self._nodes.get(name) is None:
                self.queue.add_after(_NODE + name, self._quarantine)

    async def sync(self, key: str) -> float | None:
        """Remove what a key stands for, if it is to go."""
        if key == _ENDED:
            found = [pod for one in self._ended if (pod := self._pods.get(one)) is not None]
            await self._remove_all(oldest(found, len(found) - self._threshold), _TERMINATED)
        elif key.startswith(_POD):
            pod = self._pods.get(key.removeprefix(_POD))
            if pod is not None and should_go(pod, self._nodes.get(pod["spec"].get("nodeName", ""))):
                await self._remove(
                    pod, _OUT_OF_SERVICE if pod["spec"].get("nodeName") else _UNBOUND
                )
        else:
            await self._remove_orphans(key.removeprefix(_NODE))
        return None

    async def _remove_orphans(self, name: str) -> None:
        pods = self._pods.indexed(BY_NODE, name)
        if pods and self._nodes.get(name) is None and not await self._exists(name):
            await self._remove_all(pods, _ORPHANED)

    async def _exists(self, name: str) -> bool:
        """Ask the server: memory may not know of a new node yet."""
        try:
            await self.context.client.get(NODES.path(name=name))
        except ApiError as error:
            if error.not_found:
                return False
            raise
        return True

    async def _remove_all(self, pods: list[Object], reason: str) -> None:
        async def remove(number: int) -> None:
            await self._remove(pods[number], reason)

        errors = await all_of(list(range(len(pods))), remove)
        if errors:
            raise errors[0]

    async def _remove(self, pod: Object, reason: str) -> None:
        """Remove a pod at once, and count that."""
        namespace = pod["metadata"].get("namespace", "")
        try:
            removed = await self._remove_now(pod, orphaned=reason == _ORPHANED)
        except ApiError:
            self._failures.add(namespace, reason)
            raise
        self._removals.add(namespace, reason, count=int(removed))

    async def _remove_now(self, pod: Object, *, orphaned: bool) -> bool:
        """Say that a pod failed, since nobody else can, and remove it; whether there was need."""
        if has_ended(pod) and pod["metadata"].get("deletionGracePeriodSeconds") == 0:
            # Only its finalizers keep it.
            return False
        if not has_ended(pod):
            status: dict[str, Any] = {"phase": "Failed"}
            generation = pod["metadata"].get("generation")
            if generation is not None:
                status["observedGeneration"] = generation
            if orphaned:
                now = self.context.clock()
                status["conditions"] = [
                    disruption(pod, "DeletionByPodGC", "PodGC: node no longer exists", now)
                ]
            changes = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}
            try:
                await self.context.writer.patch(
                    PODS, pod, changes, subresource="status", kind=STRATEGIC_PATCH
                )
            except ApiError as error:
                # Gone, or another pod has the name.
                if error.not_found or error.reason in ("Conflict", "Invalid"):
                    return False
                raise
        await self.context.writer.delete(PODS, pod, grace=0)
        return True


def _state(node: Object) -> tuple[object, ...]:
    return ready_status(node), node["spec"].get("taints")
