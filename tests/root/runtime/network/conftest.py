from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from runtime.network.bridge import BridgeNetwork, NetworkConfig
from tests.root.runtime.network.world import World, world


@pytest.fixture
def node(tmp_path: Path) -> Iterator[World]:
    """A node, in whose network namespace the test runs."""
    with world(tmp_path) as made:
        yield made


@pytest.fixture
async def network(node: World) -> AsyncIterator[BridgeNetwork]:
    """The default network on that node."""
    made = BridgeNetwork(NetworkConfig(), node.database)
    yield made
    await made.close()
