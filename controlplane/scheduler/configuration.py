"""KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1) of Kubernetes 1.36.

https://kubernetes.io/docs/reference/config-api/kube-scheduler-config.v1/

Files of the Go kube-scheduler are read as they are; what does not exist is refused, and so is what
this scheduler does not have (extenders, plugins from elsewhere).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from kubeletpy_common.settings.documents import decode_as, read_document, without_nulls
from kubeletpy_common.settings.durations import ConfigurationError, Duration

from .pods import DEFAULT_SCHEDULER

API_VERSION: Final = "kubescheduler.config.k8s.io/v1"
KIND: Final = "KubeSchedulerConfiguration"
Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Percentage = Annotated[int, msgspec.Meta(ge=0, le=100)]
Weight = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class _Struct(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Base: snake_case here, camelCase in files, what does not exist is refused."""


class _Args(_Struct):
    """Arguments of a plugin; they say their kind."""

    kind: str = ""
    api_version: str = API_VERSION


class LeaderElection(_Struct):
    """Of several schedulers one works."""

    leader_elect: bool = True
    lease_duration: Duration = Duration(15)
    renew_deadline: Duration = Duration(10)
    retry_period: Duration = Duration(2)
    resource_lock: str = "leases"
    resource_namespace: str = "kube-system"
    resource_name: str = "kube-scheduler"


class ClientConnection(_Struct):
    """How the API server is spoken to; ``qps`` 0: as fast as it answers."""

    kubeconfig: str = ""
    accept_content_types: str = ""
    content_type: str = ""
    qps: float = 0.0
    burst: Int32 = 100


class Named(_Struct):
    """A plugin, and its weight in scores."""

    name: str
    weight: Weight = 0


class PluginSet(_Struct):
    """Plugins at one point; ``*`` among the disabled is all of the defaults."""

    enabled: list[Named] = []
    disabled: list[Named] = []


class Plugins(_Struct):
    """Plugins by the points of an attempt."""

    pre_enqueue: PluginSet = msgspec.field(default_factory=PluginSet)
    queue_sort: PluginSet = msgspec.field(default_factory=PluginSet)
    pre_filter: PluginSet = msgspec.field(default_factory=PluginSet)
    filter: PluginSet = msgspec.field(default_factory=PluginSet)
    post_filter: PluginSet = msgspec.field(default_factory=PluginSet)
    pre_score: PluginSet = msgspec.field(default_factory=PluginSet)
    score: PluginSet = msgspec.field(default_factory=PluginSet)
    reserve: PluginSet = msgspec.field(default_factory=PluginSet)
    permit: PluginSet = msgspec.field(default_factory=PluginSet)
    pre_bind: PluginSet = msgspec.field(default_factory=PluginSet)
    bind: PluginSet = msgspec.field(default_factory=PluginSet)
    post_bind: PluginSet = msgspec.field(default_factory=PluginSet)
    multi_point: PluginSet = msgspec.field(default_factory=PluginSet)
    placement_generate: PluginSet = msgspec.field(default_factory=PluginSet)
    placement_score: PluginSet = msgspec.field(default_factory=PluginSet)


class PluginConfig(_Struct):
    """Arguments of a plugin, see `ARGUMENTS`."""

    name: str
    args: dict[str, Any] = {}


class ProfileSettings(_Struct):
    """How pods with one ``schedulerName`` are placed."""

    scheduler_name: str = ""
    percentage_of_nodes_to_score: Percentage | None = None
    plugins: Plugins = msgspec.field(default_factory=Plugins)
    plugin_config: list[PluginConfig] = []


class ResourceSpec(_Struct):
    """A resource, and its weight among others."""

    name: str
    weight: Annotated[int, msgspec.Meta(ge=0, le=100)] = 1


class ShapePoint(_Struct):
    """A point of a curve: per cent in use, score from 0 to 10."""

    utilization: Percentage
    score: Annotated[int, msgspec.Meta(ge=0, le=10)]


class RatioShape(_Struct):
    """The curve of ``RequestedToCapacityRatio``."""

    shape: list[ShapePoint] = []


class ScoringStrategy(_Struct):
    """How nodes are scored by their resources."""

    type: str = "LeastAllocated"
    resources: list[ResourceSpec] = []
    requested_to_capacity_ratio: RatioShape = msgspec.field(default_factory=RatioShape)


class NodeResourcesFitArgs(_Args):
    """Of NodeResourcesFit."""

    ignored_resources: list[str] = []
    ignored_resource_groups: list[str] = []
    scoring_strategy: ScoringStrategy = msgspec.field(default_factory=ScoringStrategy)


class BalancedAllocationArgs(_Args):
    """Of NodeResourcesBalancedAllocation."""

    resources: list[ResourceSpec] = []


class InterPodAffinityArgs(_Args):
    """Of InterPodAffinity."""

    hard_pod_affinity_weight: Percentage = 1
    ignore_preferred_terms_of_existing_pods: bool = False


class NodeAffinityArgs(_Args):
    """Of NodeAffinity."""

    added_affinity: dict[str, Any] = {}


class PodTopologySpreadArgs(_Args):
    """Of PodTopologySpread."""

    default_constraints: list[dict[str, Any]] = []
    defaulting_type: str = "System"


class DefaultPreemptionArgs(_Args):
    """Of DefaultPreemption."""

    min_candidate_nodes_percentage: Percentage = 10
    min_candidate_nodes_absolute: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 100


class VolumeBindingArgs(_Args):
    """Of VolumeBinding; its shape is for a score that 1.36 does not have by default."""

    bind_timeout_seconds: Annotated[int, msgspec.Meta(ge=0)] = 600
    shape: list[ShapePoint] = []


