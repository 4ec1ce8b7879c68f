"""What a configuration makes of the plugins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from kubeletpy_common.settings.durations import ConfigurationError

from . import configuration as config
from .configuration import Configuration, Named, PluginSet, ProfileSettings
from .events import Hints
from .hinting import SCHEDULING_GATES
from .placing import Profile
from .plugins.base import Plugin
from .plugins.devices import DynamicResources
from .plugins.near import InterPodAffinity
from .plugins.places import (
    ImageLocality,
    NodeAffinity,
    NodeName,
    NodePorts,
    NodeUnschedulable,
    TaintToleration,
)
from .plugins.resources import (
    DEFAULT_WEIGHTS,
    NodeResourcesBalancedAllocation,
    NodeResourcesFit,
)
from .plugins.spread import SYSTEM_DEFAULTS, PodTopologySpread, Select
from .plugins.volumes import (
    NodeVolumeLimits,
    VolumeBinding,
    VolumeRestrictions,
    VolumeZone,
)
from .storage import Storage

DEFAULTS: Final[Sequence[tuple[str, int]]] = (
    ("SchedulingGates", 0), ("PrioritySort", 0), ("NodeUnschedulable", 0), ("NodeName", 0),
    ("TaintToleration", 3), ("NodeAffinity", 2), ("NodePorts", 0), ("NodeResourcesFit", 1),
    ("VolumeRestrictions", 0), ("NodeVolumeLimits", 0), ("VolumeBinding", 0), ("VolumeZone", 0),
    ("PodTopologySpread", 2), ("InterPodAffinity", 2), ("DynamicResources", 2),
    ("DefaultPreemption", 0), ("NodeResourcesBalancedAllocation", 1), ("ImageLocality", 1),
    ("DefaultBinder", 0), ("NodeDeclaredFeatures", 0),
)  # fmt: skip
"""Plugins in their order, with weights, as the Go peer has them by default."""
NAMES: Final = frozenset(name for name, _ in DEFAULTS)
_NEEDED: Final = ("PrioritySort", "DefaultBinder")


@dataclass(frozen=True, slots=True)
class Means:
    """What plugins need besides their arguments.

    Attributes:
        storage: claims, volumes and all the rest.
        select: what selects the pods that belong together with one.
    """

    storage: Storage
    select: Select


def profiles_of(one: Configuration, means: Means) -> dict[str, Profile]:
    """Return the profiles of a configuration by the name of the scheduler.

    Raises:
        ConfigurationError: it names a plugin that is not there, or leaves out one that must be.
    """
    return {
        each.scheduler_name: _profile(each, means, f"profiles[{index}].plugins")
        for index, each in enumerate(one.profiles)
    }


def check(one: Configuration) -> None:
    """Look whether the plugins of a configuration are there.

    Raises:
        ConfigurationError: one is not.
    """
    for index, each in enumerate(one.profiles):
        path = f"profiles[{index}].plugins"
        _checked(each, path)


def _checked(settings: ProfileSettings, path: str) -> None:
    for point in settings.plugins.__struct_fields__:
        chosen: PluginSet = getattr(settings.plugins, point)
        for named in (*chosen.enabled, *chosen.disabled):
            if named.name not in NAMES and not (named.name == "*" and named in chosen.disabled):
                there = ", ".join(sorted(NAMES))
                raise ConfigurationError(
                    f"{path}: there is no plugin {named.name!r}; there are {there}"
                )
    for point, name in (("queue_sort", _NEEDED[0]), ("bind", _NEEDED[1])):
        if name not in dict(_at(settings, point)):
            raise ConfigurationError(f"{path}: {name} is the only one of its kind and must be on")


def _at(settings: ProfileSettings, point: str) -> list[tuple[str, int]]:
    """Return the plugins at a point with the weights that are given there; see `_merged`."""
    multi = _merged(list(DEFAULTS), settings.plugins.multi_point)
    return multi if point == "multi_point" else _merged(multi, getattr(settings.plugins, point))


def _merged(defaults: list[tuple[str, int]], chosen: PluginSet) -> list[tuple[str, int]]:
    """Return plugins with what is enabled and disabled; what is set anew keeps its place."""
    off = {one.name for one in chosen.disabled}
    given: dict[str, Named] = {one.name: one for one in chosen.enabled}
    kept = [] if "*" in off else [one for one in defaults if one[0] not in off]
    made = [(name, given[name].weight if name in given else weight) for name, weight in kept]
    names = dict(made)
    return made + [(one.name, one.weight) for one in chosen.enabled if one.name not in names]


_A = TypeVar("_A")


def _profile(settings: ProfileSettings, means: Means, path: str) -> Profile:
    _checked(settings, path)
    made = {name: make() for name, make in _makes(settings, means).items()}

    def having(method: str, point: str) -> list[tuple[Plugin, int]]:
        return [
            (made[name], weight) for name, weight in _at(settings, point)
            if name in made and getattr(type(made[name]), method) is not getattr(Plugin, method)
        ]  # fmt: skip

    preemption = _args(settings, "DefaultPreemption", config.DefaultPreemptionArgs)
    return Profile(
        settings.scheduler_name,
        tuple(plugin for plugin, _ in having("prepare", "filter")),
        tuple((plugin, weight or 1) for plugin, weight in having("score", "score")),
        settings.percentage_of_nodes_to_score,
        "DefaultPreemption" in dict(_at(settings, "post_filter")),
        (preemption.min_candidate_nodes_percentage, preemption.min_candidate_nodes_absolute),
        DynamicResources.name in dict(_at(settings, "post_filter")),
    )


def _args(settings: ProfileSettings, name: str, kind: type[_A]) -> _A:
    found = config.args_of(settings, name)
    assert isinstance(found, kind)
    return found


def _weights(resources: list[config.ResourceSpec]) -> Mapping[str, int]:
    return {one.name: one.weight or 1 for one in resources} or DEFAULT_WEIGHTS


def _makes(settings: ProfileSettings, means: Means) -> dict[str, Callable[[], Plugin]]:
    storage = means.storage

    def fit() -> Plugin:
        one = _args(settings, "NodeResourcesFit", config.NodeResourcesFitArgs)
        strategy = one.scoring_strategy
        # Scores of the curve go to 10, those of nodes to 100.
        shape = [
            (point.utilization, point.score * 10)
            for point in strategy.requested_to_capacity_ratio.shape
        ]
        return NodeResourcesFit(
            strategy.type, _weights(strategy.resources), shape, one.ignored_resources,
            one.ignored_resource_groups,
        )  # fmt: skip

    def balanced() -> Plugin:
        name = NodeResourcesBalancedAllocation.name
        one = _args(settings, name, config.BalancedAllocationArgs)
        return NodeResourcesBalancedAllocation(_weights(one.resources))

    def near() -> Plugin:
        one = _args(settings, "InterPodAffinity", config.InterPodAffinityArgs)
        ignored = one.ignore_preferred_terms_of_existing_pods
        return InterPodAffinity(one.hard_pod_affinity_weight, ignore_preferred=ignored)

    def spread() -> Plugin:
        one = _args(settings, "PodTopologySpread", config.PodTopologySpreadArgs)
        system = one.defaulting_type == "System"
        defaults = SYSTEM_DEFAULTS if system else one.default_constraints
        return PodTopologySpread(defaults, system=system, select=means.select)

    def affinity() -> Plugin:
        one = _args(settings, "NodeAffinity", config.NodeAffinityArgs)
        return NodeAffinity(one.added_affinity)

    return {
        "NodeUnschedulable": NodeUnschedulable,
        "NodeName": NodeName,
        "TaintToleration": TaintToleration,
        "NodeAffinity": affinity,
        "NodePorts": NodePorts,
        "NodeResourcesFit": fit,
        "VolumeRestrictions": lambda: VolumeRestrictions(storage),
        "NodeVolumeLimits": lambda: NodeVolumeLimits(storage),
        "VolumeBinding": lambda: VolumeBinding(storage),
        "VolumeZone": lambda: VolumeZone(storage),
        "PodTopologySpread": spread,
        "InterPodAffinity": near,
        "DynamicResources": DynamicResources,
        "NodeResourcesBalancedAllocation": balanced,
        "ImageLocality": ImageLocality,
    }


def hints_of(profiles: Mapping[str, Profile]) -> dict[str, Hints]:
    """Return the hints of all plugins by name."""
    found: dict[str, Any] = {"SchedulingGates": SCHEDULING_GATES}
    for profile in profiles.values():
        found.update({plugin.name: plugin.hints for plugin in profile.filters})
    return found
