"""StatefulSets for tests, and what is to be true of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from controlplane.engine.ownership import controller_of
from controlplane.engine.resources import STATEFUL_SETS, Object, Resource, is_deleting
from kubeletpy_common.apiclient.client import MERGE_PATCH
from tests.support.cluster import Cluster, pod_template

NAME = "statefulset-controller"
EVENTS = Resource("v1", "events", "Event")
CLAIM = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


def web(replicas: int = 3, image: str = "example.test/app:1", **spec: Any) -> Object:
    """Return a set whose pods go to the node ``one``."""
    template = pod_template(app="web")
    template["spec"]["containers"][0]["image"] = image
    template["spec"]["nodeName"] = "one"
    return {
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas, "serviceName": "web", "template": template,
            "selector": {"matchLabels": {"app": "web"}}, **spec,
        },
    }  # fmt: skip


async def change(server: Cluster, **spec: Any) -> Object:
    """Change the spec of the set."""
    return await server.client.patch(
        STATEFUL_SETS.path("default", "web"), {"spec": spec}, kind=MERGE_PATCH
    )


def image(name: str) -> Object:
    """Return the change of a template to another image."""
    return {"spec": {"containers": [{"name": "main", "image": name}]}}


def done(count: int, updated: int = -1) -> Callable[[list[Object]], bool]:
    """Return a check that the only set is settled, with so many pods."""

    def check(found: list[Object]) -> bool:
        if not found:
            return False
        status = found[0].get("status") or {}
        new = count if updated < 0 else updated
        return (
            status.get("observedGeneration") == found[0]["metadata"]["generation"]
            and status["replicas"] == status.get("readyReplicas", 0) == count
            and status.get("updatedReplicas", 0) == new
            and (new < count or status["currentRevision"] == status["updateRevision"])
        )

    return check


def names(pods: list[Object]) -> list[str]:
    """Return the names of pods, in order."""
    return sorted(pod["metadata"]["name"] for pod in pods)


def owned(pods: list[Object], owner: Object) -> list[Object]:
    """Return the pods that a set controls."""
    uid = owner["metadata"]["uid"]
    return [pod for pod in pods if (controller_of(pod) or {}).get("uid") == uid]


class Watcher:
    """Looks at every moment of the pods, as the server tells it, and notes what must never be."""

    def __init__(self) -> None:
        self.there: dict[str, Object] = {}
        self.faults: list[str] = []
        self.order: list[str] = []

    def changed(self, before: Object | None, pod: Object | None) -> None:
        """Listen to an informer of pods."""
        name = (pod or before or {})["metadata"]["name"]
        if pod is None:
            self.there.pop(name, None)
            self.order.append(f"-{name}")
            return
        known = self.there.get(name)
        if known is None:
            self.order.append(f"+{name}")
            self._check(pod)
        elif known["metadata"]["uid"] != pod["metadata"]["uid"]:
            self.faults.append(f"{name} was replaced before it was gone")
        self.there[name] = pod

    def _check(self, pod: Object) -> None:
        ordinal = pod["metadata"]["labels"].get("apps.kubernetes.io/pod-index")
        for other in self.there.values():
            labels = other["metadata"]["labels"]
            same = controller_of(other) == controller_of(pod) and controller_of(pod)
            if same and labels.get("apps.kubernetes.io/pod-index") == ordinal:
                self.faults.append(f"two pods are {ordinal}")

    def check_order(self, before: Object | None, pod: Object | None) -> None:
        """Listen before `changed`: a pod comes when all below it are ready, and stay."""
        if pod is None or pod["metadata"]["name"] in self.there:
            return
        number = int(pod["metadata"]["name"].rpartition("-")[2])
        for name, other in self.there.items():
            if int(name.rpartition("-")[2]) >= number:
                continue
            conditions = other.get("status", {}).get("conditions", ())
            ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
            if not ready or is_deleting(other):
                self.faults.append(f"{pod['metadata']['name']} came before {name} was ready")
