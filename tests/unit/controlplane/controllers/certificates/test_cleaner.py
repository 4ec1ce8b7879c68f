"""When a request for a certificate is deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane.controllers.certificates.cleaner import due

MADE = datetime(2026, 1, 1, tzinfo=UTC)
LATER = "2026-01-01T10:00:00Z"


def request(*kinds: str, **status: Any) -> dict[str, Any]:
    conditions = [{"type": kind, "lastUpdateTime": LATER} for kind in kinds]
    return {"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"conditions": conditions, **status}}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "hours"),
    [
        (request(), 24),
        (request("Denied"), 11),
        (request("Failed"), 11),
        (request("Approved"), 34),
        (request("Approved", "Failed"), 11),
        (request("Approved", certificate="bm90IHBlbQ=="), 11),
    ],
)
def test_when_a_request_is_of_no_use(value: dict[str, Any], hours: int) -> None:
    assert due(value) == MADE + timedelta(hours=hours)
