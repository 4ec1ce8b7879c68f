"""What the tests of the registry client share."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiohttp import web

from runtime.images.registry import Document, Repository
from runtime.images.settings import Credentials, RegistryConfig
from runtime.images.transport import Transport
from tests.support.scripted_registry import ScriptedRegistry

QUICK = RegistryConfig(
    attempts=3, backoff_seconds=0.001, max_backoff_seconds=0.01, stall_seconds=10
)
HASTY = replace(QUICK, stall_seconds=0.3)
"""For registries that hang; others have more time, on a machine that is busy."""
SECRET = Credentials(username="user", password="s3cret")
BASIC = "Basic " + base64.b64encode(b"user:s3cret").decode()
BLOB = bytes(range(256)) * 20_000
"""5 MB: several chunks."""


Fetch = Callable[..., Awaitable[bytes]]


async def manifest(
    transport: Transport,
    registry: ScriptedRegistry,
    credentials: Credentials | None = None,
    reference: str = "v1",
) -> Document:
    return await Repository(transport, registry.host, "app", credentials).manifest(reference)


def challenge(text: str) -> web.Response:
    return web.Response(status=401, headers={"WWW-Authenticate": text})
