from __future__ import annotations

import errno
from pathlib import Path

import pytest

from kubeletpy_common.cgroups import CgroupError, CgroupsV1, CgroupsV2, missing_controllers
from kubeletpy_common.cgroups.detection import cgroup_mounts, choose

ROOT = Path("/sys/fs/cgroup")
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
HYBRID = """\
30 23 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:12 - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
35 30 0:31 / /sys/fs/cgroup/net_cls rw - cgroup cgroup rw,net_cls
36 30 0:32 / /elsewhere/pids rw - cgroup cgroup rw,pids
"""


def test_v2_alone() -> None:
    hierarchy = choose(ROOT, cgroup_mounts(V2))
    assert isinstance(hierarchy, CgroupsV2)
    assert hierarchy.root == ROOT


def test_hybrid_is_v1() -> None:
    hierarchy = choose(ROOT, cgroup_mounts(HYBRID))
    assert isinstance(hierarchy, CgroupsV1)
    assert hierarchy.roots == {
        "cpu": ROOT / "cpu,cpuacct",
        "cpuacct": ROOT / "cpu,cpuacct",
        "memory": ROOT / "memory",
    }
    assert hierarchy.named == ROOT / "systemd"
    assert hierarchy.unified == ROOT / "unified"
    # A hierarchy of two controllers is joined once.
    files = hierarchy.cgroup("/a").procs_files()
    assert files == [
        ROOT / name / "a" / "cgroup.procs"
        for name in ("cpu,cpuacct", "memory", "systemd", "unified")
    ]
    missing = {entry.name: entry.remedy for entry in missing_controllers(hierarchy)}
    assert set(missing) == {"cpuset", "devices", "freezer", "pids"}
    assert "mount -t cgroup -o pids" in missing["pids"]


@pytest.mark.parametrize(
    "mountinfo",
    ["", HYBRID.splitlines()[1], V2 + "\n40 23 0:50 / /sys/fs/cgroup rw - tmpfs none rw",
     "garbage\n1 2 3 -"],
    ids=["none", "v2-in-a-corner", "hidden", "garbage"],
)  # fmt: skip
def test_nothing_of_use(mountinfo: str) -> None:
    with pytest.raises(CgroupError) as caught:
        choose(ROOT, cgroup_mounts(mountinfo))
    assert caught.value.errno == errno.ENOENT
    assert "mount" in caught.value.remedy


def test_mount_points_with_spaces() -> None:
    line = V2.replace("/sys/fs/cgroup", "/a\\040b")
    assert cgroup_mounts(line)[0].path == Path("/a b")


def test_missing_controllers_of_v2(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io\n")
    missing = missing_controllers(CgroupsV2(tmp_path))
    assert [entry.name for entry in missing] == ["memory", "pids"]
    assert "memory" in missing[0].remedy
