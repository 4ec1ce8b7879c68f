"""Tables, as ``kubectl get`` prints them (pure)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from controlplane.api.resource import Column, Object, Resource

_NAME = Column("Name", "string", "name", 0, "Name of the object, unique in its namespace.")
_AGE = Column("Age", "string", "", 0, "How long ago it was made.")


def make_table(
    resource: Resource, values: list[Object], meta: Object, include: str
) -> dict[str, Any]:
    """Return a meta/v1 Table.

    Args:
        resource: kind of the objects.
        values: the objects.
        meta: of the list; of the first object if there is none.
        include: ``Object``, ``Metadata`` or ``None``: what each row carries of its object.
    """
    columns = (_NAME, *resource.strategy.columns, _AGE)
    rows = [_row(resource, value, include) for value in values]
    if not meta and values:
        meta = {"resourceVersion": values[0]["metadata"].get("resourceVersion", "")}
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": [
            {
                "name": column.name,
                "type": column.type,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            }
            for column in columns
        ],
        "rows": rows,
    }


def _row(resource: Resource, value: Object, include: str) -> dict[str, Any]:
    meta = value["metadata"]
    cells = [
        meta.get("name", ""),
        *resource.strategy.row(value),
        age_of(meta.get("creationTimestamp", "")),
    ]
    row: dict[str, Any] = {"cells": cells}
    if include == "Object":
        row["object"] = value
    elif include != "None":
        row["object"] = {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": meta,
        }
    return row


def age_of(moment: str) -> str:
    """Return the time since ``moment`` as kubectl writes it: ``5s``, ``3m20s``, ``2d``."""
    try:
        then = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    except ValueError:
        return "<unknown>"
    return duration((datetime.now(UTC) - then).total_seconds())


def duration(seconds: float) -> str:
    """Return a duration in the two largest units that matter (apimachinery, HumanDuration)."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    total = max(total, 0)
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if total < 120:
        return f"{total}s"
    if minutes < 10:
        return _two(minutes, "m", total % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    if days < 365 * 8:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(first: int, unit: str, second: int, smaller: str) -> str:
    return f"{first}{unit}{second}{smaller}" if second else f"{first}{unit}"
