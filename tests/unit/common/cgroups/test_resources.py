from __future__ import annotations

import errno
from typing import Any

import pytest

from kubeletpy_common.cgroups import CgroupError, LinuxResources, shares_to_weight
from kubeletpy_common.cgroups.resources import check_unified, swap_max


@pytest.mark.parametrize(
    ("shares", "weight"),
    # The published points of the formula, and those of runc's own table.
    [(0, 1), (2, 1), (3, 2), (102, 17), (512, 59), (1024, 100), (2048, 174), (262144, 10000),
     (10**9, 10000)],
)  # fmt: skip
def test_shares_become_weights(shares: int, weight: int) -> None:
    assert shares_to_weight(shares) == weight


def test_weights_grow_with_shares_and_stay_in_range() -> None:
    weights = [shares_to_weight(shares) for shares in range(2, 262145, 97)]
    assert weights == sorted(weights)
    assert weights[0] >= 1
    assert weights[-1] <= 10000


@pytest.mark.parametrize(
    ("memory", "both", "swap"),
    [(None, None, None), (100, None, None), (-1, None, -1), (100, -1, -1), (100, 100, 0),
     (100, 150, 50), (-1, 150, 150)],
)  # fmt: skip
def test_swap_alone(memory: int | None, both: int | None, swap: int | None) -> None:
    assert swap_max(memory, both) == swap


@pytest.mark.parametrize(("memory", "both"), [(100, 99), (None, 100)])
def test_impossible_swap(memory: int | None, both: int) -> None:
    with pytest.raises(CgroupError, match="memory_swap"):
        swap_max(memory, both)


def test_from_oci_reads_every_limit() -> None:
    resources = LinuxResources.from_oci(
        {
            "cpu": {"shares": 512, "quota": 20000, "period": 100000, "cpus": "0", "mems": "0"},
            "memory": {"limit": 1000, "swap": 3000, "reservation": 500, "kernel": 7},
            "pids": {"limit": 9},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
            "devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c",
                        "major": 1, "minor": 3, "access": "rw"}],
            "unified": {"memory.high": "900"},
        }
    )  # fmt: skip
    assert (resources.cpu_shares, resources.cpu_quota_us, resources.cpu_period_us) == (
        512, 20000, 100000,
    )  # fmt: skip
    assert (resources.cpuset_cpus, resources.cpuset_mems) == ("0", "0")
    assert (resources.memory_limit, resources.memory_swap, resources.memory_low) == (
        1000, 3000, 500,
    )  # fmt: skip
    assert resources.pids_limit == 9
    assert resources.hugepages == {"2MB": 4194304}
    assert resources.unified == {"memory.high": "900"}
    assert resources.devices is not None
    assert [(r.allow, r.type, r.major) for r in resources.devices] == [
        (False, "a", None), (True, "c", 1),
    ]  # fmt: skip


def test_from_oci_takes_zero_and_absence_as_not_set() -> None:
    nothing = LinuxResources()
    assert LinuxResources.from_oci({}) == nothing
    assert LinuxResources.from_oci({"cpu": None, "memory": {"limit": 0}, "pids": {}}) == nothing
    assert LinuxResources.from_oci({"cpu": {"quota": 0, "cpus": ""}}) == nothing


@pytest.mark.parametrize(
    ("resources", "number", "named"),
    [
        ({"rdma": {"mlx5_0": {}}}, errno.EINVAL, "neither hcaHandles nor hcaObjects"),
        ({"rdma": {"mlx5_0": None}}, errno.EINVAL, "neither hcaHandles nor hcaObjects"),
        ({"rdma": {"a b": {"hcaHandles": 1}}}, errno.EINVAL, "no name of an RDMA device"),
        ({"rdma": {"mlx5_0\n": {"hcaHandles": 1}}}, errno.EINVAL, "no name of an RDMA device"),
        ({"rdma": {"mlx5_0": {"hcaHandles": -1}}}, errno.EINVAL, "numbers from 0"),
        ({"rdma": {"mlx5_0": {"hcaObjects": 2**32}}}, errno.EINVAL, "numbers from 0"),
        ({"rdma": {"mlx5_0": {"hcaObjects": "max"}}}, errno.EINVAL, "numbers from 0"),
        ({"network": {"classID": 5}}, errno.EOPNOTSUPP, "network"),
        ({"cpu": {"realtimeRuntime": 5}}, errno.EOPNOTSUPP, "cpu.realtimeRuntime"),
        ({"memory": {"disableOOMKiller": True}}, errno.EOPNOTSUPP, "disableOOMKiller"),
        ({"memory": {"limit": -2}}, errno.EINVAL, "memory_limit"),
        ({"hugepageLimits": [{"pageSize": "../2MB", "limit": 0}]}, errno.EINVAL, "hugepages"),
        ({"unified": {"cgroup.procs": "1"}}, errno.EINVAL, "cgroup.procs"),
        ({"devices": [{"allow": True, "type": "x"}]}, errno.EINVAL, "devices"),
        ({"devices": [{"allow": True, "type": "c", "major": 2**32}]}, errno.EINVAL, "devices"),
    ],
)
def test_from_oci_refuses(resources: dict[str, Any], number: int, named: str) -> None:
    with pytest.raises(CgroupError) as caught:
        LinuxResources.from_oci(resources)
    assert caught.value.errno == number
    assert named in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("key", ["memory.high", "hugetlb.2MB.max", "io.max", "memory.oom.group"])
def test_unified_takes_control_files(key: str) -> None:
    check_unified(key, "1")


@pytest.mark.parametrize(
    "key", ["", "memory", "../memory.max", "a/memory.max", "/memory.max", "memory..max",
            "cgroup.kill", "cgroup.subtree_control", "memory.max\n", "memory.max\0"]
)  # fmt: skip
def test_unified_refuses_what_is_no_control_file(key: str) -> None:
    with pytest.raises(CgroupError):
        check_unified(key, "1")
