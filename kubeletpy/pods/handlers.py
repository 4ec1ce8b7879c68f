"""Which handler of the runtime runs a pod, and what it can do (RuntimeClass, KEP-585)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from kubeletpy.api.pod import Pod
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.reflector import Reflector, Synced
from kubeletpy_proto import cri_pb2

PATH = "/apis/node.k8s.io/v1/runtimeclasses"
FIRST_READ = 10.0
"""Seconds that `RuntimeHandlers.of` waits for the first list of runtime classes."""


class HandlerError(Exception):
    """There is no handler for a pod."""


class RuntimeHandlers:
    """Runtime classes of the cluster, and the features of the runtime's handlers."""

    def __init__(self) -> None:
        self._features: dict[str, cri_pb2.RuntimeHandlerFeatures] = {}
        self._classes: dict[str, str] = {}
        self._known = asyncio.Event()
        self._following = False

    def learn(self, status: cri_pb2.StatusResponse) -> None:
        """Take over what the runtime says of its handlers."""
        self._features = {one.name: one.features for one in status.runtime_handlers}

    async def follow(self, client: ApiClient, changed: Callable[[], None]) -> None:
        """Follow the runtime classes of the cluster; ``changed`` is called after each change."""
        self._following = True
        async for each in Reflector(client, PATH):
            if isinstance(each, Synced):
                self._classes = dict(_class_of(item) for item in each.items)
            else:
                name, handler = _class_of(each.object)
                if each.kind == "DELETED":
                    self._classes.pop(name, None)
                else:
                    self._classes[name] = handler
            self._known.set()
            changed()

    async def of(self, pod: Pod) -> str:
        """Return the handler of a pod; "" is the runtime's default.

        Raises:
            HandlerError: its class is not known, or the handler lacks what the pod needs.
        """
        name = pod.spec.runtime_class_name or ""
        handler = await self._resolve(name) if name else ""
        if pod.spec.host_users is False and not self._with_user_namespaces(handler):
            what = f'RuntimeClass handler "{handler}"' if handler else "runtime"
            raise HandlerError(
                f"can't set `spec.hostUsers: false`, {what} does not support user namespaces"
            )
        return handler

    async def _resolve(self, name: str) -> str:
        if not self._following:
            raise HandlerError(
                f'runtimeclass.node.k8s.io "{name}" not found: this kubelet has no API server'
            )
        if not self._known.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_READ):
                    await self._known.wait()
        if name not in self._classes:
            raise HandlerError(f'runtimeclass.node.k8s.io "{name}" not found')
        return self._classes[name]

    def _with_user_namespaces(self, handler: str) -> bool:
        features = self._features.get(handler)
        return features is not None and features.user_namespaces


def _class_of(item: dict[str, Any]) -> tuple[str, str]:
    metadata = item.get("metadata") or {}
    return str(metadata.get("name", "")), str(item.get("handler", ""))
