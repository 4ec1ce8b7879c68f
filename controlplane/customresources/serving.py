"""Serving custom resources from the moment that their definition is there until it is gone.

A definition's life: its names are compared with those that others have (``NamesAccepted``); then it
is served (``Established``); when it is deleted its objects are deleted first, and it goes with the
last of them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from controlplane.api import codec, metadata
from controlplane.api.deletion import DeleteOptions
from controlplane.api.errors import ApiError
from controlplane.api.resource import Context, Object, Resource
from controlplane.customresources.definition import FINALIZER, is_true, set_condition
from controlplane.customresources.scale import serve_scale
from controlplane.customresources.shape import field_types
from controlplane.customresources.strategy import make_resource, schema_of
from controlplane.openapi.documents import Documents
from controlplane.plane import Plane
from kubeletpy_common import logs

_log = logging.getLogger(__name__)
GROUP: Final = "apiextensions.k8s.io"
PLURAL: Final = "customresourcedefinitions"
_RETRY_SECONDS: Final = 1.0


class Definitions:
    """Follows the definitions.

    Args:
        plane: the parts.
        documents: that publish schemas.
    """

    def __init__(self, plane: Plane, documents: Documents) -> None:
        self._plane = plane
        self._documents = documents
        found = plane.catalog.find(GROUP, "v1", PLURAL)
        assert found is not None
        self._resource = found
        self._served: dict[str, list[Resource]] = {}
        self._revisions: dict[str, str] = {}

    async def start(self) -> None:
        """Serve what is established, before the server listens."""
        for definition in self._all():
            if is_true(definition, "Established"):
                self._serve(definition)

    async def run(self) -> None:
        """Follow changes for ever."""
        store = self._plane.store
        watch = store.watch(self._resource.prefix, store.revision)
        try:
            waiting = {one["metadata"]["name"] for one in self._all()} | set(self._served)
            while True:
                waiting = {name for name in sorted(waiting) if not await self._settle(name)}
                try:
                    async with asyncio.timeout(_RETRY_SECONDS if waiting else None):
                        if not await watch.wait():
                            return
                except TimeoutError:
                    continue
                for change in watch.take():
                    waiting.add(change.key.rpartition("/")[2])
                    if change.item is None:
                        # It has freed its names, for which others may wait.
                        waiting |= {one["metadata"]["name"] for one in self._all()}
        finally:
            watch.close()

    def _all(self) -> list[Object]:
        page = self._plane.store.read(self._resource.prefix)
        return [codec.decode(item) for item in page.items]

    async def _settle(self, name: str) -> bool:
        """Bring one definition a step further; False: again, after a while."""
        item = self._plane.store.get(self._resource.key("", name))
        if item is None:
            self._stop(name)
            return True
        definition = codec.decode(item)
        try:
            if "deletionTimestamp" in definition["metadata"]:
                if name in self._served:
                    self._serve(definition)
                return await self._empty(definition)
            definition = await self._accept(definition)
            if is_true(definition, "Established"):
                self._serve(definition)
        except ApiError as error:
            if error.reason not in ("Conflict", "NotFound"):
                logs.event(_log, logging.WARNING, "a definition has to wait", name=name,
                           error=str(error))  # fmt: skip
            return error.reason == "NotFound"
        return True

    async def _accept(self, definition: Object) -> Object:
        """Compare its names with those of others, and establish it if they are free."""
        taken = self._taken(definition)
        wanted = accept(definition, *taken)

        async def change(old: Object) -> Object:
            new = {**old, "status": {**old.get("status", {})}}
            conditions = new["status"].get("conditions", [])
            new["status"]["conditions"] = [dict(one) for one in conditions]
            apply_names(new, wanted, metadata.now())
            return new

        return await self._plane.registry.update(
            self._resource, "", definition["metadata"]["name"], change, self._context("status")
        )

    def _taken(self, definition: Object) -> tuple[set[str], set[str]]:
        """Return the resource names and the kinds that others of the group have."""
        names: set[str] = set()
        kinds: set[str] = set()
        group, name = definition["spec"]["group"], definition["metadata"]["name"]
        for other in self._all():
            if other["spec"]["group"] != group or other["metadata"]["name"] == name:
                continue
            accepted = other.get("status", {}).get("acceptedNames", {})
            names |= {accepted.get("plural", ""), accepted.get("singular", "")}
            names |= set(accepted.get("shortNames", []))
            kinds |= {accepted.get("kind", ""), accepted.get("listKind", "")}
        return names - {""}, kinds - {""}

    def _serve(self, definition: Object) -> None:
        name = definition["metadata"]["name"]
        told = codec.encode(
            [definition["metadata"]["generation"], definition["metadata"]["uid"],
             definition["status"]["acceptedNames"], "deletionTimestamp" in definition["metadata"]]
        ).decode()  # fmt: skip
        if self._revisions.get(name) == told:
            return
        plane = self._plane
        resources = []
        scales: dict[str, Object] = {}
        before = {one.version: one for one in self._served.get(name, [])}
        for version in definition["spec"]["versions"]:
            if not version.get("served"):
                continue
            resource = make_resource(definition, version, plane.types)
            schema = schema_of(version)
            plane.types.add(
                field_types(resource.type_name, schema),
                {f"{resource.api_version}/{resource.kind}": resource.type_name},
            )
            self._documents.published[resource.type_name] = schema
            scale = version.get("subresources", {}).get("scale")
            if scale is not None:
                scales[resource.version] = scale
            before.pop(resource.version, None)
            resources.append(resource)
        for resource in before.values():
            self._forget(resource)
        key = (definition["spec"]["group"], definition["spec"]["names"]["plural"], "scale")
        plane.handlers.pop(key, None)
        if scales:
            plane.handlers[key] = serve_scale(scales)
        for resource in resources:
            plane.catalog.add(resource)
        self._served[name] = resources
        self._revisions[name] = told

    def _stop(self, name: str) -> None:
        for resource in self._served.pop(name, []):
            self._forget(resource)
            self._plane.handlers.pop((resource.group, resource.plural, "scale"), None)
        self._revisions.pop(name, None)

    def _forget(self, resource: Resource) -> None:
        plane = self._plane
        plane.catalog.remove(resource.group, resource.version, resource.plural)
        own = [
            one
            for one in plane.types.names()
            if one == resource.type_name or one.startswith((f"{resource.type_name}.",))
        ]
        plane.types.remove(own, [f"{resource.api_version}/{resource.kind}"])
        self._documents.published.pop(resource.type_name, None)

    async def _empty(self, definition: Object) -> bool:
        """Delete the objects of a definition that is to go, then let it go."""
        name = definition["metadata"]["name"]
        registry = self._plane.registry
        if FINALIZER not in definition["metadata"].get("finalizers", []):
            return True
        left = 0
        resources = self._served.get(name, [])
        if resources:
            resource = resources[0]
            for item in registry.store.read(resource.prefix).items:
                try:
                    _, gone = await registry.delete(
                        resource, item, DeleteOptions(), self._context("")
                    )
                    left += not gone
                except ApiError as error:
                    left += error.reason != "NotFound"
        if left:
            return False

        async def release(old: Object) -> Object:
            finalizers = [one for one in old["metadata"]["finalizers"] if one != FINALIZER]
            return {**old, "metadata": {**old["metadata"], "finalizers": finalizers}}

        await registry.update(self._resource, "", name, release, self._context(""))
        return True

    @staticmethod
    def _context(subresource: str) -> Context:
        return Context(now=metadata.now(), manager="kube-apiserver", subresource=subresource)


def accept(definition: Object, names: set[str], kinds: set[str]) -> dict[str, Any]:
    """Return ``acceptedNames``, and under ``problem`` the reason and message of what is taken.

    Args:
        definition: whose names are compared.
        names: of resources that others have.
        kinds: that others have.
    """
    wanted = definition["spec"]["names"]
    accepted = dict(definition.get("status", {}).get("acceptedNames", {}))
    problem: tuple[str, str] | None = None
    for key, taken, reason in (
        ("plural", names, "PluralConflict"), ("singular", names, "SingularConflict"),
        ("shortNames", names, "ShortNamesConflict"), ("kind", kinds, "KindConflict"),
        ("listKind", kinds, "ListKindConflict"),
    ):  # fmt: skip
        told = wanted.get(key)
        used = [one for one in (told if isinstance(told, list) else [told]) if one in taken]
        if used and told != accepted.get(key):
            problem = (reason, ", ".join(f'"{one}" is already in use' for one in used))
        elif told:
            accepted[key] = told
        else:
            accepted.pop(key, None)
    accepted.pop("categories", None)
    if wanted.get("categories"):
        accepted["categories"] = wanted["categories"]
    return {"names": accepted, "problem": problem}


def apply_names(value: Object, accepted: dict[str, Any], now: str) -> None:
    """Put what :func:`accept` found into the status of a definition."""
    value["status"]["acceptedNames"] = accepted["names"]
    problem = accepted["problem"]
    if problem is None:
        set_condition(value, "NamesAccepted", True, "NoConflicts", "no conflicts found", now)
        text = "the initial names have been accepted"
        set_condition(value, "Established", True, "InitialNamesAccepted", text, now)
        return
    reason, message = problem
    set_condition(value, "NamesAccepted", False, reason, message, now)
    if not is_true(value, "Established"):
        text = "not all names are accepted"
        set_condition(value, "Established", False, "NotAccepted", text, now)


def install(plane: Plane, documents: Documents) -> None:
    """Hook in definitions and what they define."""
    definitions = Definitions(plane, documents)
    plane.starters.append(definitions.start)
    plane.background.append(definitions.run)
