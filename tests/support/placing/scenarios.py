"""Situations in which a pod is placed, for comparing schedulers: objects, and the pod.

Each is such that one outcome is right: one node, or no node for the same reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .by_neighbours import priorities, spreading
from .by_node import others, places, resources
from .by_storage import storage
from .objects import Scenario

GROUPS: tuple[Callable[[], Iterator[tuple[str, Scenario]]], ...] = (
    resources, places, others, spreading, storage, priorities,
)  # fmt: skip


def scenarios() -> dict[str, Scenario]:
    """Return all, by name."""
    return {name: one for group in GROUPS for name, one in group()}
