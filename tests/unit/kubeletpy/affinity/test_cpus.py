from __future__ import annotations

from pathlib import Path

import pytest

from kubeletpy.affinity import cpu_state, cpusets
from kubeletpy.affinity.cpu_assignment import take_distributed, take_packed
from kubeletpy.affinity.cpu_policy import (
    CpuOptions,
    StaticCpus,
    cpu_options,
    pod_cpus,
    static_cpus,
    whole_cpus,
)
from kubeletpy.affinity.cpu_state import CpuState
from kubeletpy.affinity.cpusets import CpuSet
from kubeletpy.affinity.errors import AlignmentError, AllocationError, ConfigurationFault
from kubeletpy.affinity.hints import Hint
from kubeletpy.affinity.machine import CpuTopology, read_machine
from kubeletpy.affinity.state_file import StateError
from kubeletpy.api.quantity import Quantity

from .machines import cpus, pod

# 2 sockets of 4 cores of 2 threads: CPU n and n + 8 are one core.
DUAL = cpus(sockets=2, cores=4, threads=2)
# 1 socket of 2 nodes of 4 cores.
SPLIT = cpus(sockets=1, nodes=2, cores=8)
CACHES = cpus(sockets=1, cores=8, threads=2, caches=2)


@pytest.mark.parametrize(
    ("text", "found"),
    [("", set()), ("0", {0}), ("0-2,5", {0, 1, 2, 5}), ("3,1-2\n", {1, 2, 3})],
)
def test_sets_of_cpus_are_read(text: str, found: set[int]) -> None:
    assert cpusets.parse(text) == found


@pytest.mark.parametrize("text", ["a", "3-1", "-1", "0-99999999", "1,,2"])
def test_what_is_no_set_of_cpus_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"range|invalid literal"):
        cpusets.parse(text)


def test_sets_of_cpus_are_written_as_ranges() -> None:
    assert cpusets.show([5, 0, 1, 2, 9]) == "0-2,5,9"
    assert cpusets.show([]) == ""


@pytest.mark.parametrize(
    ("topology", "free", "count", "options", "taken"),
    [
        (DUAL, "0-15", 1, {}, "0"),
        (DUAL, "0-15", 2, {}, "0,8"),
        (DUAL, "0-15", 8, {}, "0-3,8-11"),  # a whole socket
        (DUAL, "0-15", 9, {}, "0-4,8-11"),
        (DUAL, "1-15", 8, {}, "4-7,12-15"),  # the socket that is whole
        (DUAL, "1-15", 2, {}, "1,9"),  # a whole core of the fuller socket
        (DUAL, "1-15", 1, {}, "8"),  # the half of a core that is left
        (DUAL, "0-15", 2, {"spread": True}, "0-1"),
        (SPLIT, "0-7", 4, {}, "0-3"),  # a whole node
        (SPLIT, "1-7", 3, {}, "1-3"),  # the fuller node
        (CACHES, "0-15", 8, {"by_cache": True}, "0-3,8-11"),
        (CACHES, "1-15", 4, {"by_cache": True}, "4-5,12-13"),  # whole cores of one cache
        (CACHES, "3-15", 4, {}, "3-4,11-12"),
        (CACHES, "3-15", 4, {"by_cache": True}, "4-5,12-13"),  # none is split over two caches
    ],
)
def test_cpus_are_taken_close_together(
    topology: CpuTopology, free: str, count: int, options: dict[str, bool], taken: str
) -> None:
    found = take_packed(topology, cpusets.parse(free), count, **options)
    assert cpusets.show(found) == taken


@pytest.mark.parametrize(
    ("topology", "free", "count", "group", "taken"),
    [
        (SPLIT, "0-7", 4, 1, "0-3"),  # one node is enough
        (SPLIT, "0-7", 6, 1, "0-2,4-6"),
        (SPLIT, "1-7", 4, 1, "4-7"),
        (SPLIT, "1-3,5-7", 5, 1, "1-3,5-6"),
        (DUAL, "0-15", 12, 2, "0-2,4-6,8-10,12-14"),
        (DUAL, "0-15", 3, 2, "0-1,8"),  # no multiple of the group: packed
    ],
)
def test_cpus_are_distributed_over_nodes(
    topology: CpuTopology, free: str, count: int, group: int, taken: str
) -> None:
    found = take_distributed(topology, cpusets.parse(free), count, group=group)
    assert cpusets.show(found) == taken


def test_more_cpus_than_there_are_cannot_be_taken() -> None:
    with pytest.raises(AllocationError, match="requested=3, available=2"):
        take_packed(DUAL, frozenset({1, 2}), 3)


@pytest.mark.parametrize(
    ("amounts", "count"),
    [({"cpu": "2"}, 2), ({"cpu": "2000m"}, 2), ({"cpu": "1500m"}, 0), ({"cpu": "100m"}, 0)],
)
def test_only_whole_cpus_are_a_containers_own(amounts: dict[str, str], count: int) -> None:
    found = pod("a", amounts)
    assert whole_cpus(found, found.spec.containers[0]) == count


