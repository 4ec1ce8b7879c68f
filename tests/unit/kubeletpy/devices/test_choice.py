from __future__ import annotations

import pytest

from kubeletpy.affinity.hints import Hint
from kubeletpy.devices.choice import Device, by_affinity, device_hints, pick
from kubeletpy.devices.server import is_extended

DEVICES = {
    "a0": Device(True, (0,)),
    "a1": Device(True, (0,)),
    "b0": Device(True, (1,)),
    "ab": Device(True, (0, 1)),
    "x": Device(True),
}
ALL = set(DEVICES)


@pytest.mark.parametrize(
    ("mask", "groups"),
    [
        (None, ([], [], ["a0", "a1", "ab", "b0", "x"])),
        (0b01, (["a0", "a1", "ab"], ["b0"], ["x"])),
        (0b10, (["ab", "b0"], ["a0", "a1"], ["x"])),
        # Those of the node with fewer of them go first.
        (0b11, (["ab", "b0", "a0", "a1"], [], ["x"])),
    ],
)
def test_devices_are_grouped_by_where_they_are(
    mask: int | None, groups: tuple[list[str], list[str], list[str]]
) -> None:
    assert by_affinity(DEVICES, ALL, mask) == groups


def test_without_topology_there_is_nothing_to_group() -> None:
    plain = {"a": Device(True), "b": Device(True)}
    assert by_affinity(plain, {"b", "a"}, 0b1) == ([], [], ["a", "b"])


def test_groups_are_taken_in_their_order() -> None:
    assert pick(3, ["a"], ["b", "a"], ["c", "d"]) == ["a", "b", "c"]
    assert pick(3, ["a"]) == ["a"]


@pytest.mark.parametrize(
    ("available", "reusable", "count", "hints"),
    [
        (ALL, set(), 1, [Hint(1, True), Hint(2, True), Hint(3, False)]),
        (ALL, set(), 3, [Hint(1, True), Hint(3, False)]),
        (ALL, set(), 4, [Hint(3, True)]),
        (ALL, set(), 5, []),
        ({"b0"}, set(), 1, [Hint(2, True), Hint(3, False)]),
        ({"a1", "b0"}, {"a0"}, 2, [Hint(1, True), Hint(3, False)]),
        ({"a1"}, {"a0"}, 2, [Hint(1, True), Hint(3, False)]),
    ],
)
def test_hints_tell_which_nodes_have_enough(
    available: set[str], reusable: set[str], count: int, hints: list[Hint]
) -> None:
    assert device_hints(DEVICES, available, reusable, count, [0, 1]) == hints


def test_nodes_without_devices_do_not_matter() -> None:
    few = {"a": Device(True, (3,))}
    assert device_hints(few, {"a"}, set(), 1, range(36)) == [Hint(0b1000, True)]


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("vendor.com/gpu", True),
        ("example.com/fpga_2", True),
        ("gpu", False),
        ("kubernetes.io/gpu", False),
        ("sub.kubernetes.io/gpu", False),
        ("requests.vendor.com/gpu", False),
        ("Vendor.com/gpu", False),
        ("vendor.com/", False),
        ("vendor.com/a/b", False),
        ("vendor.com/" + 64 * "a", False),
        ("/gpu", False),
    ],
)
def test_only_extended_resources_can_be_offered(name: str, good: bool) -> None:
    assert is_extended(name) is good
