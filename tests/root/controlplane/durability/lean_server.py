"""A process that serves a store by HTTP, again and again, without the second that a start takes.

It imports everything once; for each line on its standard input it forks a child that opens the
store, serves the machinery of the API server (no TLS, no authentication) and prints its port. The
child is killed by whoever asked.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from controlplane.api.fieldsets import FieldSets
from controlplane.api.registry import Registry
from controlplane.kinds.catalog import Catalog, builtin_resources
from controlplane.kinds.types import builtin_types
from controlplane.options import Options
from controlplane.plane import Plane
from controlplane.server.app import Server
from controlplane.store.local import LocalStore
from controlplane.store.log import SqliteLog


async def serve(directory: Path) -> None:
    store = LocalStore(SqliteLog(directory / "store.db"), keep=5000)
    await store.open()
    types = builtin_types()
    catalog = Catalog(builtin_resources(types, {}))
    registry = Registry(store, types, FieldSets(types))
    plane = Plane(replace(Options(), data_dir=directory), store, types, catalog, registry)
    runner = web.AppRunner(Server(plane).application(), access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(os.getpid(), runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    builtin_types()
    print("ready", flush=True)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(serve(Path(sys.argv[1])))
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
