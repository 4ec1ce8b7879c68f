"""A registry whose answers a test writes, and a client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.images.content import ContentStore
from runtime.images.download import Download
from runtime.images.manifest import Descriptor
from runtime.images.registry import Repository
from runtime.images.settings import Credentials, RegistryConfig
from runtime.images.transport import Transport
from tests.support.ociimage import OciImage, build_image, digest_of
from tests.support.scripted_registry import ScriptedRegistry
from tests.unit.runtime.images.registries import (
    BLOB,
    QUICK,
    Fetch,
)


@pytest.fixture
async def registry() -> AsyncIterator[ScriptedRegistry]:
    async with ScriptedRegistry() as found:
        yield found


@pytest.fixture
async def other() -> AsyncIterator[ScriptedRegistry]:
    async with ScriptedRegistry() as found:
        yield found


@pytest.fixture
def registry_config() -> RegistryConfig:
    return QUICK


@pytest.fixture
async def transport(registry_config: RegistryConfig) -> AsyncIterator[Transport]:
    found = Transport(registry_config)
    yield found
    await found.close()


@pytest.fixture
def content(tmp_path: Path) -> ContentStore:
    store = ContentStore(tmp_path / "content")
    store.open()
    return store


@pytest.fixture
def image(registry: ScriptedRegistry) -> OciImage:
    built = build_image({"a": b"text"})
    registry.add(built, "app", "v1")
    return built


@pytest.fixture
def fetch(registry: ScriptedRegistry, transport: Transport, content: ContentStore) -> Fetch:
    """Download BLOB as the service does, and return what the store then has."""

    async def run(
        credentials: Credentials | None = None, urls: tuple[str, ...] = (), size: int = len(BLOB)
    ) -> bytes:
        blob = Descriptor("", digest_of(BLOB), size, urls)
        repository = Repository(transport, registry.host, "app", credentials)
        ingest = content.ingest(blob.digest, blob.size)
        with ThreadPoolExecutor(1) as executor:
            try:
                await Download(repository, blob, ingest, executor, lambda done: None).run()
                content.commit(ingest)
            finally:
                ingest.close()
        return content.path(blob.digest).read_bytes()

    return run
