"""A server on loopback and a client for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from controlplane.api.fieldsets import FieldSets
from controlplane.api.registry import Registry
from controlplane.api.resource import Strategy
from controlplane.kinds.catalog import Catalog, builtin_resources
from controlplane.kinds.types import builtin_types
from controlplane.server.app import Server
from controlplane.server.resources import Resources
from controlplane.store.log import SqliteLog
from controlplane.store.store import Store

JSON = "application/json"
MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"


class Graceful(Strategy):
    grace = 30
    selectable = frozenset({"spec.nodeName"})

    def fields(self, value: dict[str, Any]) -> dict[str, str]:
        return {"spec.nodeName": value["spec"].get("nodeName", "")}


class Api:
    """Sends requests and reads answers.

    Attributes:
        http: the client of aiohttp.
        store: of the server.
    """

    def __init__(self, http: TestClient[Any, Any], store: Store) -> None:
        self.http = http
        self.store = store

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        kind: str = "application/json",
        **more: Any,
    ) -> tuple[int, Any]:
        """Return status and decoded answer."""
        answer = await self.send(method, path, body, kind=kind, **more)
        return answer.status, json.loads(await answer.read())

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        kind: str = "application/json",
        **more: Any,
    ) -> ClientResponse:
        """Return the answer."""
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body)
        headers = {"Content-Type": kind, **more.pop("headers", {})}
        return await self.http.request(method, path, data=data, headers=headers, **more)

    async def make(self, name: str, path: str = MAPS, **fields: Any) -> dict[str, Any]:
        """Create an object and return it."""
        meta = {"name": name, **fields.pop("metadata", {})}
        status, value = await self.call("POST", path, {"metadata": meta, **fields})
        assert status == 201, value
        made: dict[str, Any] = value
        return made


@asynccontextmanager
async def running_api(directory: Path, **options: int) -> AsyncIterator[Api]:
    """Run a server whose store is in ``directory``."""
    store = Store(SqliteLog(directory / "store.db"), **options)
    await store.open()
    types = builtin_types()
    catalog = Catalog(builtin_resources(types, {"/pods": Graceful()}))
    registry = Registry(store, types, FieldSets(types))
    app = Server(Resources(registry, catalog), catalog).application()
    async with TestClient(TestServer(app)) as http:
        yield Api(http, store)
    await store.close()
