"""Mirror pods: static pods as the API server shows them.

A mirror is a copy of a static pod, marked with the hash of its content, owned by the node. Nobody
runs it; it carries the status. One that is marked for deletion, or of another version, is deleted
and made anew, as long as the static pod lives; once nothing of that is left the mirror goes, too.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kubeletpy.api.codec import to_builtins
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodStatus
from kubeletpy.status.manager import Client
from kubeletpy_common import logs
from kubeletpy_common.apiclient.client import object_path
from kubeletpy_common.apiclient.errors import ApiError

from .updates import CONFIG_HASH, CONFIG_MIRROR, from_api, pod_key

_log = logging.getLogger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between attempts: the first, doubled each time, and the longest."""
LAST_WORDS = 3.0
"""Seconds for which a kubelet that ends waits for mirrors to be deleted."""


class Step(StrEnum):
    """What a mirror needs."""

    NONE = "none"
    CREATE = "create"
    DELETE = "delete"


def next_step(static: Pod | None, mirror: Mapping[str, Any] | None, known: bool) -> Step:
    """Return what is to be done about one mirror (pure).

    Args:
        static: the pod that lives on the node, None if none does.
        mirror: the object in the API server, None if there is none.
        known: whether the API server has said which mirrors there are.
    """
    if not known:
        return Step.NONE
    if mirror is None:
        return Step.NONE if static is None else Step.CREATE
    if static is None or not stands_for(mirror, static):
        return Step.DELETE
    return Step.NONE


def stands_for(mirror: Mapping[str, Any], static: Pod) -> bool:
    """Whether a mirror is of this version of a static pod, and is to stay."""
    metadata = mirror["metadata"]
    if metadata.get("deletionTimestamp") is not None:
        return False
    mark = (metadata.get("annotations") or {}).get(CONFIG_MIRROR)
    return bool(mark == static.metadata.annotations.get(CONFIG_HASH))


def mirror_of(static: Pod, node_name: str, node_uid: str) -> dict[str, Any]:
    """Return the object to create for a static pod."""
    plain = to_builtins(static)
    meta = static.metadata
    annotations = {**meta.annotations, CONFIG_MIRROR: meta.annotations.get(CONFIG_HASH, "")}
    owner = {
        "apiVersion": "v1",
        "kind": "Node",
        "name": node_name,
        "uid": node_uid,
        "controller": True,
    }
    metadata: dict[str, Any] = {
        "name": meta.name,
        "namespace": meta.namespace,
        "annotations": annotations,
        "ownerReferences": [owner],
    }
    if meta.labels:
        metadata["labels"] = dict(meta.labels)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": plain["spec"]}


