from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kubeletpy.volumes.ownership import change, mismatch, owned_mode


@pytest.mark.parametrize(
    ("mode", "read_only", "expected"),
    [
        (stat.S_IFREG | 0o644, False, 0o664),
        (stat.S_IFREG | 0o600, True, 0o640),
        (stat.S_IFREG | 0o4755, False, 0o4775),
        (stat.S_IFREG, False, 0o660),
        (stat.S_IFDIR | 0o700, False, 0o2770),
        (stat.S_IFDIR | 0o755, True, 0o2755),
        (stat.S_IFIFO | 0o600, False, 0o660),
    ],
)
def test_modes(mode: int, read_only: bool, expected: int) -> None:
    assert owned_mode(mode, read_only=read_only) == expected


@pytest.mark.parametrize(
    ("mode", "other", "expected"),
    [
        (0o2770, False, False),
        (0o2777, False, False),
        (0o2770, True, True),
        (0o770, False, True),
        (0o2750, False, True),
    ],
)
def test_mismatch_of_the_root(tmp_path: Path, mode: int, other: bool, expected: bool) -> None:
    tmp_path.chmod(mode)
    status = tmp_path.stat()
    group = status.st_gid + other
    assert mismatch(status, group, read_only=False) == expected


def test_change_never_goes_through_links(tmp_path: Path) -> None:
    canary, volume = tmp_path / "canary", tmp_path / "volume"
    (volume / "deep").mkdir(parents=True)
    canary.mkdir(mode=0o700)
    (canary / "file").touch(mode=0o600)
    (volume / "deep" / "file").touch(mode=0o600)
    (volume / "directory").symlink_to(canary)
    (volume / "deep" / "link").symlink_to(canary / "file")
    assert change(volume, os.getgid()) == 0
    assert (volume / "deep" / "file").stat().st_mode & 0o7777 == 0o660
    assert (volume / "deep").stat().st_mode & 0o2770 == 0o2770
    assert volume.stat().st_mode & 0o2770 == 0o2770
    assert canary.stat().st_mode & 0o7777 == 0o700
    assert (canary / "file").stat().st_mode & 0o7777 == 0o600


def test_policy(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    (tmp_path / "file").touch(mode=0o600)
    assert change(tmp_path, tmp_path.stat().st_gid, policy="OnRootMismatch") == 0
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert change(tmp_path, None) == 0
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    change(tmp_path, tmp_path.stat().st_gid, policy="Always")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o660
