"""How new limits go together with those that are."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from kubeletpy_common.cgroups import CgroupError, CgroupsV2, LinuxResources, MemoryStats
from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.errors import InvalidRequestError, NotReadyError
from runtime.cri.resource_updates import (
    check_memory,
    merged,
    refusals_told,
    undoing,
    updated_config,
)
from runtime.oci.request import TranslationError


def limits(**fields: Any) -> cri.LinuxContainerResources:
    return cri.LinuxContainerResources(**fields)


@pytest.mark.parametrize(
    ("now", "change", "expected"),
    [
        ({"cpu_shares": 5}, {"cpu_quota": 7}, {"cpu_shares": 5, "cpu_quota": 7}),
        ({"cpuset_cpus": "0"}, {"cpuset_cpus": "1"}, {"cpuset_cpus": "1"}),
        # Swap was the same as memory, said or unsaid, and stays so.
        ({"memory_limit_in_bytes": 10}, {"memory_limit_in_bytes": 20},
         {"memory_limit_in_bytes": 20}),
        ({"memory_limit_in_bytes": 10, "memory_swap_limit_in_bytes": 10},
         {"memory_limit_in_bytes": 20},
         {"memory_limit_in_bytes": 20, "memory_swap_limit_in_bytes": 20}),
        ({"memory_limit_in_bytes": 10, "memory_swap_limit_in_bytes": 15},
         {"memory_limit_in_bytes": 20},
         {"memory_limit_in_bytes": 20, "memory_swap_limit_in_bytes": 25}),
        ({"memory_limit_in_bytes": 10, "memory_swap_limit_in_bytes": -1},
         {"memory_limit_in_bytes": 20},
         {"memory_limit_in_bytes": 20, "memory_swap_limit_in_bytes": -1}),
        ({"memory_limit_in_bytes": 10},
         {"memory_limit_in_bytes": 20, "memory_swap_limit_in_bytes": 30},
         {"memory_limit_in_bytes": 20, "memory_swap_limit_in_bytes": 30}),
        ({"unified": {"a.b": "1", "c.d": "2"}}, {"unified": {"a.b": "3"}},
         {"unified": {"a.b": "3", "c.d": "2"}}),
    ],
)  # fmt: skip
def test_what_is_not_given_stays(
    now: dict[str, Any], change: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert merged(limits(**now), limits(**change)) == limits(**expected)


def test_huge_pages_are_merged_by_size() -> None:
    page = cri.HugepageLimit
    now = limits(hugepage_limits=[page(page_size="2MB", limit=1), page(page_size="1GB", limit=2)])
    result = merged(now, limits(hugepage_limits=[page(page_size="2MB", limit=5)]))
    assert {p.page_size: p.limit for p in result.hugepage_limits} == {"2MB": 5, "1GB": 2}


def test_an_impossible_oom_score_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="from -1000 to 1000"):
        merged(limits(), limits(oom_score_adj=1001))


def test_the_configuration_keeps_its_devices() -> None:
    config = {"process": {}, "linux": {"resources": {"devices": ["d"], "cpu": {"shares": 1}},
                                       "x": 1}}  # fmt: skip
    new = updated_config(config, limits(memory_limit_in_bytes=5), 1)
    assert new["linux"]["resources"] == {"memory": {"limit": 5, "swap": 5}, "devices": ["d"]}
    assert new["linux"]["x"] == 1
    assert config["linux"]["resources"]["cpu"] == {"shares": 1}  # type: ignore[index]
    with pytest.raises(TranslationError, match="cgroup v2"):
        updated_config(config, limits(unified={"memory.high": "1"}), 1)


def test_less_memory_than_is_used_is_refused() -> None:
    memory = MemoryStats(100, 90, 80, 0, 0, None, None)
    check_memory("/x", 80, memory)
    check_memory("/x", -1, memory)
    check_memory("/x", 1, None)
    with pytest.raises(CgroupError, match="use 80 bytes") as caught:
        check_memory("/x", 79, memory)
    assert caught.value.errno == errno.EBUSY


def test_refusals_are_told_apart_from_failures(tmp_path: Path) -> None:
    cgroup = CgroupsV2(tmp_path).cgroup("/a")
    (tmp_path / "a").mkdir()
    with pytest.raises(NotReadyError, match="busy"), refusals_told(cgroup):
        raise CgroupError(errno.EBUSY, "/x", "busy")
    with pytest.raises(CgroupError), refusals_told(cgroup):
        raise CgroupError(errno.EPERM, "/x", "no")
    (tmp_path / "a").rmdir()
    with pytest.raises(NotReadyError, match="ended meanwhile"), refusals_told(cgroup):
        raise CgroupError(errno.ENOENT, "/x", "gone")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"cpu_shares": 5}, {"cpu_shares": 5}, {}),
        ({"cpu_shares": 5}, {"cpu_shares": 7, "cpu_quota_us": 9},
         {"cpu_shares": 5, "cpu_quota_us": -1}),
        ({"memory_limit": 10, "memory_swap": 10}, {"memory_limit": 10, "memory_swap": 20},
         {"memory_limit": 10, "memory_swap": 10}),
        ({}, {"memory_limit": 10, "memory_swap": 10}, {"memory_limit": -1, "memory_swap": -1}),
        ({}, {"cpuset_cpus": "1"}, {}),
    ],
)  # fmt: skip
def test_undoing_a_change(
    before: dict[str, Any], after: dict[str, Any], expected: dict[str, Any]
) -> None:
    undone = undoing(LinuxResources(**before), LinuxResources(**after))
    assert undone == LinuxResources(**expected)
