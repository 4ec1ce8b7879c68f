"""Keeps ``status.used`` of the quotas.

Source: Kubernetes documentation, "Resource Quotas", "Viewing and Setting Quotas".
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final

from controlplane.admission.quotas.ledger import Ledger
from controlplane.api import codec
from controlplane.api.errors import ApiError
from controlplane.api.resource import Object
from controlplane.builtin.following import context, follow
from controlplane.builtin.selection import QUOTAS
from controlplane.engine.queue import WorkQueue
from controlplane.kinds.totals import shown
from controlplane.plane import Plane

_PREFIX: Final = "/core/resourcequotas/"
# Many writes at once are counted together.
_PAUSE_SECONDS: Final = 0.05
# Pods on a lost node stop to count without any write.
_AGAIN_SECONDS: Final = 300.0


class QuotaStatus:
    """Counts what namespaces with quotas use.

    Args:
        plane: the parts of the server.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._ledger = Ledger(plane.store)
        self._queue = WorkQueue(QUOTAS, self._look)
        self._concerned: set[str] = set()

    async def run(self) -> None:
        """Count, until cancelled.

        Raises:
            CompactedError: it fell too far behind, and has to begin anew.
        """
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(self._queue.run())
            async for change in follow(self._plane.store, "/"):
                namespace = change.key.split("/")[3]
                if change.key.startswith(_PREFIX):
                    self._concerned.add(namespace)
                if namespace in self._concerned:
                    self._queue.add_after(namespace, _PAUSE_SECONDS)
            working.cancel()

    def _quotas(self, namespace: str) -> list[Object]:
        items = self._plane.store.read(f"{_PREFIX}{namespace}/").items
        return [codec.decode(item) for item in items]

    async def _look(self, namespace: str) -> float | None:
        quotas = self._quotas(namespace)
        if not quotas:
            self._concerned.discard(namespace)
            return None
        for quota in quotas:
            await self._count(namespace, quota)
        return _AGAIN_SECONDS

    async def _count(self, namespace: str, quota: Object) -> None:
        spec, status = quota.get("spec", {}), quota.get("status", {})
        used = self._ledger.used(namespace, spec, datetime.now(UTC))
        wanted = {"hard": spec.get("hard", {}), "used": {n: shown(a) for n, a in used.items()}}
        if status == wanted:
            return
        revision = quota["metadata"]["resourceVersion"]

        async def counted(value: Object) -> Object:
            # A count is right for the quota that was read.
            value["metadata"]["resourceVersion"] = revision
            return {**value, "status": wanted}

        writing = context(QUOTAS)
        writing.subresource = "status"
        quotas = self._plane.catalog.find("", "v1", "resourcequotas")
        assert quotas is not None
        try:
            name = quota["metadata"]["name"]
            await self._plane.registry.update(quotas, namespace, name, counted, writing)
        except ApiError as error:
            if error.reason == "Conflict":
                self._queue.add_after(namespace, _PAUSE_SECONDS)
            elif error.reason != "NotFound":
                raise
