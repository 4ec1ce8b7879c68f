"""Points in time as Kubernetes writes them (RFC 3339)."""

from __future__ import annotations

from datetime import datetime


def seconds_of(text: str) -> float | None:
    """Return seconds since the epoch, None if the text is no such time."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.timestamp() if found.tzinfo is not None else None
