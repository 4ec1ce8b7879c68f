from __future__ import annotations

import pytest

from kubeletpy.affinity.errors import ConfigurationFault
from kubeletpy.affinity.hints import (
    BEST_EFFORT,
    NONE,
    RESTRICTED,
    SINGLE_NUMA_NODE,
    Hint,
    ResourceHints,
    all_masks,
    mask_of,
    topology_policy,
)

TWO = {0: (10, 21), 1: (21, 10)}
FOUR = {
    0: (10, 11, 20, 20),
    1: (11, 10, 20, 20),
    2: (20, 20, 10, 11),
    3: (20, 20, 11, 10),
}


def yes(*nodes: int) -> Hint:
    return Hint(mask_of(nodes), True)


def no(*nodes: int) -> Hint:
    return Hint(mask_of(nodes), False)


CPU_BOTH: ResourceHints = {"cpu": [yes(0), yes(1), no(0, 1)]}
CASES: list[tuple[str, list[ResourceHints], Hint, dict[str, bool]]] = [
    ("nobody cares", [{}, {}], Hint(0b11, True), {}),
    ("no preference for a resource", [{"gpu": None}], Hint(0b11, True), {}),
    ("nothing possible", [{"gpu": []}], Hint(0b11, False), {RESTRICTED: False}),
    ("both nodes, the lower one", [CPU_BOTH], yes(0), {}),
    ("they meet on node 1", [CPU_BOTH, {"gpu": [yes(1)]}], yes(1), {}),
    (
        "they do not meet",
        [{"cpu": [yes(0)]}, {"gpu": [yes(1)]}],
        Hint(0b11, False),
        {RESTRICTED: False, SINGLE_NUMA_NODE: False},
    ),
    (
        "preferred for one, not for the other",
        [{"cpu": [yes(0), no(0, 1)]}, {"gpu": [no(0, 1)]}],
        no(0, 1),
        {RESTRICTED: False, SINGLE_NUMA_NODE: False},
    ),
    (
        "two nodes needed by all",
        [{"cpu": [yes(0, 1)]}, {"memory": [yes(0, 1)]}],
        yes(0, 1),
        {SINGLE_NUMA_NODE: False},
    ),
    ("a device that is anywhere", [CPU_BOTH, {"gpu": [Hint(None, True)]}], yes(0), {}),
]


@pytest.mark.parametrize(("name", "provided", "best", "refused"), CASES, ids=lambda one: str(one))
def test_hints_are_merged(
    name: str, provided: list[ResourceHints], best: Hint, refused: dict[str, bool]
) -> None:
    for policy in (BEST_EFFORT, RESTRICTED, SINGLE_NUMA_NODE):
        found, admitted = topology_policy(policy, {}, TWO).merge(provided)
        assert admitted is (policy == BEST_EFFORT or (best.preferred and policy not in refused))
        if policy != SINGLE_NUMA_NODE:
            assert found == best
        elif admitted:
            # All nodes together are no alignment to a single one.
            assert found == (Hint(None, True) if best.mask == 0b11 else best)


def test_no_policy_admits_without_looking() -> None:
    assert topology_policy(NONE, {}, TWO).merge([{"gpu": []}]) == (Hint(None, False), True)


def test_of_preferred_sets_the_closest_is_taken_if_asked_for() -> None:
    pairs: list[ResourceHints] = [{"cpu": [yes(1, 2), yes(2, 3)]}]
    assert topology_policy(BEST_EFFORT, {}, FOUR).merge(pairs)[0] == yes(1, 2)
    closest = topology_policy(BEST_EFFORT, {"prefer-closest-numa-nodes": "true"}, FOUR)
    assert closest.merge(pairs)[0] == yes(2, 3)


def test_without_a_preferred_set_the_size_that_the_most_demanding_needs_is_best() -> None:
    provided: list[ResourceHints] = [
        {"cpu": [no(0), no(0, 1), no(0, 1, 2)]},
        {"memory": [no(0, 1), no(0, 1, 2)]},
    ]
    assert topology_policy(BEST_EFFORT, {}, FOUR).merge(provided)[0] == no(0, 1)


def test_many_nodes_and_resources_are_merged_without_trying_every_combination() -> None:
    nodes = list(range(8))
    hints = [Hint(mask, mask.bit_count() == 1) for mask in all_masks(nodes)]
    distances = {node: tuple(10 for _ in nodes) for node in nodes}
    policy = topology_policy(BEST_EFFORT, {}, distances)
    # 255 to the power of four combinations.
    provided: list[ResourceHints] = [{"cpu": hints}, {"a": hints[:20], "b": hints[:20]}]
    assert policy.merge(provided)[0] == yes(0)


@pytest.mark.parametrize(
    ("name", "options", "nodes", "message"),
    [
        ("numa", {}, 1, "unknown policy"),
        (BEST_EFFORT, {"colour": "true"}, 1, "unknown option"),
        (BEST_EFFORT, {"prefer-closest-numa-nodes": "maybe"}, 1, "neither true nor false"),
        (BEST_EFFORT, {"max-allowable-numa-nodes": "4"}, 1, "no number from 8 on"),
        (RESTRICTED, {}, 9, "more than 8 NUMA nodes"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    name: str, options: dict[str, str], nodes: int, message: str
) -> None:
    distances = {node: tuple([10] * nodes) for node in range(nodes)}
    with pytest.raises(ConfigurationFault, match=message):
        topology_policy(name, options, distances)


def test_more_nodes_are_an_option() -> None:
    distances = {node: tuple([10] * 9) for node in range(9)}
    topology_policy(BEST_EFFORT, {"max-allowable-numa-nodes": "16"}, distances)
