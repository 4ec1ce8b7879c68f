"""Merging what the providers would like into one set of NUMA nodes (pure).

A provider (CPUs, memory, devices) gives for each resource the sets of NUMA nodes that could satisfy
a request, and which of them it prefers. The policy takes one set of each and intersects them; the
best intersection wins: preferred ones first, then the narrowest (or, by option, the closest) one.

Sets of nodes are bit masks. The Go kubelet looks at every combination of hints, which grows
exponentially with the resources; what matters of a combination is only its intersection, whether
all masks in it were equal, and whether all were preferred, so here they are folded as they grow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from .errors import ConfigurationFault

NONE, BEST_EFFORT, RESTRICTED, SINGLE_NUMA_NODE = (
    "none",
    "best-effort",
    "restricted",
    "single-numa-node",
)
CONTAINER, POD = "container", "pod"
MOST_NODES = 8
"""NUMA nodes beyond which the sets of nodes are too many, unless an option allows more."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A set of NUMA nodes that would do.

    Attributes:
        mask: bit N for node N; None: any node does.
        preferred: whether it is as narrow as possible.
    """

    mask: int | None
    preferred: bool


ANY = Hint(None, True)
IMPOSSIBLE = Hint(None, False)
ResourceHints = Mapping[str, Sequence[Hint] | None]
"""By resource: no preference (None), or what would do; an empty list: nothing does."""


def mask_of(nodes: Iterable[int]) -> int:
    """Return the mask of some nodes."""
    mask = 0
    for node in nodes:
        mask |= 1 << node
    return mask


def nodes_of(mask: int) -> list[int]:
    """Return the nodes of a mask in ascending order."""
    return [node for node in range(mask.bit_length()) if mask >> node & 1]


def all_masks(nodes: Sequence[int]) -> Iterator[int]:
    """Yield the masks of all non-empty subsets, the smallest first."""
    for size in range(1, len(nodes) + 1):
        for chosen in combinations(nodes, size):
            yield mask_of(chosen)


def prefer_narrow(masks: Iterable[int], narrowest: int) -> list[Hint]:
    """Return masks as hints, those of ``narrowest`` nodes preferred."""
    return [Hint(mask, mask.bit_count() == narrowest) for mask in masks]


@dataclass(frozen=True, slots=True)
class TopologyPolicy:
    """A policy of the topology manager.

    Attributes:
        name: none, best-effort, restricted or single-numa-node.
        nodes: the machine's NUMA nodes.
        distances: by node, its distances to all nodes, for ``prefer-closest-numa-nodes``.
        closest: that option.
    """

    name: str
    nodes: tuple[int, ...]
    distances: Mapping[int, Sequence[int]]
    closest: bool = False

    @property
    def everywhere(self) -> int:
        """The mask of all nodes."""
        return mask_of(self.nodes)

    def merge(self, provided: Iterable[ResourceHints]) -> tuple[Hint, bool]:
        """Return the best hint, and whether a pod with it is admitted."""
        if self.name == NONE:
            return Hint(None, False), True
        lists = _flat(provided)
        if self.name == SINGLE_NUMA_NODE:
            lists = [[one for one in hints if _single(one)] for hints in lists]
        best = self._best(lists)
        if self.name == SINGLE_NUMA_NODE and best.mask == self.everywhere:
            best = Hint(None, best.preferred)
        return best, best.preferred or self.name == BEST_EFFORT

    def _best(self, lists: list[list[Hint]]) -> Hint:
        wanted = max((_narrowest(hints) for hints in lists), default=0)
        best: Hint | None = None
        for merged in _intersections(self.everywhere, lists):
            if not merged.mask:
                continue
            if best is None or self._better(best, merged, wanted):
                best = merged
        return best or Hint(self.everywhere, False)

    def _better(self, best: Hint, other: Hint, wanted: int) -> bool:
        """Whether ``other`` is better; ``wanted`` nodes is what the most demanding one needs.

        Among sets that are not preferred, one of just that many nodes is the best, then the
        largest of the smaller ones, then the smallest of the larger ones.
        """
        if best.preferred != other.preferred:
            return other.preferred
        assert best.mask is not None
        assert other.mask is not None
        if best.preferred:
            return self._fitter(best.mask, other.mask)
        have, offered = best.mask.bit_count(), other.mask.bit_count()
        if have == offered or have > wanted:
            return self._fitter(best.mask, other.mask)
        if have == wanted or offered > wanted:
            return False
        return offered > have

    def _fitter(self, mask: int, other: int) -> bool:
        """Whether ``other`` has fewer nodes, is closer together if asked for, or has lower ones."""
        if mask.bit_count() != other.bit_count():
            return other.bit_count() < mask.bit_count()
        if self.closest and self.name != SINGLE_NUMA_NODE:
            ours, theirs = self._distance(mask), self._distance(other)
            if ours != theirs:
                return theirs < ours
        return other < mask

    def _distance(self, mask: int) -> float:
        nodes = nodes_of(mask)
        pairs = [self.distances[one][other] for one in nodes for other in nodes]
        return sum(pairs) / len(pairs)


def topology_policy(
    name: str,
    options: Mapping[str, str],
    distances: Mapping[int, Sequence[int]],
) -> TopologyPolicy:
    """Return the policy that the settings name.

    Args:
        name: ``topologyManagerPolicy``.
        options: ``topologyManagerPolicyOptions``.
        distances: by NUMA node, its distances.

    Raises:
        ConfigurationFault: there is no such policy or option, or the machine has too many nodes.
    """
    if name not in (NONE, BEST_EFFORT, RESTRICTED, SINGLE_NUMA_NODE):
        raise ConfigurationFault(f"topologyManagerPolicy: unknown policy {name!r}")
    closest, most = False, MOST_NODES
    for option, value in options.items():
        if option == "prefer-closest-numa-nodes":
            closest = boolean(option, value)
        elif option == "max-allowable-numa-nodes":
            if not value.isdigit() or int(value) < MOST_NODES:
                raise ConfigurationFault(f"{option}: {value!r} is no number from {MOST_NODES} on")
            most = int(value)
        else:
            raise ConfigurationFault(f"topologyManagerPolicyOptions: unknown option {option!r}")
    if name != NONE and len(distances) > most:
        raise ConfigurationFault(
            f"topologyManagerPolicy {name}: unsupported on machines with more than {most} NUMA "
            "nodes; set it to none, or the option max-allowable-numa-nodes"
        )
    return TopologyPolicy(name, tuple(sorted(distances)), distances, closest)


def boolean(option: str, value: str) -> bool:
    """Return the value of an option, as Go's ParseBool reads it.

    Raises:
        ConfigurationFault: it is neither true nor false.
    """
    if value in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if value in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ConfigurationFault(f"option {option}: {value!r} is neither true nor false")


def _flat(provided: Iterable[ResourceHints]) -> list[list[Hint]]:
    lists: list[list[Hint]] = []
    for hints in provided:
        if not hints:
            lists.append([ANY])
        for offered in hints.values():
            if offered is None:
                lists.append([ANY])
            else:
                lists.append(list(offered) or [IMPOSSIBLE])
    return lists


def _single(hint: Hint) -> bool:
    return hint.preferred and (hint.mask is None or hint.mask.bit_count() == 1)


def _narrowest(hints: Iterable[Hint]) -> int:
    return min((one.mask.bit_count() for one in hints if one.mask is not None), default=0)


@dataclass(frozen=True, slots=True)
class _Partial:
    """Some hints intersected: the result, the first mask among them, and if all are preferred."""

    mask: int
    first: int | None
    preferred: bool


def _intersections(everywhere: int, lists: list[list[Hint]]) -> list[Hint]:
    """Return the different results of taking one hint of each list."""
    partials = {_Partial(everywhere, None, True): None}
    for hints in lists:
        grown: dict[_Partial, None] = {}
        for partial in partials:
            for hint in hints:
                grown[_with(partial, hint)] = None
        partials = grown
    merged = {Hint(one.mask, one.preferred): None for one in partials}
    return sorted(merged, key=lambda one: one.mask or 0)


def _with(partial: _Partial, hint: Hint) -> _Partial:
    preferred = partial.preferred and hint.preferred
    if hint.mask is None:
        return _Partial(partial.mask, partial.first, preferred)
    if partial.first is None:
        return _Partial(partial.mask & hint.mask, hint.mask, preferred)
    return _Partial(
        partial.mask & hint.mask, partial.first, preferred and hint.mask == partial.first
    )
