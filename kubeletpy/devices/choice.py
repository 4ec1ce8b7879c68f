"""Which devices a container gets, and which NUMA nodes could give them (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from kubeletpy.affinity.hints import Hint, all_masks, nodes_of, prefer_narrow


@dataclass(frozen=True, slots=True)
class Device:
    """A device of a plug-in.

    Attributes:
        healthy: whether it can be given.
        nodes: NUMA nodes that it belongs to; none if the plug-in does not say.
    """

    healthy: bool
    nodes: tuple[int, ...] = ()


Devices = Mapping[str, Device]
"""By id."""


def tells_nodes(devices: Devices) -> bool:
    """Whether the plug-in says where its devices are."""
    return any(device.nodes for device in devices.values())


def by_affinity(
    devices: Devices, available: Set[str], mask: int | None
) -> tuple[list[str], list[str], list[str]]:
    """Return the available devices on the wanted nodes, on others, and on no node.

    On either side those of the node with the fewest come first, so that large requests find full
    nodes later.
    """
    if mask is None or not tells_nodes(devices):
        return [], [], sorted(available)
    per_node: dict[int, int] = {}
    for one in available:
        for node in devices[one].nodes:
            per_node[node] = per_node.get(node, 0) + 1
    wanted: list[tuple[int, int, str]] = []
    others: list[tuple[int, int, str]] = []
    nowhere: list[str] = []
    for one in sorted(available):
        nodes = devices[one].nodes
        if not nodes:
            nowhere.append(one)
            continue
        inside = [node for node in nodes if mask >> node & 1]
        best = min(inside or nodes, key=lambda node: (per_node[node], node))
        (wanted if inside else others).append((per_node[best], best, one))
    return [one for *_, one in sorted(wanted)], [one for *_, one in sorted(others)], nowhere


def pick(count: int, *groups: Iterable[str]) -> list[str]:
    """Return the first ``count`` different ids of the groups; fewer if they have not so many."""
    chosen: dict[str, None] = {}
    for group in groups:
        for one in group:
            if len(chosen) == count:
                return list(chosen)
            chosen[one] = None
    return list(chosen)


def device_hints(
    devices: Devices,
    available: Set[str],
    reusable: Set[str],
    count: int,
    machine_nodes: Iterable[int],
) -> list[Hint]:
    """Return the sets of NUMA nodes that could give ``count`` devices.

    Args:
        devices: all of the resource.
        available: healthy and free ones.
        reusable: those that init containers of the pod leave; they have to be among them.
        count: how many are asked for.
        machine_nodes: all NUMA nodes of the machine.
    """
    known = set(machine_nodes)
    nodes = sorted({node for one in devices.values() for node in one.nodes} & known) or sorted(
        known
    )
    narrowest, masks = len(nodes), []
    for mask in all_masks(nodes):
        inside = set(nodes_of(mask))
        there = {one for one, device in devices.items() if inside & set(device.nodes)}
        if len(there) >= count:
            narrowest = min(narrowest, mask.bit_count())
        again = {one for one in reusable if one in devices and devices[one].nodes}
        if again <= there and len(again | (available & there)) >= count:
            masks.append(mask)
    return prefer_narrow(masks, narrowest)
