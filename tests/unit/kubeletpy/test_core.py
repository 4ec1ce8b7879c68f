"""Parts of the kubelet that break are started again."""

from __future__ import annotations

import asyncio
import logging

import pytest

from kubeletpy import core
from kubeletpy_common.apiclient.errors import ApiError


@pytest.mark.parametrize(
    ("error", "level", "message"),
    [
        (ApiError(0, "Unreachable", "no answer"), logging.WARNING, "the API server failed a part"),
        (ApiError(503, "Overload", "later"), logging.WARNING, "the API server failed a part"),
        (ApiError(403, "Forbidden", "no"), logging.ERROR, "a part of the kubelet broke"),
        (LookupError("a defect"), logging.ERROR, "a part of the kubelet broke"),
    ],
)
async def test_what_breaks_is_told_and_started_again(
    error: Exception,
    level: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(core, "FIRST_PAUSE", 0.001)
    calls = 0

    async def work() -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise error

    with caplog.at_level(logging.WARNING, logger="kubeletpy.core"):
        async with asyncio.timeout(30):
            await core.keep_running("a part", work)
    assert calls == 3
    told = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert [one for one, _ in told] == [level, level]
    assert all(text.startswith(message) for _, text in told)
