"""Moving a node's pods elsewhere before it goes, by its own credentials.

A node may mark itself unschedulable and evict its own pods (NodeRestriction), so nobody else's
credentials are needed. Pods of DaemonSets and of files stay: they come back.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from kubeletpy.install.errors import InstallError
from kubeletpy.install.server import client_of
from kubeletpy_common.apiclient.client import ApiClient, object_path
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.apiclient.reflector import Changed, Reflector, Synced

_MIRROR: Final = "kubernetes.io/config.mirror"
_RETRY: Final = 5.0
"""Seconds after which an eviction that a PodDisruptionBudget forbade is asked for again."""
Object = dict[str, Any]


def leaves(pod: Object) -> bool:
    """Whether a pod is evicted (pure)."""
    meta = pod["metadata"]
    owners = meta.get("ownerReferences") or []
    if _MIRROR in (meta.get("annotations") or {}):
        return False
    if any(one.get("controller") and one.get("kind") == "DaemonSet" for one in owners):
        return False
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


async def drain(node: str, kubeconfig: Path, seconds: float) -> None:
    """Mark a node unschedulable, evict its pods, and wait until they are gone.

    Raises:
        InstallError: the server refused it, or pods are still there when time is over.
    """
    left: set[str] = set()
    async with client_of(kubeconfig) as client:
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                await client.patch(
                    object_path("v1", "nodes", "", node), {"spec": {"unschedulable": True}}
                )
                await _follow(client, node, left, group)
        except TimeoutError:
            raise InstallError(
                f"pods are still on node {node} after {seconds:.0f} s: {', '.join(sorted(left))}; "
                "give more --timeout, look at their PodDisruptionBudgets, or go without --drain"
            ) from None
        except (ApiError, ExceptionGroup) as error:
            raise InstallError(
                f"cannot drain node {node}: {error}; with an administrator's credentials: "
                f"kubectl drain {node} --ignore-daemonsets --delete-emptydir-data"
            ) from error


async def _follow(client: ApiClient, node: str, left: set[str], group: asyncio.TaskGroup) -> None:
    """Evict what is there and what comes, until nothing is."""
    path = object_path("v1", "pods")
    evictions: dict[str, asyncio.Task[None]] = {}
    async for event in Reflector(client, path, field_selector=f"spec.nodeName={node}"):
        if isinstance(event, Synced):
            left.clear()
        pods = event.items if isinstance(event, Synced) else [event.object]
        for pod in pods:
            name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            gone = isinstance(event, Changed) and event.kind == "DELETED"
            if gone or not leaves(pod):
                left.discard(name)
                if task := evictions.pop(name, None):
                    task.cancel()
            else:
                left.add(name)
                if name not in evictions:
                    evictions[name] = group.create_task(_evict(client, pod))
        if not left:
            return


async def _evict(client: ApiClient, pod: Object) -> None:
    meta = pod["metadata"]
    path = object_path("v1", "pods", meta["namespace"], meta["name"]) + "/eviction"
    body = {"apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"namespace": meta["namespace"], "name": meta["name"]}}  # fmt: skip
    while True:
        try:
            await client.create(path, body)
            return
        except ApiError as error:
            if error.code == 404:
                return
            if error.code != 429:
                raise
            await asyncio.sleep(_RETRY)