def test_pods_that_are_not_guaranteed_share() -> None:
    found = pod("a", {"cpu": "2"})
    found.spec.containers[0].resources.limits["cpu"] = Quantity("3")
    assert whole_cpus(found, found.spec.containers[0]) == 0


def test_a_pod_needs_the_larger_of_its_init_and_its_other_containers() -> None:
    assert pod_cpus(pod("a", {"cpu": "2"}, {"cpu": "1"}, init=({"cpu": "4"},))) == 4
    sidecar = {"cpu": "2", "sidecar": "y"}
    assert pod_cpus(pod("a", {"cpu": "2"}, init=(sidecar, {"cpu": "1"}))) == 4


def policy(
    topology: CpuTopology = DUAL, options: CpuOptions | None = None, *, reserved: str = "0"
) -> StaticCpus:
    found = static_cpus(
        topology,
        options or CpuOptions(),
        CpuState("static"),
        reserved_milli=0,
        reserved_cpus=cpusets.parse(reserved),
        topology_policy="none",
    )
    found.check()
    return found


def give(cpu: StaticCpus, uid: str, amount: str, mask: int | None = None) -> CpuSet:
    one = pod(uid, {"cpu": amount})
    cpu.allocate(one, one.spec.containers[0], mask)
    return cpu.state.entries.get(uid, {}).get("c0", cpusets.EMPTY)


def test_cpus_given_away_leave_the_shared_pool_and_come_back() -> None:
    cpu = policy()
    assert give(cpu, "a", "2") == {1, 9}
    assert give(cpu, "b", "1500m") == set()
    assert cpu.state.default == DUAL.all - {1, 9}
    assert give(cpu, "a", "2") == {1, 9}  # asked again: the same
    assert cpu.release("a", "c0")
    assert not cpu.release("a", "c0")
    assert cpu.state == CpuState("static", DUAL.all)


def test_the_reserved_cpus_are_never_given() -> None:
    cpu = policy()
    with pytest.raises(AllocationError, match="requested=16, available=15"):
        give(cpu, "a", "16")
    assert give(cpu, "a", "15") == DUAL.all - {0}
    assert cpu.state.default == {0}


def test_cpus_come_from_the_nodes_of_the_hint_as_far_as_they_have_some() -> None:
    assert give(policy(), "a", "2", 0b10) == {4, 12}
    assert give(policy(), "a", "10", 0b10) == {1, 9, *range(4, 8), *range(12, 16)}


def test_init_containers_cpus_are_used_again_and_sidecars_are_not() -> None:
    cpu = policy()
    one = pod("a", {"cpu": "2"}, init=({"cpu": "4"}, {"cpu": "2", "sidecar": "y"}))
    for container in (*one.spec.init_containers, *one.spec.containers):
        cpu.allocate(one, container, None)
    entries = cpu.state.entries["a"]
    assert entries["i1"] < entries["i0"]
    assert entries["c0"] < entries["i0"]
    assert not entries["c0"] & entries["i1"]
    assert len(cpu.state.assigned()) == 4
    for name in ("i0", "c0"):
        cpu.release("a", name)
    assert cpu.state.default == DUAL.all - entries["i1"]


def test_whole_cores_only() -> None:
    cpu = policy(options=CpuOptions(full_pcpus_only=True), reserved="0")
    with pytest.raises(AlignmentError) as error:
        give(cpu, "a", "3")
    assert error.value.as_admission_error().reason == "SMTAlignmentError"
    # 8 is the other half of the reserved CPU's core.
    with pytest.raises(AlignmentError, match="available physical CPUs = 14, requested CPUs = 16"):
        give(cpu, "a", "16")
    assert give(cpu, "a", "14") == DUAL.all - {0, 8}


def test_strictly_reserved_cpus_are_not_even_shared() -> None:
    cpu = policy(options=CpuOptions(strict_cpu_reservation=True), reserved="0,8")
    assert cpu.state.default == DUAL.all - {0, 8}
    cpu.check()


def test_hints_tell_which_nodes_have_enough() -> None:
    cpu = policy()
    small, large = pod("a", {"cpu": "2"}), pod("b", {"cpu": "8"})
    every = [Hint(0b01, True), Hint(0b10, True), Hint(0b11, False)]
    assert cpu.hints(small, small.spec.containers[0]) == {"cpu": every}
    # Seven are left on node 0, where the reserved one is.
    expected = {"cpu": [Hint(0b10, True), Hint(0b11, False)]}
    assert cpu.hints(large, large.spec.containers[0]) == expected
    assert cpu.pod_hints(large) == expected
    give(cpu, "a", "2", 0b10)
    assert cpu.hints(small, small.spec.containers[0]) == {
        "cpu": [Hint(0b10, True), Hint(0b11, False)]
    }
    other = pod("a", {"cpu": "4"})
    assert cpu.hints(other, other.spec.containers[0]) == {"cpu": []}
    shared = pod("c", {"cpu": "100m"})
    assert cpu.hints(shared, shared.spec.containers[0]) == {}


