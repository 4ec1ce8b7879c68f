"""Limits of RDMA devices, on plain files laid out like cgroupfs."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kubeletpy_common.cgroups import Cgroup, CgroupError, CgroupsV1, CgroupsV2, LinuxResources
from kubeletpy_common.cgroups.rdma import RdmaLimit, from_oci

ONE = LinuxResources(rdma=from_oci({"mlx5_0": {"hcaHandles": 3, "hcaObjects": 10000}}))


def of_version(version: int, root: Path) -> Cgroup:
    directories = CgroupsV2(root) if version == 2 else CgroupsV1({"rdma": root})
    return directories.cgroup("/pod")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"hcaHandles": 3, "hcaObjects": 10000}, "mlx5_0 hca_handle=3 hca_object=10000"),
        ({"hcaHandles": 0}, "mlx5_0 hca_handle=0"),
        ({"hcaObjects": 2**32 - 1}, "mlx5_0 hca_object=4294967295"),
    ],
)
def test_what_is_written(given: dict[str, int], line: str) -> None:
    [(device, limit)] = from_oci({"mlx5_0": given}).items()
    assert limit.line(device) == line


def test_it_is_read_with_all_others() -> None:
    found = LinuxResources.from_oci({"rdma": {"rxe0": {"hcaHandles": 1}}})
    assert found.rdma == {"rxe0": RdmaLimit(handles=1)}
    assert LinuxResources.from_oci({"rdma": {}}).rdma == {}


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_have_the_same_file(tmp_path: Path, version: int) -> None:
    (tmp_path / "pod").mkdir()
    (tmp_path / "pod/rdma.max").write_text("mlx5_0 hca_handle=max hca_object=max\n")
    of_version(version, tmp_path).apply(ONE)
    assert (tmp_path / "pod/rdma.max").read_text() == "mlx5_0 hca_handle=3 hca_object=10000"


@pytest.mark.parametrize("version", [1, 2])
def test_without_the_controller_it_is_named(tmp_path: Path, version: int) -> None:
    (tmp_path / "pod").mkdir()
    with pytest.raises(CgroupError, match="no controller rdma") as caught:
        of_version(version, tmp_path).apply(ONE)
    assert caught.value.errno == errno.ENODEV
    assert "mlx5_0" in str(caught.value)
    assert "CONFIG_CGROUP_RDMA" in caught.value.remedy


def test_v1_without_the_hierarchy_names_it(tmp_path: Path) -> None:
    with pytest.raises(CgroupError, match="no controller rdma"):
        CgroupsV1({"memory": tmp_path}).cgroup("/pod").apply(ONE)
    CgroupsV1({"memory": tmp_path}).cgroup("/pod").apply(LinuxResources())


def test_a_device_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pod").mkdir()
    (tmp_path / "pod/rdma.max").write_text("")

    def refuse(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(CgroupError, match="cannot limit the RDMA device mlx5_0") as caught:
        of_version(2, tmp_path).apply(ONE)
    assert "/sys/class/infiniband" in caught.value.remedy
