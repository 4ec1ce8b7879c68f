"""Nodes are watched: those that are silent count as lost, and their pods are told of it."""

from __future__ import annotations

from typing import Any, ClassVar

from controlplane.controllers.nodes import BY_NODE, node_of, ready_status
from controlplane.controllers.podcontrol import all_of
from controlplane.controllers.pods import is_ready
from controlplane.engine.controller import Context, Controller, monotonic, timestamp
from controlplane.engine.resources import LEASES, NODES, PODS, Object
from kubeletpy_common.apiclient.client import STRATEGIC_PATCH
from kubeletpy_common.apiclient.errors import ApiError

from .health import Health, silent_conditions
from .taints import execute_key, executing, wanted_labels, wanted_taints
from .zones import Rates, Zones

_NAMESPACE_OF_LEASES = "kube-node-lease"


class NodeLifecycleController(Controller):
    """Says of each node whether it is heard of, and taints it for its state."""

    name: ClassVar[str] = "node-lifecycle-controller"
    workers: ClassVar[int] = 8

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        options = context.options
        self._grace: float = options.get("node_monitor_grace_period", 50.0)
        self._first_grace: float = options.get("node_startup_grace_period", 60.0)
        self._zones = Zones(Rates(
            options.get("node_eviction_rate", 0.1),
            options.get("secondary_node_eviction_rate", 0.01),
            options.get("large_cluster_size_threshold", 50),
            options.get("unhealthy_zone_threshold", 0.55),
        ))  # fmt: skip
        self._recorder = context.recorder.of("node-controller")
        self._health: dict[str, Health] = {}
        self._cut_off = False
        self._nodes = context.informers.of(NODES)
        self._pods = context.informers.of(PODS)
        self._pods.index(BY_NODE, node_of)
        leases = context.informers.of(
            LEASES, field_selector=f"metadata.namespace={_NAMESPACE_OF_LEASES}"
        )
        self._nodes.listen(self._node_changed)
        leases.listen(self._lease_changed)
        self._pods.listen(self._pod_changed)

    def _node_changed(self, before: Object | None, node: Object | None) -> None:
        found = node or before
        assert found is not None
        name = found["metadata"]["name"]
        self._zones.set(name, node)
        if node is None:
            self._health.pop(name, None)
            self._tell(found, "RemovingNode", f"Removing Node {name} from Controller")
        else:
            self._health_of(name).note_node(node, monotonic())
            self.queue.add(name)
        if before is None or node is None or ready_status(before) != ready_status(node):
            for beside in self._zones.lost_beside(found):
                # How fast the others may be emptied has changed.
                self.queue.add(beside)
        self._follow_zones()

    def _health_of(self, name: str) -> Health:
        return self._health.setdefault(name, Health(monotonic()))

    def _lease_changed(self, before: Object | None, lease: Object | None) -> None:
        # Nothing follows from it now: a look at the node waits for when it would be silent.
        if lease is not None and lease["metadata"]["namespace"] == _NAMESPACE_OF_LEASES:
            self._health_of(lease["metadata"]["name"]).note_lease(lease, monotonic())

    def _pod_changed(self, before: Object | None, pod: Object | None) -> None:
        # Pods of a node that is lost are not ready, whatever they said last.
        if pod is None or not is_ready(pod) or not node_of(pod):
            return
        node = self._nodes.get(node_of(pod)[0])
        if node is not None and ready_status(node) == "Unknown":
            self.queue.add(node["metadata"]["name"])

    def _follow_zones(self) -> None:
        """Follow whether all nodes are lost: then it is this process that is cut off."""
        if self._zones.all_lost == self._cut_off:
            return
        self._cut_off = not self._cut_off
        now = monotonic()
        for name, health in self._health.items():
            if not self._cut_off:
                health.heard = now
            if self._nodes.get(name) is not None:
                self.queue.add(name)

    def _tell(self, node: Object, reason: str, text: str) -> None:
        name = node["metadata"]["name"]
        self._recorder.normal(node, reason, f"Node {name} event: {text}")

    async def sync(self, key: str) -> float | None:
        """Look at a node: is it heard of, what is its state, are its pods told?"""
        node = self._nodes.get(key)
        if node is None:
            return None
        health = self._health_of(key)
        if not health.ready:
            self._tell(node, "RegisteredNode", f"Registered Node {key} in Controller")
        grace = self._grace if ready_status(node) else self._first_grace
        left = health.heard + grace - monotonic()
        if left <= 0:
            node = await self._say_silent(node)
        await self._follow_ready(node, health)
        wait = await self._mark(node)
        waits = [one for one in (wait, left) if one is not None and one > 0]
        return min(waits, default=None)

    async def _say_silent(self, node: Object) -> Object:
        conditions = silent_conditions(node, self.context.clock())
        if conditions is None:
            return node
        status = {**(node.get("status") or {}), "conditions": conditions}
        return await self.context.writer.update(NODES, {**node, "status": status}, "status")

    async def _follow_ready(self, node: Object, health: Health) -> None:
        """Tell of a node that fell silent, and that its pods are not ready."""
        name, ready = node["metadata"]["name"], ready_status(node)
        if health.ready == "True" and ready == "Unknown":
            self._recorder.normal(node, "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        health.ready = ready or "Unknown"
        # A kubelet that is heard of says itself which of its pods are ready.
        if ready == "Unknown":
            await self._unready(name)

    async def _unready(self, name: str) -> None:
        pods = [pod for pod in self._pods.indexed(BY_NODE, name) if is_ready(pod)]
        stamp = timestamp(self.context.clock())
        condition = {"type": "Ready", "status": "False", "lastTransitionTime": stamp}

        async def write(number: int) -> None:
            pod = pods[number]
            changes = {"metadata": {"uid": pod["metadata"]["uid"]},
                       "status": {"conditions": [condition]}}  # fmt: skip
            try:
                await self.context.writer.patch(
                    PODS, pod, changes, subresource="status", kind=STRATEGIC_PATCH
                )
            except ApiError as error:
                if error.not_found or error.reason in ("Conflict", "Invalid"):
                    return
                raise
            self._recorder.warning(pod, "NodeNotReady", "Node is not ready")

        errors = await all_of(list(range(len(pods))), write)
        if errors:
            raise errors[0]

    async def _mark(self, node: Object) -> float | None:
        """Write taints and labels; returns the seconds until it may be emptied, if it is to be."""
        execute, wait = self._execute(node)
        taints = wanted_taints(node, execute, self.context.clock())
        labels = wanted_labels(node)
        changes: dict[str, Any] = {"metadata": {
            "resourceVersion": node["metadata"]["resourceVersion"]}}  # fmt: skip
        if taints != (node["spec"].get("taints") or []):
            changes["spec"] = {"taints": taints or None}
        if labels:
            changes["metadata"]["labels"] = labels
        if "spec" in changes or labels:
            await self.context.writer.patch(NODES, node, changes)
            if execute and not executing(node):
                self._zones.emptied(node, monotonic())
        return wait

    def _execute(self, node: Object) -> tuple[list[str], float | None]:
        """Return the keys of taints that empty a node, and the seconds until it may have one."""
        key, there = execute_key(node), executing(node)
        if self._cut_off or ready_status(node) == "True":
            return [], None
        if not key:
            return there, None
        if there:
            # It is being emptied already, perhaps for the other reason.
            return [key], None
        wait = self._zones.wait(node, monotonic())
        return ([key], None) if wait == 0 else ([], wait)
