"""Puts the parts together; each package that has some hooks them in by its ``install``."""

from __future__ import annotations

from controlplane import admission, builtin, operation, pods, scaling, services
from controlplane.aggregation import part as aggregation
from controlplane.api import codec
from controlplane.api.fieldsets import FieldSets
from controlplane.api.registry import Registry
from controlplane.auth import part as auth
from controlplane.customresources import serving as customresources
from controlplane.kinds.catalog import Catalog, builtin_resources
from controlplane.kinds.strategies import STRATEGIES
from controlplane.kinds.types import builtin_types
from controlplane.openapi import routes as openapi
from controlplane.options import Options
from controlplane.plane import Plane
from controlplane.proxying import part as proxying
from controlplane.store.etcd import EtcdStore
from controlplane.store.etcd_client import EtcdServers
from controlplane.store.local import LocalStore
from controlplane.store.log import SqliteLog
from controlplane.store.store import Store


async def assemble(options: Options) -> Plane:
    """Open the store and return the parts, ready to serve once their starters have run.

    Raises:
        StoreError: the store cannot be opened.
        OptionsError: an option cannot be taken.
        TrustError: a key or certificate cannot be used.
    """
    options.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = _store_of(options)
    await store.open()
    types = builtin_types().copy()
    catalog = Catalog(builtin_resources(types, STRATEGIES))
    plane = Plane(options, store, types, catalog, Registry(store, types, FieldSets(types)))
    install(plane)
    return plane


def _store_of(options: Options) -> Store:
    if not options.etcd_servers:
        return LocalStore(SqliteLog(options.data_dir / "store.db"), keep=options.keep)
    servers = EtcdServers(
        options.etcd_servers, options.etcd_cafile, options.etcd_certfile, options.etcd_keyfile
    )
    return EtcdStore(
        servers,
        options.etcd_prefix,
        codec.restamp,
        compaction=options.etcd_compaction,
        keep=options.keep,
    )


def install(plane: Plane) -> None:
    """Hook in every part; the order is that of the checks of a write and of the middlewares."""
    operation.install(plane)
    auth.install(plane)
    admission.install(plane)
    builtin.install(plane)
    auth.install_defaults(plane)
    customresources.install(plane, openapi.install(plane))
    proxying.install(plane)
    pods.install(plane)
    services.install(plane)
    scaling.install(plane)
    aggregation.install(plane)
