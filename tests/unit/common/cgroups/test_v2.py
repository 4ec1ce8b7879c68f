"""Cgroup v2: where nothing can be made, what is left alone; on directories that look like one."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeletpy_common.cgroups import CgroupError, CgroupsV2, LinuxResources
from kubeletpy_common.cgroups.v2.cgroup import (
    controllers_to_enable,
    missing_controllers,
    threads_only,
)

ALL = "cpuset cpu io memory hugetlb pids rdma misc"


def group(path: Path, controllers: str = ALL, kind: str = "") -> Path:
    path.mkdir(exist_ok=True)
    (path / "cgroup.controllers").write_text(f"{controllers}\n")
    (path / "cgroup.subtree_control").write_text(f"{controllers}\n")
    if kind:
        (path / "cgroup.type").write_text(f"{kind}\n")
    return path


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ("domain\n", False),
        ("", False),
        ("threaded\n", True),
        ("domain threaded\n", True),
        ("domain invalid\n", True),
    ],
)
def test_only_domains_hold_containers(tmp_path: Path, kind: str, refused: bool) -> None:
    assert bool(threads_only(kind)) == refused
    root = group(tmp_path)
    group(root / "a", kind=kind.strip())
    cgroup = CgroupsV2(root).cgroup("/a/b")
    if not refused:
        cgroup.create()
        assert (root / "a/b").is_dir()
        return
    with pytest.raises(CgroupError, match=f"cgroup.type is '{kind.strip()}'.*in a domain") as error:
        cgroup.create()
    assert error.value.filename == str(root / "a")
    assert not (root / "a/b").exists()


@pytest.mark.parametrize(
    ("offered", "missing"),
    [(ALL, []), ("cpuset memory", ["cpu", "pids"]), ("", ["cpu", "memory", "pids"])],
)
def test_missing_controllers_are_named(tmp_path: Path, offered: str, missing: list[str]) -> None:
    assert missing_controllers(frozenset(offered.split())) == missing
    root = group(tmp_path)
    group(root / "a", offered)
    cgroup = CgroupsV2(root).cgroup("/a/b")
    if not missing:
        cgroup.create()
        return
    text = f"lacks {', '.join(missing)}; .*{root}/cgroup.subtree_control"
    with pytest.raises(CgroupError, match=text):
        cgroup.create()
    assert not (root / "a/b").exists()


def test_domain_controllers_are_enabled_first() -> None:
    wanted = controllers_to_enable(frozenset(ALL.split()), frozenset({"io"}))
    assert wanted == ["memory", "hugetlb", "rdma", "misc", "cpu", "pids", "cpuset"]


@pytest.mark.parametrize(
    ("partition", "cpus"),
    [("member", "0-1"), ("root", "3"), ("isolated", "3"), ("root invalid (x)", "3"), (None, "0-1")],
)
def test_a_partition_of_cpus_is_left_alone(
    tmp_path: Path, partition: str | None, cpus: str, caplog: pytest.LogCaptureFixture
) -> None:
    directory = group(group(tmp_path) / "a")
    (directory / "cpuset.cpus").write_text("3")
    (directory / "cpuset.mems").write_text("")
    if partition is not None:
        (directory / "cpuset.cpus.partition").write_text(f"{partition}\n")
    CgroupsV2(tmp_path).cgroup("/a").apply(LinuxResources(cpuset_cpus="0-1", cpuset_mems="0"))
    assert (directory / "cpuset.cpus").read_text() == cpus
    assert (directory / "cpuset.mems").read_text() == "0"
    assert ("it is a partition" in caplog.text) == (cpus == "3")
