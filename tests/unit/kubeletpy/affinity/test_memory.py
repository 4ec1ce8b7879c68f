from __future__ import annotations

from pathlib import Path

import pytest

from kubeletpy.affinity import memory_state
from kubeletpy.affinity.errors import AllocationError, ConfigurationFault
from kubeletpy.affinity.hints import Hint
from kubeletpy.affinity.machine import NumaNode
from kubeletpy.affinity.memory_policy import (
    StaticMemory,
    empty_machine,
    pod_requested,
    reserved_by_node,
)
from kubeletpy.affinity.memory_state import Block, MemoryState
from kubeletpy.affinity.state_file import StateError

from .machines import GIB, machine, pod

ANY = Hint(None, True)
MIB = 1024**2


def policy(nodes: int = 2, reserved: int = GIB) -> StaticMemory:
    kept = {node: {"memory": reserved} for node in range(nodes)}
    return StaticMemory(empty_machine(machine(nodes).nodes, kept), MemoryState("Static"))


def give(memory: StaticMemory, uid: str, amount: str, hint: Hint = ANY) -> list[Block]:
    one = pod(uid, {"memory": amount})
    memory.allocate(one, one.spec.containers[0], hint)
    return memory.state.entries[uid]["c0"]


def test_memory_comes_from_one_node_as_long_as_it_fits() -> None:
    memory = policy()
    assert give(memory, "a", "5Gi") == [Block((0,), "memory", 5 * GIB)]
    assert give(memory, "b", "5Gi") == [Block((1,), "memory", 5 * GIB)]
    assert memory.machine[0].tables["memory"].free == 4 * GIB
    assert memory.nodes("a", "c0") == {0}
    assert memory.nodes("a", "other") == set()


def test_a_pod_larger_than_a_node_gets_a_group_of_nodes_which_then_serve_only_groups() -> None:
    memory = policy(3)
    assert give(memory, "a", "12Gi") == [Block((0, 1), "memory", 12 * GIB)]
    machine_now = memory.machine
    assert [machine_now[node].cells for node in range(3)] == [(0, 1), (0, 1), (2,)]
    assert [machine_now[node].tables["memory"].free for node in range(3)] == [
        0,
        6 * GIB,
        9 * GIB,
    ]
    assert give(memory, "b", "2Gi") == [Block((2,), "memory", 2 * GIB)]
    with pytest.raises(AllocationError, match="no NUMA nodes with enough memory"):
        give(memory, "c", "8Gi")
    assert memory.release("a", "c0")
    assert give(memory, "c", "8Gi") == [Block((0,), "memory", 8 * GIB)]


def test_what_the_hint_lacks_is_extended() -> None:
    memory = policy()
    assert give(memory, "a", "12Gi", Hint(0b1, False)) == [Block((0, 1), "memory", 12 * GIB)]
    with pytest.raises(AllocationError, match="violates NUMA node allocation"):
        give(memory, "b", "1Gi", Hint(0b10, False))


def test_hints_prefer_the_fewest_nodes() -> None:
    memory = policy()
    small, large = pod("a", {"memory": "1Gi"}), pod("b", {"memory": "12Gi"})
    assert memory.hints(small, small.spec.containers[0]) == {
        "memory": [Hint(0b1, True), Hint(0b10, True), Hint(0b11, False)]
    }
    both = {"memory": [Hint(0b11, True)]}
    assert memory.pod_hints(large) == both
    give(memory, "b", "12Gi")
    assert memory.hints(large, large.spec.containers[0]) == both  # it has it already
    assert memory.hints(small, small.spec.containers[0]) == {"memory": [Hint(0b11, False)]}


def test_init_containers_memory_is_used_again() -> None:
    memory = policy(1)
    one = pod("a", {"memory": "6Gi"}, init=({"memory": "8Gi"},))
    for container in (*one.spec.init_containers, *one.spec.containers):
        memory.allocate(one, container, ANY)
    assert [block.size for block in memory.state.entries["a"]["c0"]] == [6 * GIB]
    assert [block.size for block in memory.state.entries["a"]["i0"]] == [2 * GIB]
    assert memory.machine[0].tables["memory"].free == GIB


def test_pods_that_are_not_guaranteed_roam() -> None:
    memory = policy()
    one = pod("a", {"memory": "1Gi"})
    one.spec.containers[0].resources.requests.clear()
    one.spec.containers[0].resources.limits.clear()
    assert not memory.allocate(one, one.spec.containers[0], ANY)
    assert memory.hints(one, one.spec.containers[0]) == {}


def test_a_pod_needs_the_larger_of_its_init_and_its_other_containers() -> None:
    one = pod("a", {"memory": "1Gi"}, {"memory": "2Gi"}, init=({"memory": "5Gi"},))
    assert pod_requested(one) == {"memory": 5 * GIB}


def test_huge_pages_are_memory_of_another_kind() -> None:
    nodes = {0: NumaNode(4 * GIB, {2 * MIB: 512})}
    memory = StaticMemory(empty_machine(nodes, {}), MemoryState("Static"))
    assert memory.allocatable == [
        Block((0,), "hugepages-2Mi", GIB),
        Block((0,), "memory", 3 * GIB),
    ]
    one = pod("a", {"memory": "1Gi", "hugepages-2Mi": "1Gi"})
    memory.allocate(one, one.spec.containers[0], ANY)
    assert memory.machine[0].tables["hugepages-2Mi"].free == 0


def test_the_state_survives_and_is_checked_against_the_machine(tmp_path: Path) -> None:
    assert memory_state.load(tmp_path) is None
    memory = policy()
    give(memory, "a", "5Gi")
    memory_state.save(tmp_path, memory.state, memory.machine)
    found = memory_state.load(tmp_path)
    assert found is not None
    assert found.entries == memory.state.entries
    StaticMemory(memory.empty, found).check()
    for other in (policy(1), policy(3), policy(reserved=2 * GIB)):
        with pytest.raises(AllocationError, match="different from the real one"):
            StaticMemory(other.empty, found).check()
    found.noted.clear()
    found.entries["b"] = {"c": [Block((7,), "memory", 1)]}
    with pytest.raises(AllocationError, match="does not exist"):
        StaticMemory(memory.empty, found).check()


@pytest.mark.parametrize(
    "content",
    ["{", "3", '{"policyName":"Static","machineState":{},"checksum":1}', '{"policyName":"None"}'],
)
def test_a_damaged_state_is_noticed(tmp_path: Path, content: str) -> None:
    (tmp_path / memory_state.FILE).write_text(content)
    with pytest.raises(StateError):
        memory_state.load(tmp_path)


def test_reserved_memory_must_add_up() -> None:
    given = [(0, {"memory": 3}), (1, {"memory": 4, "hugepages-2Mi": 5})]
    allocatable = {"memory": 7, "hugepages-2Mi": 5, "cpu": 1}
    assert reserved_by_node(given, [0, 1], allocatable) == dict(given)
    with pytest.raises(ConfigurationFault, match=r"add up to 7 bytes, but .* to 8"):
        reserved_by_node(given, [0, 1], {**allocatable, "memory": 8})
    with pytest.raises(ConfigurationFault, match="no NUMA node 1"):
        reserved_by_node(given, [0], allocatable)
