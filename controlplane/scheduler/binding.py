"""Giving pods to nodes by the API: many at a time, while others are placed."""

from __future__ import annotations

import asyncio
from typing import Final

from controlplane.engine.controller import Context
from controlplane.engine.resources import PODS, Object
from kubeletpy_common.apiclient.errors import ApiError

from .pods import PodInfo, is_bound

AT_ONCE: Final = 24
"""Requests that are under way at the same time."""
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0


class UnboundError(Exception):
    """The pod has no node, and why; it is there still."""


class Binder:
    """Binds pods.

    Args:
        context: of the process.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def bind(self, pod: PodInfo, node: str) -> bool:
        """Give a pod to a node.

        Returns:
            Whether it was done by this call; if not, the pod is gone or has a node already, and
            the informer knows.

        Raises:
            UnboundError: it was refused.
        """
        meta = pod.pod["metadata"]
        body = {
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"namespace": pod.namespace, "name": meta["name"], "uid": pod.uid},
            "target": {"kind": "Node", "name": node},
        }  # fmt: skip
        try:
            async with self._turns:
                await self._context.client.create(PODS.path_of(pod.pod, "binding"), body)
        except ApiError as error:
            if await self._is_unbound(pod):
                raise UnboundError(str(error)) from error
            return False
        return True

    async def _is_unbound(self, pod: PodInfo) -> bool:
        """Ask the server, as long as it takes: until then the pod may be on its node."""
        pause = _FIRST_PAUSE
        while True:
            try:
                found = await self._context.writer.read(PODS, pod.pod)
            except ApiError as error:
                if error.not_found:
                    self._context.informers.of(PODS).forget(pod.pod)
                    return False
                await asyncio.sleep(max(pause, error.retry_after or 0.0))
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                same = found["metadata"].get("uid") == pod.uid
                return same and not is_bound(found)

    async def status(self, pod: Object, status: Object) -> None:
        """Change the status of a pod; see `reporting`.

        Raises:
            ApiError: it was refused.
        """
        async with self._turns:
            await self._context.writer.patch(
                PODS, pod, {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status},
                subresource="status", kind=STRATEGIC,
            )  # fmt: skip


STRATEGIC: Final = "application/strategic-merge-patch+json"
