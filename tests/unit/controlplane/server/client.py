"""A server on loopback and a client for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
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
from controlplane.options import Options
from controlplane.plane import Plane
from controlplane.server.app import Server
from controlplane.serving import keep
from controlplane.store.local import LocalStore
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
        plane: its parts.
    """

    def __init__(self, http: TestClient[Any, Any], store: Store, plane: Plane) -> None:
        self.http = http
        self.store = store
        self.plane = plane

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
async def running_api(
    directory: Path,
    *,
    strategies: Mapping[str, Strategy] | None = None,
    parts: Iterable[Callable[[Plane], None]] = (),
    settings: Mapping[str, Any] | None = None,
    **options: int,
) -> AsyncIterator[Api]:
    """Run a server whose store is in ``directory``.

    Args:
        directory: of the store.
        strategies: of its kinds; None: one with graceful pods.
        parts: hooked in, as the assembly does it; by default the machinery is alone.
        settings: of the server, besides its directory.
        options: of the store.
    """
    store = LocalStore(SqliteLog(directory / "store.db"), **options)
    await store.open()
    types = builtin_types().copy()
    graceful = {"/pods": Graceful()}
    catalog = Catalog(builtin_resources(types, graceful if strategies is None else strategies))
    registry = Registry(store, types, FieldSets(types))
    plane = Plane(Options(data_dir=directory, **(settings or {})), store, types, catalog, registry)
    for install in parts:
        install(plane)
    for start in plane.starters:
        await start()
    tasks = [asyncio.create_task(keep(work)) for work in plane.background]
    async with TestClient(TestServer(Server(plane).application())) as http:
        yield Api(http, store, plane)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await store.close()
