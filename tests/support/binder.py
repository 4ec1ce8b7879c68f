"""A scheduler that knows one thing: a pod that is kept to a node goes there."""

from __future__ import annotations

import asyncio

from controlplane.engine.informer import Informer
from controlplane.engine.resources import NODES, PODS, Object, is_deleting
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.errors import ApiError


class Binder:
    """Binds pods to the node that their affinity names.

    Args:
        client: of the API server.
    """

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._pods = Informer(client, PODS)
        self._nodes = Informer(client, NODES)
        self._bell = asyncio.Event()
        for informer in (self._pods, self._nodes):
            informer.listen(lambda *_: self._bell.set())

    async def run(self) -> None:
        """Bind, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pods.run())
            tasks.create_task(self._nodes.run())
            tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            self._bell.clear()
            for pod in self._pods:
                node = kept_node(pod)
                if node and self._nodes.get(node) is not None and not is_deleting(pod):
                    await self._bind(pod, node)
            await self._bell.wait()

    async def _bind(self, pod: Object, node: str) -> None:
        meta = pod["metadata"]
        body = {"apiVersion": "v1", "kind": "Binding",
                "metadata": {"name": meta["name"], "uid": meta["uid"]},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node}}  # fmt: skip
        try:
            await self._client.create(PODS.path_of(pod, "binding"), body)
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise


def kept_node(pod: Object) -> str:
    """Return the node that a pod waits for, "" if it has one, or waits for none."""
    if pod["spec"].get("nodeName"):
        return ""
    of_nodes = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = of_nodes.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            return str(field["values"][0])
    return ""
