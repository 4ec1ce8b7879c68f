from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.root.runtime.shim.pod import Pod


@pytest_asyncio.fixture
async def pod(tmp_path: Path) -> AsyncIterator[Pod]:
    made = await Pod.create(tmp_path)
    yield made
    await made.destroy()
