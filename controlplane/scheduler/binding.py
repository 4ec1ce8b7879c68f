"""Giving pods to nodes by the API: many at a time, while others are placed."""

from __future__ import annotations

import asyncio
from typing import Final

from controlplane.engine.controller import Context
from controlplane.engine.resources import PODS, Object, is_deleting
from kubeletpy_common.apiclient.errors import ApiError

from .pods import PodInfo, is_bound

AT_ONCE: Final = 24
"""Requests that are under way at the same time."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 10.0
_AGAIN: Final = 3


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
            found = await self._now(pod, again=_AGAIN if error.reason == "Conflict" else 0)
            if found is not None and not is_bound(found):
                text = f'running Bind plugin "DefaultBinder": {error}'
                raise UnboundError(text) from error
            # Where no answer came it was this call that did it.
            return error.code == 0 and found is not None and found["spec"]["nodeName"] == node
        return True

    async def _now(self, pod: PodInfo, again: int) -> Object | None:
        """Ask the server for a pod, as long as it takes: until then it may be on its node.

        Args:
            again: how often to ask again while it has no node: a server refuses by what is being
                written, and shows what is written.

        Returns:
            The pod; None: it is gone.
        """
        pause = _FIRST_PAUSE
        while True:
            wait = 0.0
            try:
                found = await self._context.writer.read(PODS, pod.pod)
            except ApiError as error:
                if error.not_found:
                    self._context.informers.of(PODS).forget(pod.pod)
                    return None
                wait = error.retry_after or 0.0
            else:
                if found["metadata"].get("uid") != pod.uid:
                    return None
                if is_bound(found) or is_deleting(found) or not again:
                    return found
                again -= 1
            await asyncio.sleep(max(pause, wait))
            pause = min(pause * 2, _LONGEST_PAUSE)

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
