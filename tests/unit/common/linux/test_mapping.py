from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kubeletpy_common.linux.processes import keep_mapped

_PROGRAM = """
import os, sys
from kubeletpy_common.linux.processes import keep_mapped
before = os.listdir("/proc/self/fd")
keep_mapped(sys.argv[1])
assert os.listdir("/proc/self/fd") == before
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
with open("/proc/self/maps") as maps:
    assert sys.argv[1] in maps.read(), "the forked child shows it"
os.execv("/bin/cat", ["cat", "/proc/self/maps"])
"""


def test_a_mapping_shows_the_file_until_execve(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text("pass\n")
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(path)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "/cat" in done.stdout
    assert str(path) not in done.stdout


def test_what_cannot_be_mapped_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        keep_mapped(tmp_path / "absent")
    with pytest.raises(OSError, match="mmap"):
        keep_mapped(tmp_path)
