"""Who moves out of a cgroup whose children get limits, and who does not."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from kubeletpy_common.cgroups import CgroupError, CgroupsV2
from kubeletpy_common.cgroups.interfaces import ControlFiles
from kubeletpy_common.cgroups.v2.leaf import LEAF, leaf_of

from .test_v2 import group

HERE = Path("/sys/fs/cgroup/x")


@pytest.mark.parametrize(
    ("processes", "kind", "moves"),
    [
        ((7,), "domain\n", True),
        ((1, 7, 8), "domain", True),
        # Others' processes are not ours to move.
        ((1, 8), "domain", False),
        ((), "domain", False),
        # The root of the hierarchy may hold processes.
        ((7,), "", False),
        # Threads cannot be parted from their process.
        ((7,), "domain threaded", False),
        ((7,), "threaded", False),
    ],
)
def test_only_our_own_cgroup_is_moved_out_of(
    processes: tuple[int, ...], kind: str, moves: bool
) -> None:
    assert leaf_of(HERE, processes, 7, kind) == (HERE / LEAF if moves else None)


class Kernel:
    """Refuses controllers while there are processes, and moves those, as the kernel does."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.plain = ControlFiles.set_property
        self.moved: list[tuple[str, str]] = []

    def write(self, files: ControlFiles, name: str, value: object) -> None:
        name = os.fsdecode(name)
        directory = Path(files.filepath(name)).parent
        if name == "cgroup.procs":
            here = self.root / "cgroup.procs"
            left = here.read_text().split()
            left.remove(str(value))
            here.write_text("".join(f"{pid}\n" for pid in left))
            self.moved.append((directory.name, str(value)))
            return
        procs = directory / "cgroup.procs"
        if name == "cgroup.subtree_control" and procs.exists() and procs.read_text():
            raise CgroupError(errno.EBUSY, directory / name, f"cannot write {value!r}")
        self.plain(files, name, value)


@pytest.mark.parametrize("own", [True, False])
def test_a_daemon_in_the_root_of_its_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    root = group(tmp_path, kind="domain")
    (root / "cgroup.subtree_control").write_text("")
    (root / "cgroup.procs").write_text(f"1\n{os.getpid() if own else 2}\n")
    kernel = Kernel(root)

    def write(files: Any, name: str, value: object) -> None:
        kernel.write(files, name, value)

    monkeypatch.setattr(ControlFiles, "set_property", write)
    cgroup = CgroupsV2(root).cgroup("/kubepods")
    if own:
        cgroup.create()
        assert kernel.moved == [(LEAF, "1"), (LEAF, str(os.getpid()))]
        assert (root / "kubepods").is_dir()
        return
    with pytest.raises(CgroupError, match=r"move .* to a leaf") as caught:
        cgroup.create()
    assert caught.value.errno == errno.EBUSY
    assert kernel.moved == []
