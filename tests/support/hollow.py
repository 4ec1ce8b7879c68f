"""Nodes without a machine: pods bound to them are Running and Ready at once.

For tests and benchmarks of controllers, where what runs in the pods does not matter.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import deque
from collections.abc import Callable
from typing import Any

from controlplane.engine.controller import now, timestamp
from controlplane.engine.informer import Informer
from controlplane.engine.resources import NODES, PODS, Object, is_deleting, key_of
from kubeletpy_common.apiclient.client import MERGE_PATCH, STRATEGIC_PATCH, ApiClient
from kubeletpy_common.apiclient.errors import ApiError

CAPACITY = {"cpu": "8", "memory": "16Gi", "pods": "110", "ephemeral-storage": "100Gi"}
Decide = Callable[[Object], Object | None]
"""Says the status of a pod; None: leave it alone."""


def node(name: str, **more: Any) -> Object:
    """Return a node that is ready; ``more``: labels, taints, capacity, unschedulable."""
    capacity = more.get("capacity") or CAPACITY
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **more.get("labels", {})}
    spec: dict[str, Any] = {"taints": more.get("taints", [])}
    if more.get("unschedulable"):
        spec["unschedulable"] = True
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}
    moment = timestamp(now())
    return {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {
            "capacity": capacity, "allocatable": capacity,
            "conditions": [{**ready, "lastHeartbeatTime": moment, "lastTransitionTime": moment}],
            "addresses": [{"type": "Hostname", "address": name}],
        },
    }  # fmt: skip


def running(pod: Object, address: str = "", **more: Any) -> Object:
    """Return the status of a pod whose containers all run and are ready."""
    moment = timestamp(now())
    conditions = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady",
                  "PodScheduled")  # fmt: skip
    return {
        "phase": "Running", "startTime": moment, "podIP": address,
        "podIPs": [{"ip": address}] if address else [],
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": moment} for kind in conditions
        ],
        "containerStatuses": [
            {"name": one["name"], "image": one["image"], "imageID": "", "ready": True,
             "restartCount": 0, "started": True, "state": {"running": {"startedAt": moment}}}
            for one in pod["spec"]["containers"]
        ],
        **more,
    }  # fmt: skip


def ended(pod: Object, code: int = 0, **more: Any) -> Object:
    """Return the status of a pod whose containers all ended with an exit status."""
    moment = timestamp(now())
    state = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed",
                            "startedAt": moment, "finishedAt": moment}}  # fmt: skip
    return {
        "phase": "Failed" if code else "Succeeded", "startTime": moment,
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": moment}],
        "containerStatuses": [
            {"name": one["name"], "image": one["image"], "imageID": "", "ready": False,
             "restartCount": 0, "started": False, "state": state}
            for one in pod["spec"]["containers"]
        ],
        **more,
    }  # fmt: skip


class HollowNodes:
    """Plays the kubelets of all nodes.

    Args:
        client: of the API server.
        decide: says the status of each pod that is bound and has none; by default it runs.
        workers: requests at once.
    """

    def __init__(self, client: ApiClient, decide: Decide | None = None, workers: int = 8) -> None:
        self._client = client
        self._decide = decide
        self._workers = workers
        self._addresses = iter(ipaddress.ip_network("10.128.0.0/14").hosts())
        self._waiting: deque[str] = deque()
        self._queued: set[str] = set()
        self._bell = asyncio.Event()
        self._told: set[str] = set()
        self.pods = Informer(client, PODS)
        self.pods.listen(self._changed)

    async def make(self, *names: str, **more: Any) -> None:
        """Make nodes."""
        for name in names:
            made = await self._client.create(NODES.path(), node(name, **more))
            wanted = node(name, **more)
            await self._client.patch(
                NODES.path(name=made["metadata"]["name"], subresource="status"),
                {"status": wanted["status"]}, kind=STRATEGIC_PATCH,
            )  # fmt: skip
            # The server marks new nodes as not ready; a controller of nodes takes that away.
            if made["spec"].get("taints", []) != wanted["spec"]["taints"]:
                taints = {"spec": {"taints": wanted["spec"]["taints"]}}
                await self._client.patch(NODES.path(name=name), taints, kind=MERGE_PATCH)

    async def set_status(self, pod: Object, status: Object) -> None:
        """Write the status of a pod."""
        await self._client.patch(
            PODS.path_of(pod, "status"), {"status": status}, kind=STRATEGIC_PATCH
        )

    async def run(self) -> None:
        """Play, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.pods.run())
            for _ in range(self._workers):
                tasks.create_task(self._work())

    def _changed(self, before: Object | None, pod: Object | None) -> None:
        if pod is not None and pod["spec"].get("nodeName") and key_of(pod) not in self._queued:
            self._queued.add(key_of(pod))
            self._waiting.append(key_of(pod))
            self._bell.set()

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._bell.clear()
                await self._bell.wait()
            key = self._waiting.popleft()
            self._queued.discard(key)
            pod = self.pods.get(key)
            if pod is None:
                continue
            try:
                await self._look(pod)
            except ApiError as error:
                if not (error.not_found or error.conflict):
                    raise

    async def _look(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if is_deleting(pod):
            body = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
            await self._client.delete(PODS.path_of(pod), body)
            self._told.discard(uid)
        elif uid not in self._told and pod["status"].get("phase", "Pending") == "Pending":
            if self._decide is not None:
                status = self._decide(pod)
            else:
                status = running(pod, str(next(self._addresses)))
            if status is not None:
                self._told.add(uid)
                await self.set_status(pod, status)