class DynamicResourcesArgs(_Args):
    """Of DynamicResources, which this scheduler does not have."""

    filter_timeout: Duration = Duration(10)
    binding_timeout: Duration = Duration(600)


ARGUMENTS: Final[dict[str, type[_Args]]] = {
    "DefaultPreemption": DefaultPreemptionArgs,
    "DynamicResources": DynamicResourcesArgs,
    "InterPodAffinity": InterPodAffinityArgs,
    "NodeAffinity": NodeAffinityArgs,
    "NodeResourcesBalancedAllocation": BalancedAllocationArgs,
    "NodeResourcesFit": NodeResourcesFitArgs,
    "PodTopologySpread": PodTopologySpreadArgs,
    "VolumeBinding": VolumeBindingArgs,
}
"""Plugins that have arguments."""


class Configuration(_Struct):
    """All fields; see the reference for what each means. ``parallelism`` has no effect."""

    parallelism: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] = 16
    leader_election: LeaderElection = msgspec.field(default_factory=LeaderElection)
    client_connection: ClientConnection = msgspec.field(default_factory=ClientConnection)
    enable_profiling: bool = True
    enable_contention_profiling: bool = True
    percentage_of_nodes_to_score: Percentage = 0
    pod_initial_backoff_seconds: Annotated[int, msgspec.Meta(ge=1)] = 1
    pod_max_backoff_seconds: Annotated[int, msgspec.Meta(ge=1)] = 10
    profiles: list[ProfileSettings] = []
    extenders: list[dict[str, Any]] = []
    delay_cache_until_active: bool = False


def read(path: Path) -> Configuration:
    """Return the configuration in a file.

    Raises:
        ConfigurationError: it cannot be read, or is wrong.
    """
    return decode(read_document("--config", path, KIND, API_VERSION))


def decode(document: dict[str, Any]) -> Configuration:
    """Return the configuration of a document (kind and apiVersion taken off).

    Raises:
        ConfigurationError: it is wrong, and where.
    """
    one = decode_as(without_nulls(document), Configuration, KIND)
    complete(one)
    wrong = list(problems(one))
    if wrong:
        raise ConfigurationError("; ".join(wrong))
    return one


def complete(one: Configuration) -> Configuration:
    """Set what is empty."""
    if not one.profiles:
        one.profiles = [ProfileSettings()]
    if len(one.profiles) == 1 and not one.profiles[0].scheduler_name:
        one.profiles[0].scheduler_name = DEFAULT_SCHEDULER
    return one


def problems(one: Configuration) -> Iterator[str]:
    """Yield what is wrong."""
    if one.pod_max_backoff_seconds < one.pod_initial_backoff_seconds:
        yield ("podMaxBackoffSeconds: must be greater than or equal to podInitialBackoffSeconds, "
               f"{one.pod_max_backoff_seconds} is not")  # fmt: skip
    if one.extenders:
        yield "extenders: this scheduler has none; leave them out, or run kube-scheduler"
    if one.leader_election.resource_lock not in ("", "leases"):
        yield f"leaderElection.resourceLock: {one.leader_election.resource_lock!r} must be leases"
    names: set[str] = set()
    for index, profile in enumerate(one.profiles):
        path = f"profiles[{index}]"
        if not profile.scheduler_name:
            yield f"{path}.schedulerName: must be there"
        if profile.scheduler_name in names:
            yield f"{path}.schedulerName: {profile.scheduler_name!r} is there twice"
        names.add(profile.scheduler_name)
        for number, each in enumerate(profile.plugin_config):
            yield from _argument_problems(f"{path}.pluginConfig[{number}]", each, profile)


def _argument_problems(path: str, one: PluginConfig, profile: ProfileSettings) -> Iterator[str]:
    if one.name not in ARGUMENTS:
        yield f"{path}.name: {one.name!r} has no arguments; {', '.join(ARGUMENTS)} have"
        return
    if sum(other.name == one.name for other in profile.plugin_config) > 1:
        yield f"{path}.name: {one.name!r} is there twice"
    try:
        arguments = args_of(profile, one.name)
    except ConfigurationError as error:
        yield f"{path}.args: {error}"
        return
    if arguments.kind not in ("", f"{one.name}Args"):
        yield f"{path}.args.kind: {arguments.kind!r} must be {one.name}Args"
    if isinstance(arguments, PodTopologySpreadArgs):
        if arguments.defaulting_type not in ("System", "List"):
            yield f"{path}.args.defaultingType: must be System or List"
        if arguments.defaulting_type == "System" and arguments.default_constraints:
            yield f"{path}.args.defaultConstraints: needs defaultingType List"
    if isinstance(arguments, NodeResourcesFitArgs):
        kinds = ("LeastAllocated", "MostAllocated", "RequestedToCapacityRatio")
        strategy = arguments.scoring_strategy
        if strategy.type not in kinds:
            yield f"{path}.args.scoringStrategy.type: must be of {', '.join(kinds)}"
        points = [point.utilization for point in strategy.requested_to_capacity_ratio.shape]
        if strategy.type == kinds[2] and (not points or points != sorted(set(points))):
            yield f"{path}.args.scoringStrategy: {kinds[2]} needs a shape of rising points"


def args_of(profile: ProfileSettings, name: str) -> _Args:
    """Return the arguments of a plugin, with defaults for what is not there.

    Raises:
        ConfigurationError: a field does not exist, or is of another type.
    """
    given = next((one.args for one in profile.plugin_config if one.name == name), {})
    return decode_as(without_nulls(given), ARGUMENTS[name], f"{name}Args")
