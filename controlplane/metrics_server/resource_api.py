"""metrics.k8s.io/v1beta1: NodeMetrics and PodMetrics, as plain data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from controlplane.engine.resources import Object

from .documents import Missing, cores, duration, listed, memory, resource_list, stamp, table
from .usage import Usage, UsageStore

VERSION: Final = "metrics.k8s.io/v1beta1"
_VERBS: Final = ["get", "list"]
RESOURCES: Final = resource_list(VERSION, [
    {"name": "nodes", "singularName": "", "namespaced": False, "kind": "NodeMetrics",
     "verbs": _VERBS},
    {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics",
     "verbs": _VERBS},
])  # fmt: skip


def node_metrics(node: Object, usage: Usage) -> Object:
    """Return the metrics of a node."""
    return {
        "kind": "NodeMetrics", "apiVersion": VERSION, "metadata": _metadata(node, usage.at),
        "timestamp": stamp(usage.at), "window": duration(usage.window), "usage": _told(usage),
    }  # fmt: skip


def pod_metrics(pod: Object, usages: dict[str, Usage]) -> Object:
    """Return the metrics of a pod; their time is that of the container measured first."""
    first = min(usages.values(), key=lambda one: one.at)
    return {
        "kind": "PodMetrics", "apiVersion": VERSION, "metadata": _metadata(pod, first.at),
        "timestamp": stamp(first.at), "window": duration(first.window),
        "containers": [{"name": name, "usage": _told(one)} for name, one in usages.items()],
    }  # fmt: skip


def nodes_listed(nodes: Iterable[Object], store: UsageStore) -> list[Object]:
    """Return the metrics of those nodes of which they are known."""
    found = ((node, store.node(node["metadata"]["name"])) for node in nodes)
    return [node_metrics(node, usage) for node, usage in found if usage is not None]


def pods_listed(pods: Iterable[Object], store: UsageStore) -> list[Object]:
    """Return the metrics of those running pods of which they are known."""
    running = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"]
    found = (
        (pod, store.pod(pod["metadata"]["namespace"], pod["metadata"]["name"])) for pod in running
    )
    return [pod_metrics(pod, usages) for pod, usages in found if usages]


def one_node(node: Object | None, name: str, store: UsageStore) -> Object:
    """Return the metrics of one node.

    Raises:
        Missing: they are not known.
    """
    found = nodes_listed([node], store) if node is not None else []
    if not found:
        raise Missing(f'nodemetrics.metrics.k8s.io "{name}" not found')
    return found[0]


def one_pod(pod: Object | None, namespace: str, name: str, store: UsageStore) -> Object:
    """Return the metrics of one pod.

    Raises:
        Missing: they are not known.
    """
    found = pods_listed([pod], store) if pod is not None else []
    if not found:
        raise Missing(f'podmetrics.metrics.k8s.io "{namespace}/{name}" not found')
    return found[0]


def as_list(kind: str, items: list[Object]) -> Object:
    """Return a list of metrics; its items do not say their kind."""
    left_out = ("kind", "apiVersion")
    plain = [{key: one[key] for key in one if key not in left_out} for one in items]
    return listed(f"{kind}List", VERSION, plain)


def as_table(items: list[Object]) -> Object:
    """Return a table of metrics."""
    rows = []
    for one in items:
        used = [one["usage"]] if "usage" in one else [each["usage"] for each in one["containers"]]
        cpu = sum(_nano(each["cpu"]) for each in used)
        size = sum(_bytes(each["memory"]) for each in used)
        cells = [one["metadata"]["name"], cores(cpu), memory(size), one["window"]]
        rows.append({"cells": cells, "object": _partial(one)})
    return table([("Name", "name"), ("cpu", ""), ("memory", ""), ("Window", "")], rows)


def _nano(text: str) -> int:
    return int(text.removesuffix("n"))


def _bytes(text: str) -> int:
    return int(text.removesuffix("Ki")) * (1024 if text.endswith("Ki") else 1)


def _partial(one: Object) -> dict[str, Any]:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": one["metadata"]}  # fmt: skip


def _metadata(about: Object, at: float) -> Object:
    meta = about["metadata"]
    found: Object = {"name": meta["name"], "creationTimestamp": stamp(at)}
    for key in ("namespace", "labels"):
        if meta.get(key):
            found[key] = meta[key]
    return found


def _told(usage: Usage) -> dict[str, str]:
    return {"cpu": cores(usage.cpu), "memory": memory(usage.memory)}
