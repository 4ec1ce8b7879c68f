"""ConfigMaps and Secrets that the pods of this node refer to, each followed by a watch of its own.

As in the Go kubelet (``configMapAndSecretChangeDetectionStrategy: Watch``): the Node authorizer
grants a node only the objects that its pods name, each by name, so there is no list of all. What
is immutable is not followed any longer once it was read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from kubeletpy.api.container import Container, EphemeralContainer
from kubeletpy.api.pod import Pod
from kubeletpy_common.apiclient.client import ApiClient, object_path
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.apiclient.reflector import Changed, Reflector, Synced

FIRST_READ = 10.0
"""Seconds that `ObjectCache.get` waits for the first answer about an object."""
CONFIG_MAPS, SECRETS = "configmaps", "secrets"


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """One object: ``resource`` is ``configmaps`` or ``secrets``."""

    resource: str
    namespace: str
    name: str


def references_of(pod: Pod) -> frozenset[Reference]:
    """Return the ConfigMaps and Secrets that a pod names (pure)."""
    names: set[tuple[str, str]] = set()
    for secret in pod.spec.image_pull_secrets:
        names.add((SECRETS, secret.name))
    containers = (
        *pod.spec.init_containers, *pod.spec.containers, *pod.spec.ephemeral_containers
    )  # fmt: skip
    for container in containers:
        names |= set(_of_container(container))
    for volume in pod.spec.volumes:
        if volume.config_map is not None:
            names.add((CONFIG_MAPS, volume.config_map.name))
        if volume.secret is not None:
            names.add((SECRETS, volume.secret.secret_name))
        for source in volume.projected.sources if volume.projected is not None else ():
            if source.config_map is not None:
                names.add((CONFIG_MAPS, source.config_map.name))
            if source.secret is not None:
                names.add((SECRETS, source.secret.name))
    namespace = pod.metadata.namespace
    return frozenset(Reference(kind, namespace, name) for kind, name in names if name)


def _of_container(container: Container | EphemeralContainer) -> Iterable[tuple[str, str]]:
    for source in container.env_from:
        if source.config_map_ref is not None:
            yield CONFIG_MAPS, source.config_map_ref.name
        if source.secret_ref is not None:
            yield SECRETS, source.secret_ref.name
    for variable in container.env:
        value = variable.value_from
        if value is not None and value.config_map_key_ref is not None:
            yield CONFIG_MAPS, value.config_map_key_ref.name
        if value is not None and value.secret_key_ref is not None:
            yield SECRETS, value.secret_key_ref.name


@dataclass
class _Entry:
    task: asyncio.Task[None]
    users: set[str] = field(default_factory=set)
    known: asyncio.Event = field(default_factory=asyncio.Event)
    object: dict[str, Any] | None = None
    reflector: Reflector | None = None


class ObjectCache:
    """The objects that pods name.

    Args:
        client: of the API server.
        changed: called with the UID of each pod that names an object that changed.
    """

    def __init__(self, client: ApiClient, changed: Callable[[str], None]) -> None:
        self._client = client
        self._changed = changed
        self._entries: dict[Reference, _Entry] = {}
        self._pods: dict[str, frozenset[Reference]] = {}

    def register(self, pod: Pod) -> None:
        """Follow what ``pod`` names, until `unregister`; again after its specification changed."""
        uid = pod.metadata.uid
        wanted = references_of(pod)
        before = self._pods.get(uid, frozenset())
        self._pods[uid] = wanted
        for reference in wanted - before:
            entry = self._entries.get(reference)
            if entry is None:
                task = asyncio.create_task(
                    self._follow(reference), name=f"watch {reference.resource} {reference.name}"
                )
                entry = self._entries[reference] = _Entry(task)
            entry.users.add(uid)
        for reference in before - wanted:
            self._leave(uid, reference)

    def unregister(self, uid: str) -> None:
        """A pod is gone; what only it named is not followed any longer."""
        for reference in self._pods.pop(uid, frozenset()):
            self._leave(uid, reference)

    def _leave(self, uid: str, reference: Reference) -> None:
        entry = self._entries.get(reference)
        if entry is None:
            return
        entry.users.discard(uid)
        if not entry.users:
            del self._entries[reference]
            entry.task.cancel()

    async def close(self) -> None:
        """Follow nothing any longer."""
        tasks = [entry.task for entry in self._entries.values()]
        self._entries.clear()
        self._pods.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def get(self, resource: str, namespace: str, name: str) -> dict[str, Any]:
        """Return an object; from memory if a pod registered it, else asked for.

        Raises:
            ApiError: it could not be had; 404 if it does not exist.
        """
        entry = self._entries.get(Reference(resource, namespace, name))
        if entry is None:
            return await self._client.get(object_path("v1", resource, namespace, name))
        if not entry.known.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_READ):
                    await entry.known.wait()
        if not entry.known.is_set():
            error = entry.reflector.error if entry.reflector is not None else None
            if error is not None:
                raise error
            raise ApiError(0, "Timeout", f"failed to sync {resource} cache: timed out waiting")
        if entry.object is None:
            kind = resource.removesuffix("s")
            raise ApiError(404, "NotFound", f'{kind}s "{name}" not found')
        return entry.object

    async def _follow(self, reference: Reference) -> None:
        reflector = Reflector(
            self._client,
            object_path("v1", reference.resource, reference.namespace),
            field_selector=f"metadata.name={reference.name}",
        )
        # The entry is made by whoever made this task, in the same turn of the loop.
        entry = self._entries[reference]
        entry.reflector = reflector
        async for each in reflector:
            self._take(entry, each)
            if entry.object is not None and entry.object.get("immutable") is True:
                return

    def _take(self, entry: _Entry, each: Synced | Changed) -> None:
        before = entry.object
        if isinstance(each, Synced):
            entry.object = each.items[0] if each.items else None
        else:
            entry.object = None if each.kind == "DELETED" else each.object
        first = not entry.known.is_set()
        entry.known.set()
        if first or before != entry.object:
            for uid in list(entry.users):
                self._changed(uid)
