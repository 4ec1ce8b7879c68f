"""How the controllers inside the server follow the store, and write."""

from __future__ import annotations

from collections.abc import AsyncIterator

from controlplane.api import metadata
from controlplane.api.resource import Context
from controlplane.store.model import Change
from controlplane.store.store import Store


def context(name: str) -> Context:
    """Return a context for writes of the controller ``name``."""
    return Context(now=metadata.now(), manager=name)


async def follow(store: Store, prefix: str) -> AsyncIterator[Change]:
    """Tell everything below ``prefix``, as if it were made just now, and then every change.

    Raises:
        CompactedError: the follower fell too far behind; it has to begin anew.
    """
    watch = store.watch(prefix, store.revision)
    try:
        for item in store.read(prefix).items:
            yield Change(item.modified, item.key, item, None)
        async for change in watch:
            yield change
    finally:
        watch.close()
