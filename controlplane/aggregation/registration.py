"""APIServices of what this server serves itself, so that clients find all groups in one place.

Those of built-in groups are made when the server starts, those of custom resources come and go
with their definitions. One that somebody else made of a group is left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from controlplane.aggregation.priorities import is_builtin, priority_of
from controlplane.aggregation.registered import Registered
from controlplane.api import codec, metadata
from controlplane.api.deletion import DeleteOptions
from controlplane.api.errors import ApiError
from controlplane.api.resource import Context, Object
from controlplane.builtin.following import follow
from controlplane.plane import Plane
from kubeletpy_common import logs

_log = logging.getLogger(__name__)
MANAGED: Final = "kube-aggregator.kubernetes.io/automanaged"
_ON_START: Final = "onstart"
_ALWAYS: Final = "true"
_OWN: Final = "apiregistration.k8s.io"


class Registration:
    """Keeps them.

    Args:
        plane: the parts.
        registered: those that there are.
    """

    def __init__(self, plane: Plane, registered: Registered) -> None:
        definitions = plane.catalog.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        assert definitions is not None
        self._plane = plane
        self._registered = registered
        self._definitions = definitions

    async def run(self) -> None:
        """Make those that are missing, then follow definitions of custom resources."""
        await self._settle(self._builtin(), starting=True)
        async for _ in follow(self._plane.store, self._definitions.prefix):
            await self._settle(self._custom(), starting=False)

    def _builtin(self) -> dict[str, Object]:
        catalog = self._plane.catalog
        found = [("", "v1")]
        found += [(group, version) for group in catalog.groups() if is_builtin(group)
                  for version in catalog.versions(group) if group != _OWN]  # fmt: skip
        return {f"{version}.{group}": local(group, version, _ON_START) for group, version in found}

    def _custom(self) -> dict[str, Object]:
        page = self._plane.store.read(self._definitions.prefix)
        found: dict[str, Object] = {}
        for item in page.items:
            spec = codec.decode(item)["spec"]
            for version in spec["versions"]:
                if version.get("served"):
                    name = f"{version['name']}.{spec['group']}"
                    found[name] = local(spec["group"], version["name"], _ALWAYS)
        return found

    async def _settle(self, wanted: Mapping[str, Object], *, starting: bool) -> None:
        mode = _ON_START if starting else _ALWAYS
        for name, value in wanted.items():
            known = self._registered.get(name)
            if known is None:
                await self._tried(self._create(value))
            elif managed(known) and known["spec"] != value["spec"]:
                await self._tried(self._update(name, value))
        for known in self._registered.all():
            if managed(known) == mode and known["metadata"]["name"] not in wanted:
                await self._tried(self._delete(known))

    async def _create(self, value: Object) -> None:
        await self._plane.registry.create(self._registered.resource, "", value, _context())

    async def _update(self, name: str, value: Object) -> None:
        async def change(old: Object) -> Object:
            return {**old, "spec": value["spec"]}

        await self._plane.registry.update(self._registered.resource, "", name, change, _context())

    async def _delete(self, known: Object) -> None:
        resource = self._registered.resource
        item = self._plane.store.get(resource.key("", known["metadata"]["name"]))
        if item is not None:
            await self._plane.registry.delete(resource, item, DeleteOptions(), _context())

    async def _tried(self, work: object) -> None:
        try:
            await work  # type: ignore[misc]
        except ApiError as error:
            logs.event(_log, logging.WARNING, "an APIService is not as it should be",
                       error=str(error))  # fmt: skip


def local(group: str, version: str, mode: str) -> Object:
    """Return the APIService of a version that this server serves (pure)."""
    priority, version_priority = priority_of(group, version)
    spec: Object = {
        "version": version, "groupPriorityMinimum": priority, "versionPriority": version_priority,
    }  # fmt: skip
    if group:
        spec["group"] = group
    return {
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": f"{version}.{group}", "labels": {MANAGED: mode}}, "spec": spec,
    }  # fmt: skip


def managed(value: Object) -> str:
    """Return how an APIService is kept by the server; "": it is not (pure)."""
    mode = (value["metadata"].get("labels") or {}).get(MANAGED, "")
    return mode if mode in (_ON_START, _ALWAYS) else ""


def _context() -> Context:
    return Context(now=metadata.now(), manager="kube-apiserver")
