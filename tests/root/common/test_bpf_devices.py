"""The device program of v2, loaded and asked by the kernel.

It needs no controller, so it is tried on the v2 hierarchy of hybrid machines, too.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeletpy_common.cgroups import CgroupsV1, CgroupsV2, DeviceRule, LinuxResources, detect
from kubeletpy_common.linux import bpf

pytestmark = pytest.mark.root


@pytest.fixture
def root() -> Path:
    hierarchy = detect()
    found = hierarchy.unified if isinstance(hierarchy, CgroupsV1) else Path("/sys/fs/cgroup")
    assert found is not None, "no cgroup v2 is mounted; mount it at /sys/fs/cgroup/unified"
    return found


@pytest.fixture
def directory(root: Path) -> Iterator[Path]:
    made = root / f"kptest-{os.urandom(4).hex()}"
    made.mkdir()
    yield made
    made.rmdir()


def access(cgroup: Path, tmp_path: Path) -> dict[str, bool]:
    """Return which of some accesses a child in ``cgroup`` is allowed."""
    code = """
import os, stat, sys
open(sys.argv[1], 'w').write('0')
def tried(name, action, *arguments):
    try:
        action(*arguments)
        print(name, 1)
    except PermissionError:
        print(name, 0)
tried('null-rw', os.open, '/dev/null', os.O_RDWR)
tried('zero-r', os.open, '/dev/zero', os.O_RDONLY)
tried('zero-w', os.open, '/dev/zero', os.O_WRONLY)
tried('zero-rw', os.open, '/dev/zero', os.O_RDWR)
tried('full-r', os.open, '/dev/full', os.O_RDONLY)
tried('mknod-full', os.mknod, sys.argv[2] + '/full', 0o600 | stat.S_IFCHR, os.makedev(1, 7))
tried('mknod-block', os.mknod, sys.argv[2] + '/block', 0o600 | stat.S_IFBLK, os.makedev(7, 0))
"""
    output = subprocess.run(
        [sys.executable, "-S", "-E", "-c", code, str(cgroup / "cgroup.procs"), str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    ).stdout
    for node in tmp_path.iterdir():
        node.unlink()
    return {name: value == "1" for name, value in map(str.split, output.splitlines())}


NULL = DeviceRule(True, "c", 1, 3)
ZERO_READ = DeviceRule(True, "c", 1, 5, "r")


def test_the_kernel_enforces_the_rules(root: Path, directory: Path, tmp_path: Path) -> None:
    before = access(directory, tmp_path)
    assert all(before.values()), before

    cgroup = CgroupsV2(root).cgroup(f"/{directory.name}")
    cgroup.apply(LinuxResources(devices=(DeviceRule(False), NULL, ZERO_READ)))
    assert access(directory, tmp_path) == {
        "null-rw": True, "zero-r": True, "zero-w": False, "zero-rw": False, "full-r": False,
        "mknod-full": False, "mknod-block": False,
    }  # fmt: skip


def test_a_second_list_replaces_the_first(root: Path, directory: Path, tmp_path: Path) -> None:
    cgroup = CgroupsV2(root).cgroup(f"/{directory.name}")
    cgroup.apply(LinuxResources(devices=(NULL,)))
    mknod_all = DeviceRule(True, "c", None, None, "m")
    cgroup.apply(LinuxResources(devices=(DeviceRule(True, "c", 1, 7, "r"), mknod_all)))
    assert access(directory, tmp_path) == {
        "null-rw": False, "zero-r": False, "zero-w": False, "zero-rw": False, "full-r": True,
        "mknod-full": True, "mknod-block": False,
    }  # fmt: skip
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert len(bpf.device_programs(descriptor)) == 1
        cgroup.apply(LinuxResources(devices=(DeviceRule(True),)))
        assert bpf.device_programs(descriptor) == []
    finally:
        os.close(descriptor)
    assert all(access(directory, tmp_path).values())


def test_exceptions_of_a_default_that_allows(root: Path, directory: Path, tmp_path: Path) -> None:
    no_write = DeviceRule(False, "c", 1, 5, "w")
    CgroupsV2(root).cgroup(f"/{directory.name}").apply(
        LinuxResources(devices=(DeviceRule(True), no_write))
    )
    assert access(directory, tmp_path) == {
        "null-rw": True, "zero-r": True, "zero-w": False, "zero-rw": False, "full-r": True,
        "mknod-full": True, "mknod-block": True,
    }  # fmt: skip


def test_many_rules_pass_the_verifier(root: Path, directory: Path, tmp_path: Path) -> None:
    rules = tuple(DeviceRule(True, "c", 1000, minor, "rw") for minor in range(500))
    CgroupsV2(root).cgroup(f"/{directory.name}").apply(LinuxResources(devices=(*rules, NULL)))
    allowed = access(directory, tmp_path)
    assert [name for name, value in allowed.items() if value] == ["null-rw"]


def test_a_refused_program_says_what_the_verifier_said() -> None:
    # Register 0 is never set.
    with pytest.raises(OSError, match=r"verifier said: .*R0 !read_ok") as caught:
        bpf.load_device_program([bpf.leave()])
    assert caught.value.errno == errno.EACCES
    assert "BPF_PROG_LOAD" in str(caught.value)
