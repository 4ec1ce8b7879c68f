"""What every namespace has: the account "default" and the certificate of the authority.

Source: Kubernetes documentation, "Service Accounts", "Root CA ConfigMap" (``kube-root-ca.crt``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controlplane.api import codec
from controlplane.api.errors import ApiError
from controlplane.api.resource import Object, Resource
from controlplane.builtin.following import context, follow
from controlplane.builtin.selection import ACCOUNTS, ROOT_CA
from controlplane.controllers.furnishing.controller import DESCRIPTION, ROOT_CONFIG, ROOT_TEXT
from controlplane.engine.queue import WorkQueue
from controlplane.plane import Background, Plane
from controlplane.store.model import Change


def keep_accounts(plane: Plane) -> Background:
    """Return what makes the account "default" in every namespace, and again when it is deleted."""
    return _Furnisher(plane, ACCOUNTS, "serviceaccounts", "default", _account).run


def keep_root_certificates(plane: Plane) -> Background:
    """Return what keeps the certificate of the authority in every namespace."""
    path = plane.options.data_dir / "pki" / "ca.crt"
    return _Furnisher(plane, ROOT_CA, "configmaps", ROOT_CONFIG, lambda: _certificate(path)).run


class _Furnisher:
    """Keeps one object of a name in every namespace that is not on its way out.

    Args:
        plane: the parts of the server.
        controller: its name.
        plural: resource of the object, of the core group.
        name: of the object.
        make: returns the fields that it must have; None if it cannot be made here.
    """

    def __init__(
        self,
        plane: Plane,
        controller: str,
        plural: str,
        name: str,
        make: Callable[[], dict[str, Any] | None],
    ) -> None:
        resource = plane.catalog.find("", "v1", plural)
        assert resource is not None
        self._plane = plane
        self._controller = controller
        self._resource: Resource = resource
        self._name = name
        self._make = make
        self._queue = WorkQueue(controller, self._look)

    async def run(self) -> None:
        """Work, until cancelled.

        Raises:
            CompactedError: it fell too far behind, and has to begin anew.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._queue.run())
            tasks.create_task(self._follow("/core/namespaces/"))
            tasks.create_task(self._follow(self._resource.prefix))

    async def _follow(self, prefix: str) -> None:
        async for change in follow(self._plane.store, prefix):
            namespace = self._concerned(change)
            if namespace:
                self._queue.add(namespace)
        # The store is closing; the other follower ends as well, and the queue with the server.
        await asyncio.Event().wait()

    def _concerned(self, change: Change) -> str:
        parts = change.key.split("/")
        if parts[2] == "namespaces":
            return parts[3] if change.previous is None else ""
        return parts[3] if parts[4] == self._name else ""

    async def _look(self, namespace: str) -> float | None:
        there = self._plane.store.get(f"/core/namespaces/{namespace}")
        wanted = self._make()
        if there is None or wanted is None:
            return None
        if codec.decode(there)["metadata"].get("deletionTimestamp"):
            return None
        item = self._plane.store.get(self._resource.key(namespace, self._name))
        try:
            if item is None:
                await self._create(namespace, wanted)
            elif any(codec.decode(item).get(key) != wanted[key] for key in _content(wanted)):
                await self._correct(namespace, wanted)
        except ApiError as error:
            # Made, or on its way out, by someone else meanwhile.
            if error.reason not in ("AlreadyExists", "NotFound", "Forbidden"):
                raise
        return None

    async def _create(self, namespace: str, wanted: dict[str, Any]) -> None:
        meta = {**wanted.get("metadata", {}), "name": self._name, "namespace": namespace}
        value = {"apiVersion": "v1", "kind": self._resource.kind, **wanted, "metadata": meta}
        registry = self._plane.registry
        await registry.create(self._resource, namespace, value, context(self._controller))

    async def _correct(self, namespace: str, wanted: dict[str, Any]) -> None:
        async def corrected(value: Object) -> Object:
            value["metadata"].pop("resourceVersion", None)
            return {**value, **{key: wanted[key] for key in _content(wanted)}}

        registry = self._plane.registry
        writing = context(self._controller)
        await registry.update(self._resource, namespace, self._name, corrected, writing)


def _content(wanted: dict[str, Any]) -> list[str]:
    return [key for key in wanted if key != "metadata"]


def _account() -> dict[str, Any]:
    return {}


def _certificate(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_text()
    except FileNotFoundError:
        # A server without TLS has no authority.
        return None
    return {"metadata": {"annotations": {DESCRIPTION: ROOT_TEXT}}, "data": {"ca.crt": text}}
