from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from kubeletpy_common.atomic import write_atomic


def test_the_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_atomic(path, "old", sync=True)
    write_atomic(path, b"new", mode=0o640)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["state"]


def test_a_full_disk_is_told_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "state"
    write_atomic(path, "old")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["state"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir()
    (path / "keep").write_text("")
    with pytest.raises(OSError, match="directory"):
        write_atomic(path, "new")
    assert os.listdir(tmp_path) == ["state"]
