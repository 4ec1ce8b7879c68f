"""How much of the node's swap a container may use (pure; KEP-2400)."""

from __future__ import annotations

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod

from .policy import LIMITED_SWAP, NO_SWAP, ResourcePolicy
from .priority import is_critical
from .qos import BURSTABLE, qos_class


def swap_behavior(pod: Pod, container: Container, policy: ResourcePolicy, version: int) -> str:
    """Return NoSwap or LimitedSwap for one container.

    Swap is for Burstable pods that are not critical, on cgroup v2, and for containers that
    request some memory, but not just what they are limited to.
    """
    requested = container.resources.requests.get("memory")
    limit = container.resources.limits.get("memory")
    if (
        policy.swap_behavior != LIMITED_SWAP
        or not policy.swap_accounted
        or version != 2
        or is_critical(pod)
        or qos_class(pod) != BURSTABLE
        or not (requested or limit)
        or int(requested or 0) == int(limit or 0)
    ):
        return NO_SWAP
    return LIMITED_SWAP


def swap_bytes(
    pod: Pod, container: Container, policy: ResourcePolicy, version: int, memory_capacity: int
) -> int:
    """Return the bytes of swap that a container may use.

    It is the same share of the node's swap as its request is of the node's memory.

    Args:
        pod, container: who asks.
        policy: of the node.
        version: of the cgroups.
        memory_capacity: bytes of the node's memory.
    """
    if swap_behavior(pod, container, policy, version) == NO_SWAP:
        return 0
    requested = int(container.resources.requests.get("memory") or 0)
    if not 0 < requested <= memory_capacity:
        return 0
    return requested * policy.swap_bytes // memory_capacity
