"""Endpoints with the same ports into slices: few slices, and fewer writes (pure).

Slices that must change anyway are filled first, the fullest of them first; what is left goes into
the one slice that it fits best, or into new ones. Nothing is moved only to have fewer slices.
Source: Kubernetes 1.36, ``k8s.io/endpointslice``; KEP-752, "Packing".
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

from controlplane.engine.resources import Object

from .endpoints import Endpoint, identity, is_same

Endpoints = dict[tuple[object, ...], Endpoint]
"""Endpoints by their identity."""


@dataclass(slots=True)
class Changes:
    """Slices that are to be made, replaced and deleted."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)

    def add(self, other: Changes) -> None:
        """Take the changes of another one, too."""
        self.create += other.create
        self.update += other.update
        self.delete += other.delete


def pack(
    existing: list[Object],
    wanted: Endpoints,
    limit: int,
    empty: Callable[[], Object],
    labels: Callable[[Object], tuple[dict[str, str], bool]],
) -> Changes:
    """Return what is to be done so that the slices hold ``wanted``, each once.

    Args:
        existing: slices with the same ports; they are not changed.
        limit: endpoints of a slice.
        empty: makes a new slice, without endpoints.
        labels: returns the labels that a slice shall have, and whether that makes a write.
    """
    left = dict(wanted)
    changes = Changes()
    unchanged: list[Object] = []
    for one in existing:
        kept, differs = _kept(one, left)
        wished, relabel = labels(one)
        if differs and not kept:
            changes.delete.append(one)
        elif differs or relabel:
            changed = _with(one, kept if differs else list(one.get("endpoints") or ()))
            changed["metadata"]["labels"] = wished
            changes.update.append(changed)
        else:
            unchanged.append(one)
    for one in sorted(changes.update, key=lambda each: -len(each["endpoints"])):
        _fill(one, left, limit)
    while left:
        best = _best(unchanged, len(left), limit) if len(left) < limit else None
        if best is None:
            made = empty()
            changes.create.append(made)
        else:
            unchanged.remove(best)
            made = _with(best, list(best.get("endpoints") or ()))
            changes.update.append(made)
        _fill(made, left, limit)
    return changes


def _kept(existing: Object, left: Endpoints) -> tuple[list[Endpoint], bool]:
    """Take the endpoints of a slice out of those that are left; return them as they shall be.

    Returns:
        The endpoints, and whether that differs from what the slice has.
    """
    kept: list[Endpoint] = []
    differs = False
    there = existing.get("endpoints") or []
    for endpoint in there:
        want = left.pop(identity(endpoint), None)
        if want is not None:
            kept.append(want)
            differs = differs or not is_same(want, endpoint)
    return kept, differs or len(kept) != len(there)


def _fill(one: Object, left: Endpoints, limit: int) -> None:
    endpoints = one["endpoints"]
    while left and len(endpoints) < limit:
        endpoints.append(left.pop(next(iter(left))))


def _best(unchanged: list[Object], count: int, limit: int) -> Object | None:
    """Return the slice that will be closest to full with ``count`` more; None: none has room."""
    best, room = None, limit
    for one in unchanged:
        rest = limit - count - len(one.get("endpoints") or ())
        if 0 <= rest < room:
            best, room = one, rest
    return best


def _with(existing: Object, endpoints: list[Endpoint]) -> Object:
    """Return a copy of a slice with other endpoints."""
    return {
        **existing,
        "metadata": copy.deepcopy(existing["metadata"]),
        "endpoints": [dict(one) for one in endpoints],
    }
