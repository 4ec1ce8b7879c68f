"""``/pods`` and ``/runningpods/``: the pods that shall be, and those that the runtime has."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from kubeletpy.api.codec import encode
from kubeletpy.core import Core
from kubeletpy.cri import labels
from kubeletpy.cri.client import CriError
from kubeletpy_proto import cri_pb2


class Listings:
    """Answers requests for lists of pods.

    Args:
        core: the kubelet's parts.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    async def pods(self, _: web.Request) -> web.Response:
        """``GET /pods``."""
        return pod_list([encode(pod) for pod in self._core.manager.pods()])

    async def running(self, _: web.Request) -> web.Response:
        """``GET /runningpods/``."""
        cri = self._core.cri
        try:
            sandboxes = await cri.list_pod_sandboxes()
            containers = await cri.list_containers()
        except CriError as error:
            return web.Response(status=500, text=str(error))
        found = running_pods(sandboxes, containers)
        return pod_list([json.dumps(pod).encode() for pod in found])


def running_pods(
    sandboxes: list[cri_pb2.PodSandbox], containers: list[cri_pb2.Container]
) -> list[dict[str, Any]]:
    """Return the pods that the runtime runs, as far as it knows them (pure)."""
    found: dict[str, dict[str, Any]] = {}
    for box in sandboxes:
        if box.state == cri_pb2.SANDBOX_READY:
            meta = {
                "name": box.metadata.name,
                "namespace": box.metadata.namespace,
                "uid": box.metadata.uid,
                "creationTimestamp": None,
            }
            found[box.id] = {"metadata": meta, "spec": {"containers": []}, "status": {}}
    for one in containers:
        if one.state == cri_pb2.CONTAINER_RUNNING and one.pod_sandbox_id in found:
            image = one.image.user_specified_image or one.image.image
            name = one.labels.get(labels.CONTAINER_NAME, one.metadata.name)
            container = {"name": name, "image": image, "resources": {}}
            found[one.pod_sandbox_id]["spec"]["containers"].append(container)
    return list(found.values())


def pod_list(items: list[bytes]) -> web.Response:
    """Return the answer that lists pods."""
    head = b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":['
    return web.Response(body=head + b",".join(items) + b"]}", content_type="application/json")
