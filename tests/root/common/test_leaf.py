"""A daemon whose containers are below its own cgroup of v2 gets out of their way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeletpy_common.cgroups.v2.controllers import Core
from kubeletpy_common.cgroups.v2.leaf import LEAF

pytestmark = pytest.mark.root

CODE = """
import os, subprocess, sys
from pathlib import Path
from kubeletpy_common.cgroups.v2.leaf import enable
directory = Path(sys.argv[1])
(directory / "cgroup.procs").write_text("0")
child = subprocess.Popen(["sleep", "60"])
try:
    try:
        (directory / "cgroup.subtree_control").write_text("+" + sys.argv[2])
    except OSError as error:
        print(error.errno)
    enable(directory, sys.argv[2])
    print((directory / "cgroup.procs").read_text().split())
    print(sorted(map(int, (directory / sys.argv[3] / "cgroup.procs").read_text().split()))
          == sorted([os.getpid(), child.pid]))
    print((directory / "cgroup.subtree_control").read_text().strip())
finally:
    child.kill()
    child.wait()
"""


@pytest.fixture
def delegated() -> Iterator[tuple[Path, str]]:
    """A cgroup of v2 and a controller that it can give to its children."""
    mounts = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
    root = next(Path(one) for one in mounts if Path(one, "cgroup.controllers").exists())
    offered = Core(root).controllers
    if not offered:
        pytest.skip("a container on a machine that gives it no controller of cgroup v2")
    name = next(one for one in ("memory", "hugetlb") if one in offered)
    before = Core(root).subtree_control
    Core(root).subtree_control = f"+{name}"
    made = root / f"kptest-{os.urandom(4).hex()}"
    made.mkdir()
    yield made, name
    if (made / LEAF).exists():
        (made / LEAF).rmdir()
    made.rmdir()
    if name not in before:
        Core(root).subtree_control = f"-{name}"


def test_it_moves_into_a_leaf_with_its_children(delegated: tuple[Path, str]) -> None:
    directory, name = delegated
    done = subprocess.run(
        [sys.executable, "-P", "-c", CODE, str(directory), name, LEAF], capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # EBUSY is what the kernel says before.
    assert done.stdout.splitlines() == ["16", "[]", "True", name]
