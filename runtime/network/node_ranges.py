"""Subnets that the cluster gives this node (Node.spec.podCIDRs), instead of settings.

The kubelet hears of them and tells the runtime by UpdateRuntimeConfig. They are taken at once
where no pod has an address of another subnet; else the pods that are there keep theirs, and no pod
is added until they are gone. So the network goes through

    waiting -> in force -> (others heard of while pods run) in force, no more pods -> in force

What a daemon that routes between nodes knows of the MTU, it says in a small file.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.network.allocator import Pool

OVERHEAD_V4: Final = 50
"""Bytes that VXLAN over IPv4 adds to a packet (RFC 7348: Ethernet 14, IPv4 20, UDP 8, VXLAN 8)."""
OVERHEAD_V6: Final = 70
_LARGEST_FILE: Final = 65536


@dataclass(frozen=True)
class Ranges:
    """What pods get addresses from.

    Attributes:
        pools: one for each family, IPv4 first.
        problem: why no pod can be added; "" if one can.
    """

    pools: tuple[Pool, ...]
    problem: str = ""


def pools_of(cidrs: Sequence[str]) -> tuple[Pool, ...]:
    """Return the pools of subnets, the first of each family, IPv4 before IPv6.

    Raises:
        ValueError: one is no network, or too small for a pod.
    """
    found: dict[int, Pool] = {}
    for cidr in cidrs:
        pool = Pool.parse(cidr)
        found.setdefault(pool.network.version, pool)
    return tuple(found[version] for version in sorted(found))


def decide(heard: Sequence[str], held: Collection[str]) -> Ranges:
    """Return what counts now.

    Args:
        heard: the node's subnets as they were told last; none before that.
        held: subnets that pods have addresses of.
    """
    kept = pools_of(sorted(held))
    if not heard:
        return Ranges(
            kept,
            "waiting for the pod CIDRs of this node: the kubelet tells them by UpdateRuntimeConfig "
            "as soon as spec.podCIDRs of its Node is set ([network] from_node is true); if that "
            "does not happen, see that the controller manager allocates node CIDRs",
        )
    try:
        wanted = pools_of(heard)
    except ValueError as error:
        return Ranges(kept, f"pod CIDRs {', '.join(heard)} of this node: {error}")
    strangers = sorted(set(held) - {str(pool.network) for pool in wanted})
    if strangers:
        return Ranges(
            kept,
            f"the pod CIDRs of this node are {', '.join(heard)} now, but pods still have addresses "
            f"of {', '.join(strangers)}; drain the node: the new ones count once no such pod is "
            "left",
        )
    return Ranges(wanted)


def told_mtu(path: Path) -> int | None:
    """Return the MTU of pods that the daemon between the nodes wrote down, None if it did not."""
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(_LARGEST_FILE))
    except (OSError, ValueError):
        return None
    mtu = said.get("mtu") if isinstance(said, dict) else None
    return mtu if isinstance(mtu, int) and 1280 <= mtu <= 65535 else None
