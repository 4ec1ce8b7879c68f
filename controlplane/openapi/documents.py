"""The documents: made when first asked for, kept compressed until the resources change."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from controlplane.api.resource import Resource
from controlplane.kinds.catalog import Catalog
from controlplane.kinds.types import Types
from controlplane.openapi import protobuf
from controlplane.openapi.descriptions import describer
from controlplane.openapi.paths import paths_of
from controlplane.openapi.schemas import LIST, Schemas

_INFO: Final = {"title": "Kubernetes", "version": "v1.36.0"}


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it is sent.

    Attributes:
        etag: a word that changes when it does.
        packed: its bytes, gzip.
    """

    etag: str
    packed: bytes


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a document is made of, taken at one moment: it is made by another thread."""

    resources: tuple[Resource, ...]
    types: Types
    published: dict[str, dict[str, Any]]


class Documents:
    """Makes and keeps them.

    Args:
        types: of the fields.
        catalog: of the resources.

    Attributes:
        published: OpenAPI version 3 schemas of kinds whose types are not in ``types`` in full
            (custom resources), by the name of the type.
    """

    def __init__(self, types: Types, catalog: Catalog) -> None:
        self.published: dict[str, dict[str, Any]] = {}
        self._types = types
        self._catalog = catalog
        self._describe, self._words = describer()
        self._made: dict[str, Document] = {}
        self._etags: dict[str, str] = {}
        self._revision = -1
        self._lock = asyncio.Lock()

    def index(self) -> dict[str, str]:
        """Return the hashes of the version 3 documents, by path (``apis/apps/v1``)."""
        if self._revision != self._catalog.revision:
            self._revision = self._catalog.revision
            groups = {_path(one): one for one in self._catalog.all()}
            found = {
                path: self._etag(self._catalog.served(one.group, one.version))
                for path, one in groups.items()
            }
            self._etags = dict(sorted(found.items()))
        return self._etags

    async def version_3(self, path: str) -> Document | None:
        """Return the document of a group version, None if there is none."""
        etag = self.index().get(path)
        if etag is None:
            return None
        group_version = path.partition("/")[2]
        group, _, version = group_version.rpartition("/")
        plan = self._plan(self._catalog.served(group, version))
        return await self._get(f"3/{path}", etag, lambda: self._pack(self._build(plan, 3)))

    async def version_2(self, *, as_protobuf: bool) -> Document:
        """Return the document of everything."""
        etag = self._hash("\n".join(self.index().values()))
        plan = self._plan(self._catalog.all())
        if as_protobuf:
            return await self._get(
                "2/pb", etag, lambda: gzip.compress(protobuf.encode(self._build(plan, 2)), 6)
            )
        return await self._get("2/json", etag, lambda: self._pack(self._build(plan, 2)))

    def _plan(self, resources: list[Resource]) -> _Plan:
        return _Plan(tuple(resources), self._types.copy(), dict(self.published))

    async def _get(self, key: str, etag: str, make: Any) -> Document:
        found = self._made.get(key)
        if found is not None and found.etag == etag:
            return found
        async with self._lock:
            found = self._made.get(key)
            if found is None or found.etag != etag:
                self._made = {
                    path: one
                    for path, one in self._made.items()
                    if not path.startswith("3/") or path.partition("/")[2] in self._etags
                }
                found = Document(etag, await asyncio.to_thread(make))
                self._made[key] = found
            return found

    @staticmethod
    def _pack(document: dict[str, Any]) -> bytes:
        return gzip.compress(msgspec.json.encode(document), 6)

    def _etag(self, resources: list[Resource]) -> str:
        parts = [
            msgspec.json.encode(
                [one.type_name, one.plural, one.kind, one.namespaced, one.verbs, one.subresources,
                 self.published.get(one.type_name)]
            )
            for one in resources
        ]  # fmt: skip
        return self._hash(b"\n".join(parts).decode())

    def _hash(self, text: str) -> str:
        # The tables and the code change with the program's version of the API only.
        return hashlib.sha512(f"{_INFO}{self._words}{text}".encode()).hexdigest().upper()

    def _build(self, plan: _Plan, version: int) -> dict[str, Any]:
        schemas = Schemas(plan.types, version, self._describe, plan.published)
        paths: dict[str, Any] = {}
        for resource in plan.resources:
            lists = resource.type_name + LIST

            def refer(name: str, one: Resource = resource, lists: str = lists) -> dict[str, Any]:
                if name == lists:
                    return schemas.refer_list(one.type_name, one.group, one.version, one.kind)
                return schemas.refer(name)

            refer(resource.type_name)
            paths.update(paths_of(resource, version, refer, plan.types.kinds))
        found, paths = dict(sorted(schemas.found.items())), dict(sorted(paths.items()))
        if version == 3:
            return {
                "openapi": "3.0.0",
                "info": {**_INFO, "version": "1.36"},
                "paths": paths,
                "components": {"schemas": found},
            }
        return {"swagger": "2.0", "info": _INFO, "paths": paths, "definitions": found}


def _path(resource: Resource) -> str:
    return f"{'apis' if resource.group else 'api'}/{resource.api_version}"
