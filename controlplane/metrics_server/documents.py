"""Shapes that the three APIs share (pure)."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from controlplane.kinds.quantity import canonical

_MOST: Final = 2**63 - 1
_KIB: Final = 1024


class Missing(Exception):
    """There is nothing to tell; the text says of what."""


def stamp(at: float) -> str:
    """Return seconds since the epoch as objects tell the time."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(seconds: float) -> str:
    """Return seconds as Go writes a duration, to the millisecond: ``15.012s``, ``1m0.5s``."""
    whole = round(seconds, 3)
    minutes, rest = divmod(whole, 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".")
    if not minutes:
        return f"{text}s"
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}h{minutes}m{text}s" if hours else f"{minutes}m{text}s"


def cores(nano: int) -> str:
    """Return billionths of a core as metrics-server does."""
    return f"{nano}n" if nano else "0"


def memory(size: int) -> str:
    """Return bytes as metrics-server does: in KiB where that loses nothing."""
    if size and size % _KIB == 0:
        return f"{size // _KIB}Ki"
    return str(size)


def number(value: float) -> str:
    """Return a number as a quantity, to the thousandth; thousandths beyond 64 bits are capped."""
    milli = math.ceil(Decimal(repr(float(value))) * 1000)
    return canonical(f"{max(min(milli, _MOST), -_MOST)}m")


def listed(kind: str, api_version: str, items: list[Any]) -> dict[str, Any]:
    """Return a list."""
    return {"kind": kind, "apiVersion": api_version, "metadata": {}, "items": items}


def resource_list(group_version: str, resources: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what discovery tells of a version."""
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
            "resources": resources}  # fmt: skip


def table(columns: list[tuple[str, str]], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a table as ``kubectl get`` prints it.

    Args:
        columns: name and format of each.
        rows: as in a Table.
    """
    heads = [{"name": name, "type": "string", "format": form, "description": "", "priority": 0}
             for name, form in columns]  # fmt: skip
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {},
            "columnDefinitions": heads, "rows": rows}  # fmt: skip
