"""What has to change so that running containers have what their pod was allocated (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kubeletpy.api.container import Container, ResourceRequirements
from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Quantity
from kubeletpy.api.status import PodCondition
from kubeletpy.resources.limits import Limits

RESTART = "RestartContainer"
_NOTHING = Quantity(0)


@dataclass(frozen=True, slots=True)
class Amounts:
    """CPU in thousandths and memory in bytes of a container; 0 for none."""

    cpu_request: int = 0
    cpu_limit: int = 0
    memory_request: int = 0
    memory_limit: int = 0

    def text(self) -> str:
        """Return it as an annotation of the container that was created with it."""
        return f"{self.cpu_request} {self.cpu_limit} {self.memory_request} {self.memory_limit}"

    @classmethod
    def parse(cls, text: str) -> Amounts | None:
        """Return what `text` wrote; None for anything else."""
        words = text.split(" ")
        if len(words) != 4 or not all(word.isdecimal() and len(word) < 20 for word in words):
            return None
        return cls(*map(int, words))


@dataclass(frozen=True, slots=True)
class Actual:
    """What a pod has, as far as it is known.

    Attributes:
        amounts: by container id, of containers that were changed in place.
        pod: limits of the pod's cgroup; None: not known.
        wanted: limits that it shall have.
        conditions: what the status says about a resize.
    """

    amounts: Mapping[str, Amounts] = field(default_factory=lambda: MappingProxyType({}))
    pod: Limits | None = None
    wanted: Limits | None = None
    conditions: tuple[PodCondition, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerResize:
    """A running container whose limits are to be changed in place."""

    id: str
    name: str
    now: Amounts
    wanted: Amounts


@dataclass(frozen=True, slots=True)
class Resize:
    """What is to be changed: limits of containers, and of the pod's cgroup if ``pod``."""

    containers: tuple[ContainerResize, ...] = ()
    pod: bool = False


def amounts(pod: Pod, resources: ResourceRequirements) -> Amounts:
    """Return the amounts of a container; limits of its pod stand in for missing ones."""
    of_pod = pod.spec.resources.limits if pod.spec.resources is not None else {}

    def limit(name: str) -> Quantity:
        return resources.limits.get(name) or of_pod.get(name) or _NOTHING

    return Amounts(
        cpu_request=resources.requests.get("cpu", _NOTHING).milli,
        cpu_limit=limit("cpu").milli,
        memory_request=int(resources.requests.get("memory", _NOTHING)),
        memory_limit=int(limit("memory")),
    )


def needs_restart(container: Container, now: Amounts, wanted: Amounts) -> bool:
    """Whether resizePolicy asks for a restart for one of the resources that change."""
    policies = {one.resource_name: one.restart_policy for one in container.resize_policy}
    cpu = (now.cpu_request, now.cpu_limit) != (wanted.cpu_request, wanted.cpu_limit)
    memory = (now.memory_request, now.memory_limit) != (wanted.memory_request, wanted.memory_limit)
    return (cpu and policies.get("cpu") == RESTART) or (
        memory and policies.get("memory") == RESTART
    )


def pod_changes(now: Limits, wanted: Limits) -> bool:
    """Whether the limits of the pod's cgroup have to change."""
    return _compared(now) != _compared(wanted)


def _compared(limits: Limits) -> tuple[int, int, int]:
    quota = limits.cpu_quota_us or -1
    return limits.cpu_shares, quota, limits.memory_bytes or -1
