"""Where an overlay's upper directory can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeletpy_common.overlays import kind_of, kind_of_device

MOUNTS = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
40 22 0:44 / /mnt rw,relatime shared:1 - overlay overlay rw,lowerdir=/a
odd
"""


@pytest.mark.parametrize(("device", "kind"), [((8, 1), "ext4"), ((0, 44), "overlay"), ((0, 7), "")])
def test_kinds_by_their_device(device: tuple[int, int], kind: str) -> None:
    major, minor = device
    assert kind_of_device(major << 8 | minor, MOUNTS) == kind


def test_a_directory_that_is_yet_to_be_made(tmp_path: Path) -> None:
    assert kind_of(tmp_path / "not/there") == kind_of(tmp_path)