def test_aligned_by_socket_all_nodes_of_one_socket_are_preferred() -> None:
    topology = cpus(sockets=2, nodes=2, cores=4)
    cpu = policy(topology, CpuOptions(align_by_socket=True), reserved="7")
    one = pod("a", {"cpu": "2"})
    hints = cpu.hints(one, one.spec.containers[0])["cpu"]
    assert hints is not None
    preferred = [hint.mask for hint in hints if hint.preferred]
    assert preferred == [0b1, 0b10, 0b100, 0b11, 0b1100]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (CpuState("static", frozenset(), {"a": {"c": frozenset({1})}}), "cannot be empty"),
        (CpuState("static", frozenset(range(1, 16))), "not all reserved cpus"),
        (CpuState("static", DUAL.all, {"a": {"c": frozenset({1})}}), "overlaps"),
        (CpuState("static", DUAL.all - {4}), "doesn't match"),
        (CpuState("static", DUAL.all | {99}), "doesn't match"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(state: CpuState, message: str) -> None:
    cpu = policy()
    cpu.state = state
    with pytest.raises(AllocationError, match=message):
        cpu.check()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"colour": "true"}, "unknown option 'colour'"),
        ({"align-by-socket": "true"}, "feature gate"),
        ({"full-pcpus-only": "si"}, "neither"),
        (
            {"prefer-align-cpus-by-uncorecache": "true", "distribute-cpus-across-numa": "true"},
            "cannot both be set",
        ),
    ],
)
def test_options_that_cannot_be_are_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationFault, match=message):
        cpu_options(given)


@pytest.mark.parametrize(
    ("milli", "reserved", "found"), [(500, "", "0"), (1001, "", "0,8"), (0, "3,4", "3-4")]
)
def test_what_is_reserved_is_rounded_up_or_named(milli: int, reserved: str, found: str) -> None:
    cpu = static_cpus(
        DUAL,
        CpuOptions(),
        CpuState("static"),
        reserved_milli=milli,
        reserved_cpus=cpusets.parse(reserved),
        topology_policy="none",
    )
    assert cpusets.show(cpu.reserved) == found


def test_something_has_to_be_reserved() -> None:
    with pytest.raises(ConfigurationFault, match="greater than zero"):
        policy(reserved="")
    with pytest.raises(ConfigurationFault, match="has no CPU 99"):
        policy(reserved="99")


def test_the_state_file_is_that_of_the_go_kubelet(tmp_path: Path) -> None:
    # What a Go kubelet writes at its first start, checksum included.
    go = '{"policyName":"none","defaultCpuSet":"","checksum":1353318690}'
    (tmp_path / cpu_state.FILE).write_text(go)
    assert cpu_state.load(tmp_path) == CpuState("none")
    cpu_state.save(tmp_path, CpuState("none"))
    assert (tmp_path / cpu_state.FILE).read_text() == go


def test_the_state_survives(tmp_path: Path) -> None:
    assert cpu_state.load(tmp_path) is None
    cpu = policy()
    give(cpu, "a", "2")
    cpu_state.save(tmp_path, cpu.state)
    assert cpu_state.load(tmp_path) == cpu.state


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"policyName":"static"}',
        '{"policyName":"static","defaultCpuSet":"0-3","checksum":1}',
        '{"policyName":"static","defaultCpuSet":"x","checksum":1}',
        '{"policyName":"static","defaultCpuSet":"1","entries":{"a":3},"checksum":1}',
    ],
)
def test_a_damaged_state_is_noticed(tmp_path: Path, content: str) -> None:
    (tmp_path / cpu_state.FILE).write_text(content)
    with pytest.raises(StateError):
        cpu_state.load(tmp_path)


def test_the_machine_is_read() -> None:
    found = read_machine()
    assert found.topology.all
    assert all(node.memory > 0 for node in found.nodes.values())
    assert {cpu.numa for cpu in found.topology.cpus.values()} <= found.nodes.keys()
    assert found.distances.keys() == found.nodes.keys()


def test_a_machine_with_two_nodes_is_read(tmp_path: Path) -> None:
    def put(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    put("cpu/online", "0-3\n")
    for cpu in range(4):
        put(f"cpu/cpu{cpu}/topology/physical_package_id", str(cpu // 2))
        put(f"cpu/cpu{cpu}/topology/core_cpus_list", f"{cpu}")
        put(f"cpu/cpu{cpu}/cache/index3/level", "3\n")
        put(f"cpu/cpu{cpu}/cache/index3/id", f"{cpu // 2}\n")
    for node in range(2):
        put(f"node/node{node}/meminfo", f"Node {node} MemTotal:       1024 kB\nNode 0 MemFree: 1")
        put(f"node/node{node}/distance", "10 20" if node == 0 else "20 10")
        put(f"node/node{node}/cpulist", f"{2 * node}-{2 * node + 1}\n")
        put(f"node/node{node}/hugepages/hugepages-2048kB/nr_hugepages", "3\n")
    found = read_machine(tmp_path)
    assert found.topology.cpus_in("numa", 1) == {2, 3}
    assert found.topology.units("uncore") == {0, 1}
    assert found.nodes[1].memory == 1024 * 1024
    assert found.nodes[1].hugepages == {2 * 1024 * 1024: 3}
    assert found.distances == {0: (10, 20), 1: (20, 10)}
