"""Files for metrics, from plain directories."""

from __future__ import annotations

from pathlib import Path

from kubeletpy_common.cgroups import CgroupsV1, CgroupsV2
from kubeletpy_common.cgroups.details import (
    BlockIo,
    CgroupDetails,
    parse_blkio,
    parse_io_stat,
    read_details,
)


def write(directory: Path, files: dict[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text)


def test_v1(tmp_path: Path) -> None:
    write(
        tmp_path / "memory" / "a",
        {
            "memory.stat": "pgfault 1\npgmajfault 2\ntotal_cache 3\ntotal_mapped_file 4\n"
            "total_pgfault 5\ntotal_pgmajfault 6\n",
            "memory.kmem.usage_in_bytes": "7\n",
            "memory.max_usage_in_bytes": "8\n",
            "memory.failcnt": "9\n",
        },
    )
    write(
        tmp_path / "blkio" / "a",
        {
            "blkio.throttle.io_service_bytes_recursive": "8:0 Read 512\n8:0 Total 512\nTotal 512\n",
            "blkio.throttle.io_serviced_recursive": "8:0 Read 2\n",
        },
    )
    write(
        tmp_path / "hugetlb" / "a",
        {
            "hugetlb.2MB.usage_in_bytes": "10\n",
            "hugetlb.2MB.max_usage_in_bytes": "20\n",
            "hugetlb.2MB.rsvd.usage_in_bytes": "30\n",
        },
    )
    roots = {name: tmp_path / name for name in ("memory", "blkio", "hugetlb")}
    details = read_details(CgroupsV1(roots).cgroup("/a"), 1)
    memory = details.memory
    assert (memory.cache, memory.mapped_file, memory.kernel) == (3, 4, 7)
    assert (memory.peak, memory.limit_hits) == (8, 9)
    assert (memory.faults, memory.major_faults) == (1, 2)
    assert (memory.tree_faults, memory.tree_major_faults) == (5, 6)
    assert details.block_io == (
        BlockIo((8, 0), "Read", 512, 2),
        BlockIo((8, 0), "Total", 512, 0),
    )
    assert details.hugepages == {"2MB": (10, 20)}


def test_v2(tmp_path: Path) -> None:
    write(
        tmp_path / "a",
        {
            "memory.stat": "file 3\nfile_mapped 4\nkernel 7\npgfault 5\npgmajfault 6\n",
            "memory.events": "low 0\nmax 9\n",
            "memory.peak": "8\n",
            "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n",
            "hugetlb.1GB.current": "10\n",
        },
    )
    details = read_details(CgroupsV2(tmp_path).cgroup("/a"), 2)
    memory = details.memory
    assert (memory.cache, memory.kernel, memory.peak, memory.limit_hits) == (3, 7, 8, 9)
    assert (memory.faults, memory.tree_faults) == (5, 5)
    assert details.block_io == (
        BlockIo((8, 0), "Read", 1, 3),
        BlockIo((8, 0), "Write", 2, 4),
        BlockIo((8, 0), "Discard", 5, 6),
    )
    assert details.hugepages == {"1GB": (10, 10)}


def test_a_cgroup_that_is_gone_is_an_empty_reading(tmp_path: Path) -> None:
    assert read_details(CgroupsV2(tmp_path).cgroup("/a"), 2) == CgroupDetails()
    assert read_details(CgroupsV1({}).cgroup("/a"), 1) == CgroupDetails()


def test_odd_lines_are_skipped() -> None:
    assert parse_blkio("x:y Read 5\n8:0 Fancy 5\n8:0 Read many\n8:0\n") == {}
    assert list(parse_io_stat("loop rbytes=1\n\n8:1 cost.usage=5\n")) == []