@dataclass
class _Entry:
    static: Pod | None = None
    mirror: Mapping[str, Any] | None = None
    task: asyncio.Task[None] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Mirrors:
    """Keeps the mirrors of this node's static pods.

    Args:
        client: of the API server.
        node_name: name of the node.
        show: told of the mirror of a static pod, by the static pod's UID.
        wanted: whether a static pod of that namespace/name lives or is to live here.
    """

    def __init__(
        self,
        client: Client,
        node_name: str,
        show: Callable[[str, Mapping[str, Any] | None], None],
        wanted: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self._client = client
        self._node = node_name
        self._node_uid = ""
        self._show = show
        self._wanted = wanted
        self._entries: dict[str, _Entry] = {}
        self._names: dict[str, str] = {}
        self._synced = self._settled = False

    def synced(self) -> None:
        """The API server has said which mirrors there are."""
        if not self._synced:
            self._synced = True
            self._kick_all()

    def settled(self) -> None:
        """The node knows its static pods: a mirror that stands for none is left over."""
        self._settled = True
        self._kick_all()

    def _kick_all(self) -> None:
        for name in list(self._entries):
            self._kick(name)

    def published(self, pod: Pod, _: PodStatus) -> None:
        """A pod lives on the node."""
        if from_api(pod):
            return
        name = pod_key(pod)
        entry = self._entries.setdefault(name, _Entry())
        before = entry.static
        if before is not None and before.metadata.uid == pod.metadata.uid:
            return
        entry.static = pod
        if before is not None:
            self._show(before.metadata.uid, None)
        if entry.mirror is not None:
            self._tell(entry)
        self._kick(name)

    def gone(self, pod: Pod) -> None:
        """Nothing is left of a pod on the node."""
        name = pod_key(pod)
        entry = self._entries.get(name)
        static = entry.static if entry is not None else None
        if from_api(pod) or entry is None or static is None:
            return
        if static.metadata.uid == pod.metadata.uid:
            entry.static = None
            self._show(pod.metadata.uid, None)
            self._kick(name)

    def seen(self, uid: str, item: Mapping[str, Any] | None) -> None:
        """Take over a mirror as the API server has it; None: it is gone."""
        if item is None:
            name = self._names.pop(uid, "")
            entry = self._entries.get(name)
            if entry is None or entry.mirror is None or entry.mirror["metadata"]["uid"] != uid:
                return
            entry.mirror = None
            if entry.static is not None:
                self._show(entry.static.metadata.uid, None)
        else:
            metadata = item["metadata"]
            name = f"{metadata.get('namespace')}/{metadata.get('name')}"
            self._names[uid] = name
            entry = self._entries.setdefault(name, _Entry())
            entry.mirror = item
            self._tell(entry)
        entry.changed.set()
        self._kick(name)

    def _tell(self, entry: _Entry) -> None:
        """The status of a static pod is that of its mirror; not that of an outdated one."""
        if entry.static is None or entry.mirror is None:
            return
        if stands_for(entry.mirror, entry.static):
            self._show(entry.static.metadata.uid, entry.mirror)

    def _step(self, name: str, entry: _Entry) -> Step:
        if entry.static is None and (not self._settled or self._wanted(name)):
            # Its pod is about to be adopted, or about to start as another version.
            return Step.NONE
        return next_step(entry.static, entry.mirror, self._synced)

    def _kick(self, name: str) -> None:
        entry = self._entries[name]
        if self._step(name, entry) is Step.NONE:
            if entry.static is None and entry.mirror is None and entry.task is None:
                del self._entries[name]
            return
        if entry.task is None:
            entry.task = asyncio.create_task(self._work(name, entry), name=f"mirror {name}")

    async def _work(self, name: str, entry: _Entry) -> None:
        pause = FIRST_PAUSE
        try:
            while True:
                step = self._step(name, entry)
                if step is Step.NONE:
                    return
                entry.changed.clear()
                try:
                    await (self._create(entry) if step is Step.CREATE else self._delete(entry))
                    pause = FIRST_PAUSE
                    # The watch says what became of it; if it says nothing, it is looked at again.
                    await _wait(entry.changed, LONGEST_PAUSE)
                except ApiError as error:
                    logs.event(
                        _log, logging.WARNING, "mirror pod not kept up to date",
                        pod=name, step=str(step), code=error.code, reason=str(error),
                    )  # fmt: skip
                    if error.code in (401, 403, 422):
                        # The node may have been registered anew, as another object.
                        self._node_uid = ""
                    await _wait(entry.changed, pause * random.uniform(0.8, 1.2))
                    pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            entry.task = None
            if entry.static is None and entry.mirror is None:
                self._entries.pop(name, None)

    async def _create(self, entry: _Entry) -> None:
        static = entry.static
        assert static is not None
        if not self._node_uid:
            node = await self._client.request("GET", object_path("v1", "nodes", "", self._node))
            self._node_uid = str(node.get("metadata", {}).get("uid") or "")
        made = mirror_of(static, self._node, self._node_uid)
        path = object_path("v1", "pods", static.metadata.namespace)
        try:
            await self._client.request("POST", path, made)
        except ApiError as error:
            # The watch will bring it, if it is a mirror; else the name is taken by another pod.
            if error.reason != "AlreadyExists":
                raise

    async def _delete(self, entry: _Entry) -> None:
        assert entry.mirror is not None
        metadata = entry.mirror["metadata"]
        options = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": metadata["uid"]},
        }
        path = object_path("v1", "pods", metadata["namespace"], metadata["name"])
        try:
            await self._client.request("DELETE", path, options)
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise

    async def close(self) -> None:
        """Let deletions come to an end, if they do so soon."""
        tasks = [entry.task for entry in self._entries.values() if entry.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_WORDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
