"""Tables, as ``kubectl get`` prints them (pure)."""

from __future__ import annotations

from typing import Any

from controlplane.api.resource import AGE, Column, Object, Resource, Strategy
from controlplane.kinds.cells import age_of, duration

__all__ = ["age_of", "columns_of", "duration", "make_table"]

_NAME = Column("Name", "string", "name", 0, "Name of the object, unique in its namespace.")


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
    columns = columns_of(resource.strategy)
    age = columns.index(AGE) if AGE in columns else None
    named = _NAME in columns
    rows = [_row(resource.strategy, value, include, named, age) for value in values]
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


def columns_of(strategy: Strategy) -> tuple[Column, ...]:
    """Return all columns of a kind's table."""
    columns = strategy.columns
    if any(column.name == "Name" for column in columns):
        return columns
    if AGE not in columns:
        wide = next((n for n, column in enumerate(columns) if column.priority), len(columns))
        columns = (*columns[:wide], AGE, *columns[wide:])
    return (_NAME, *columns)


def _row(
    strategy: Strategy, value: Object, include: str, named: bool, age: int | None
) -> dict[str, Any]:
    meta = value["metadata"]
    cells = [meta.get("name", "")] if named else []
    cells += strategy.row(value)
    if age is not None:
        cells.insert(age, age_of(meta.get("creationTimestamp", "")))
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
