"""What a configuration makes of the plugins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from .events import Hints
from .hinting import SCHEDULING_GATES
from .placing import Profile
from .plugins.base import Plugin
from .plugins.places import (
    ImageLocality,
    NodeAffinity,
    NodeName,
    NodePorts,
    NodeUnschedulable,
    TaintToleration,
)  # fmt: skip
from .plugins.resources import NodeResourcesBalancedAllocation, NodeResourcesFit

FILTERS: Final[Sequence[Callable[[], Plugin]]] = (
    NodeUnschedulable, NodeName, TaintToleration, NodeAffinity, NodePorts, NodeResourcesFit,
)  # fmt: skip


def default_profile(name: str) -> Profile:
    """Return the profile of a scheduler that nothing is configured of."""
    made: dict[str, Plugin] = {}
    for make in (*FILTERS, NodeResourcesBalancedAllocation, ImageLocality):
        plugin = make()
        made[plugin.name] = plugin
    filters = tuple(one for one in made.values() if type(one).prepare is not Plugin.prepare)
    weights = {"TaintToleration": 3, "NodeAffinity": 2}
    scores = tuple(
        (one, weights.get(one.name, 1)) for one in made.values()
        if type(one).score is not Plugin.score
    )  # fmt: skip
    return Profile(name, filters, scores)


def hints_of(profiles: Mapping[str, Profile]) -> dict[str, Hints]:
    """Return the hints of all plugins by name."""
    found: dict[str, Any] = {"SchedulingGates": SCHEDULING_GATES}
    for profile in profiles.values():
        found.update({plugin.name: plugin.hints for plugin in profile.filters})
    return found
