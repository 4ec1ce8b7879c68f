"""The node's heart-beat: a Lease in kube-node-lease, renewed each quarter of its duration."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from kubeletpy_common import logs
from kubeletpy_common.apiclient.client import ApiClient, object_path
from kubeletpy_common.apiclient.errors import ApiError

_log = logging.getLogger(__name__)
NAMESPACE = "kube-node-lease"
_GROUP = "coordination.k8s.io/v1"
_JITTER = 0.04
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 7.0
_TIMEOUT = 10.0


def renewed(
    before: Mapping[str, Any] | None, name: str, uid: str, seconds: int, at: datetime
) -> dict[str, Any]:
    """Return the lease to write (pure).

    Args:
        before: the lease that is there; None: it is to be created.
        name, uid: of the node; "" for a uid that is not known yet.
        seconds: how long the lease counts.
        at: now.
    """
    metadata: dict[str, Any] = {"name": name, "namespace": NAMESPACE}
    spec: dict[str, Any] = {}
    if before is not None:
        metadata, spec = dict(before.get("metadata") or {}), dict(before.get("spec") or {})
    if uid and not metadata.get("ownerReferences"):
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}
        metadata["ownerReferences"] = [owner]
    spec |= {
        "holderIdentity": name,
        "leaseDurationSeconds": seconds,
        "renewTime": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    return {"apiVersion": _GROUP, "kind": "Lease", "metadata": metadata, "spec": spec}


class NodeLease:
    """Keeps the lease of a node.

    Args:
        api: the API server.
        name: of the node.
        seconds: ``nodeLeaseDurationSeconds``.
        uid: returns the node's uid, "" as long as it is not known.
    """

    def __init__(self, api: ApiClient, name: str, seconds: int, uid: Callable[[], str]) -> None:
        self._api = api
        self._name = name
        self._seconds = seconds
        self._uid = uid
        self._lease: dict[str, Any] | None = None
        self._failed = ""

    async def run(self) -> None:
        """Renew it for ever; a failed renewal is repeated soon."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self._renew()
            except ApiError as error:
                self._lease = None
                self._tell(str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            self._tell("")
            pause = FIRST_PAUSE
            await asyncio.sleep(self._seconds / 4 * (1 + random.uniform(0, _JITTER)))

    def _tell(self, reason: str) -> None:
        if reason and not self._failed:
            logs.event(
                _log, logging.WARNING, "lease of the node cannot be renewed; it is tried again",
                lease=f"{NAMESPACE}/{self._name}", reason=reason,
            )  # fmt: skip
        elif self._failed and not reason:
            logs.event(_log, logging.INFO, "lease of the node is renewed again")
        self._failed = reason

    async def _renew(self) -> None:
        path = object_path(_GROUP, "leases", NAMESPACE, self._name)
        if self._lease is None:
            try:
                self._lease = await self._api.get(path, timeout=_TIMEOUT)
            except ApiError as error:
                if not error.not_found:
                    raise
        wanted = renewed(self._lease, self._name, self._uid(), self._seconds, datetime.now(UTC))
        if self._lease is None:
            collection = object_path(_GROUP, "leases", NAMESPACE)
            self._lease = await self._api.create(collection, wanted, timeout=_TIMEOUT)
        else:
            self._lease = await self._api.update(path, wanted, timeout=_TIMEOUT, urgent=True)
