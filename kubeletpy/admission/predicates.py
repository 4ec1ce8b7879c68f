"""What speaks against running a pod on this node (pure).

The checks and their words are those of the Go kubelet, which asks the scheduler's filters again:
a pod may have been bound by hand, or the node changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Quantity
from kubeletpy.api.scheduling import NodeSelectorRequirement, NodeSelectorTerm, Toleration
from kubeletpy.resources.totals import is_sidecar, pod_requests
from kubeletpy.sources.updates import from_api

_NATIVE = ("cpu", "memory", "ephemeral-storage")
_ANY_ADDRESS = ("", "0.0.0.0", "::")
OS, OS_LABEL = "linux", "kubernetes.io/os"


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint of the node."""

    key: str
    value: str = ""
    effect: str = ""


@dataclass(frozen=True)
class NodeView:
    """What admission has to know of the node.

    Attributes:
        allocatable: amounts by resource: milli-CPUs, bytes, or a number.
        supplemental_groups: whether the runtime can keep to supplementalGroupsPolicy Strict.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Taint] = ()
    allocatable: Mapping[str, int] = field(default_factory=dict)
    supplemental_groups: bool = True


@dataclass(frozen=True, slots=True)
class Insufficient:
    """There is not enough of a resource."""

    resource: str
    requested: int
    used: int
    capacity: int

    @property
    def missing(self) -> int:
        """How much has to become free."""
        return self.requested - (self.capacity - self.used)

    @property
    def reason(self) -> str:
        """One word for the status."""
        return f"OutOf{self.resource}"

    @property
    def message(self) -> str:
        """For people."""
        return (
            f"Node didn't have enough resource: {self.resource}, requested: {self.requested}, "
            f"used: {self.used}, capacity: {self.capacity}"
        )


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The node is the wrong one."""

    name: str
    why: str

    @property
    def reason(self) -> str:
        """One word for the status."""
        return self.name

    @property
    def message(self) -> str:
        """For people."""
        return f"Predicate {self.name} failed: {self.why}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pod is not admitted: reason (one word) and message."""

    reason: str
    message: str


Failure: TypeAlias = Insufficient | Mismatch


def refusal(pod: Pod, node: NodeView) -> Refusal | None:
    """Return why a pod can never run on this node, whatever else runs there."""
    label = pod.metadata.labels.get(OS_LABEL)
    if label is not None and label != OS:
        return Refusal(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        )
    if pod.spec.os is not None and pod.spec.os.name != OS:
        return Refusal(
            "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
        )
    context = pod.spec.security_context
    strict = context is not None and context.supplemental_groups_policy == "Strict"
    if strict and not node.supplemental_groups:
        return Refusal(
            "SupplementalGroupsPolicyNotSupported",
            "SupplementalGroupsPolicy=Strict is not supported in this node",
        )
    return None


def failures(pod: Pod, node: NodeView, others: Sequence[Pod]) -> list[Failure]:
    """Return what speaks against ``pod`` beside the ``others``, the weightiest first."""
    found: list[Failure] = list(_shortages(pod, node, others))
    if not _matches(pod, node):
        found.append(Mismatch("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"))
    if pod.spec.node_name and pod.spec.node_name != node.name:
        found.append(Mismatch("NodeName", "node(s) didn't match the requested node name"))
    if _ports_clash(pod, others):
        why = "node(s) didn't have free ports for the requested pod ports"
        found.append(Mismatch("NodePorts", why))
    if from_api(pod) and _untolerated(pod, node):
        why = "node(s) had taints that the pod didn't tolerate"
        found.append(Mismatch("TaintToleration", why))
    return found


def amount(name: str, quantity: Quantity) -> int:
    """Return a quantity as admission counts it: CPU in thousandths, all else in units."""
    return quantity.milli if name == "cpu" else int(quantity)


def requests(pod: Pod) -> dict[str, int]:
    """Return what a pod asks for, as admission counts it."""
    return {name: amount(name, value) for name, value in pod_requests(pod).items()}


def _shortages(pod: Pod, node: NodeView, others: Sequence[Pod]) -> Iterator[Insufficient]:
    has = node.allocatable
    if "pods" in has and len(others) + 1 > has["pods"]:
        yield Insufficient("pods", 1, len(others), has["pods"])
    wanted = {name: value for name, value in requests(pod).items() if value}
    if not wanted or not has:
        return
    used: dict[str, int] = {}
    for other in others:
        for name, value in requests(other).items():
            used[name] = used.get(name, 0) + value
    scalars = sorted(name for name in wanted if name not in _NATIVE)
    for name in (*_NATIVE, *scalars):
        # What a node does not have at all may be given by others: the cluster, claims.
        extended = "/" in name and name not in has
        requested, capacity = wanted.get(name, 0), has.get(name, 0)
        if requested and not extended and requested > capacity - used.get(name, 0):
            yield Insufficient(name, requested, used.get(name, 0), capacity)


def _matches(pod: Pod, node: NodeView) -> bool:
    if any(node.labels.get(key) != value for key, value in pod.spec.node_selector.items()):
        return False
    affinity = pod.spec.affinity
    wanted = affinity.node_affinity if affinity is not None else None
    required = (
        wanted.required_during_scheduling_ignored_during_execution if wanted is not None else None
    )
    if required is None:
        return True
    return any(_term_holds(term, node) for term in required.node_selector_terms)


def _term_holds(term: NodeSelectorTerm, node: NodeView) -> bool:
    if not (term.match_expressions or term.match_fields):
        return False
    fields = {"metadata.name": node.name}
    return all(_holds(one, node.labels) for one in term.match_expressions) and all(
        _holds(one, fields) for one in term.match_fields
    )


def _holds(requirement: NodeSelectorRequirement, values: Mapping[str, str]) -> bool:
    value = values.get(requirement.key)
    match requirement.operator:
        case "In":
            return value is not None and value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            try:
                left, right = int(value or ""), int(requirement.values[0])
            except (ValueError, IndexError):
                return False
            return left > right if requirement.operator == "Gt" else left < right
    return False


def _host_ports(pod: Pod) -> set[tuple[str, str, int]]:
    containers = (*pod.spec.containers, *filter(is_sidecar, pod.spec.init_containers))
    return {
        (port.host_ip, port.protocol or "TCP", port.host_port)
        for container in containers
        for port in container.ports
        if port.host_port > 0
    }


def _ports_clash(pod: Pod, others: Iterable[Pod]) -> bool:
    wanted = _host_ports(pod)
    if not wanted:
        return False
    taken = {port for other in others for port in _host_ports(other)}
    return any(_clash(one, other) for one in wanted for other in taken)


def _clash(one: tuple[str, str, int], other: tuple[str, str, int]) -> bool:
    same_place = one[0] == other[0] or one[0] in _ANY_ADDRESS or other[0] in _ANY_ADDRESS
    return same_place and one[1:] == other[1:]


def _untolerated(pod: Pod, node: NodeView) -> bool:
    return any(
        taint.effect == "NoExecute"
        and not any(_tolerates(one, taint) for one in pod.spec.tolerations)
        for taint in node.taints
    )


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return toleration.operator in ("", "Equal") and toleration.value == taint.value
