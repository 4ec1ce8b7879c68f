"""Keeps ``status.used`` of the quotas of any API server.

Source: Kubernetes documentation, "Resource Quotas", "Viewing and Setting Quotas".

Pods, services and claims are followed as they are; of what is only counted the metadata is, from
when the first quota counts it.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any, ClassVar, Final

from controlplane.controllers.discovery import Discovery
from controlplane.controllers.garbage.following import Following, resource_key
from controlplane.controllers.garbage.graph import Node
from controlplane.engine.controller import Context, Controller, monotonic
from controlplane.engine.informer import Informer
from controlplane.engine.resources import CLAIMS, PODS, QUOTAS, SERVICES, Object, Resource, key_of
from controlplane.kinds.totals import Amounts, shown

from .usage import add, counted_kinds, matches_scopes, usage_of

Kind = tuple[str, str]
_PAUSE: Final = 0.05
"""Seconds: many writes at once are counted together."""
_AGAIN: Final = 300.0
"""Seconds: pods on a lost node stop to count without any write."""
_LOOK_AGAIN: Final = 30.0
"""Seconds after which a resource that is not served is looked for once more."""
_FIRST_LISTS: Final = 5.0
_NONE: Final = (Decimal(0), "0")
_WITHIN: Final[dict[Kind, Resource]] = {
    ("", "pods"): PODS, ("", "services"): SERVICES, ("", "persistentvolumeclaims"): CLAIMS,
}  # fmt: skip


class QuotaController(Controller):
    """Counts what namespaces with quotas use; the keys are namespaces."""

    name: ClassVar[str] = "resourcequota-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._quotas = context.informers.of(QUOTAS)
        self._within: dict[Kind, Informer] = {
            kind: context.informers.of(resource) for kind, resource in _WITHIN.items()
        }
        self._quotas.listen(self._quota_changed)
        for informer in self._within.values():
            informer.listen(self._object_changed)
        self._discovery = Discovery(context.client)
        self._following = Following(context.client, self._take)
        # How many objects of a resource each namespace has.
        self._counts: dict[str, dict[str, set[str]]] = {}
        self._followed: dict[Kind, Resource] = {}
        self._asked: set[Kind] = set()
        self._looked = 0.0
        self._choosing = asyncio.Lock()
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """See `Controller`."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            await super().run()

    async def sync(self, key: str) -> float | None:
        """See `Controller`."""
        quotas = self._quotas.of_namespace(key)
        if not quotas:
            return None
        await self._follow_what_counts()
        for quota in quotas:
            await self._count(key, quota)
        return _AGAIN

    def _quota_changed(self, before: Object | None, quota: Object | None) -> None:
        found = quota or before
        assert found is not None
        if quota is None:
            self._quotas_left()
        elif before is None or before["spec"] != quota["spec"]:
            self.queue.add(found["metadata"]["namespace"])

    def _quotas_left(self) -> None:
        if not len(self._quotas) and self._tasks is not None:
            self._followed.clear()
            self._asked = set()
            self._following.follow((), self._tasks)

    def _object_changed(self, before: Object | None, value: Object | None) -> None:
        found = value or before
        assert found is not None
        self._recount(found["metadata"]["namespace"])

    def _recount(self, namespace: str) -> None:
        if self._quotas.of_namespace(namespace):
            self.queue.add_after(namespace, _PAUSE)

    def _take(self, key: str, node: Node | None) -> None:
        """Take note of an object that is only counted."""
        version, plural, namespace, _ = key.split(" ")
        there = self._counts.setdefault(f"{version} {plural}", {}).setdefault(namespace, set())
        if node is None:
            there.discard(key)
        else:
            there.add(key)
        self._recount(namespace)

    async def _follow_what_counts(self) -> None:
        """Follow the resources that quotas count, and no others.

        Raises:
            ApiError: the server does not say which resources it has.
        """
        kinds = {kind for quota in self._quotas for kind in counted_kinds(_hard(quota))}
        kinds -= set(_WITHIN)
        async with self._choosing:
            await self._choose(kinds)

    async def _choose(self, kinds: set[Kind]) -> None:
        missing = kinds - set(self._followed)
        if kinds == self._asked and (not missing or monotonic() < self._looked + _LOOK_AGAIN):
            return
        await self._discovery.refresh()
        self._asked, self._looked = kinds, monotonic()
        served = {
            (one.resource.group_version.rpartition("/")[0], one.resource.plural): one.resource
            for one in self._discovery.served()
            if one.resource.namespaced and one.verbs >= {"list", "watch"}
        }
        self._followed = {kind: served[kind] for kind in kinds if kind in served}
        assert self._tasks is not None
        self._following.follow(self._followed.values(), self._tasks)
        await self._following.listed(_FIRST_LISTS)

    async def _count(self, namespace: str, quota: Object) -> None:
        hard = _hard(quota)
        used = self._used(namespace, quota["spec"], hard)
        wanted: dict[str, Any] = {"hard": hard, "used": {n: shown(a) for n, a in used.items()}}
        status = quota.get("status") or {}
        if status == wanted:
            return
        current = self._quotas.get(key_of(quota))
        if current is None or current["metadata"]["uid"] != quota["metadata"]["uid"]:
            return
        await self.context.writer.update(QUOTAS, {**quota, "status": wanted}, "status")

    def _used(self, namespace: str, spec: Object, hard: dict[str, str]) -> Amounts:
        """Return how much is used of what a quota counts."""
        now = self.context.clock()
        scoped = bool(spec.get("scopes") or spec.get("scopeSelector"))
        total: Amounts = {}
        for kind, names in counted_kinds(hard).items():
            values: list[Object]
            if kind in self._within:
                values = self._within[kind].of_namespace(namespace)
            elif kind in self._followed:
                key = resource_key(self._followed[kind])
                values = [{"metadata": {}}] * len(self._counts.get(key, {}).get(namespace, ()))
            else:
                continue
            total.update((name, _NONE) for name in names)
            for value in values:
                if scoped and not matches_scopes(kind, value, spec):
                    continue
                usage = usage_of(kind, value, now)
                add(total, {name: usage[name] for name in names if name in usage})
        return total


def _hard(quota: Object) -> dict[str, str]:
    found: dict[str, str] = quota["spec"].get("hard") or {}
    return found
