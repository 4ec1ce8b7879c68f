from __future__ import annotations

from pathlib import Path

import pytest

from kubeletpy.volumes.mountinfo import Mount, parse
from kubeletpy.volumes.paths import EMPTY_DIR, PodPaths


def test_layout() -> None:
    paths = PodPaths(Path("/root-dir"), "u-1")
    assert str(paths.directory) == "/root-dir/pods/u-1"
    assert str(paths.volume(EMPTY_DIR, "data")) == (
        "/root-dir/pods/u-1/volumes/kubernetes.io~empty-dir/data"
    )
    assert str(paths.etc_hosts) == "/root-dir/pods/u-1/etc-hosts"
    assert str(paths.termination_log("main", 2)) == (
        "/root-dir/pods/u-1/containers/main/2.termination-log"
    )


@pytest.mark.parametrize("uid", ["", ".", "..", "a/b", "../x", "-a", "a" * 64, "a\n"])
def test_a_uid_is_no_path(uid: str) -> None:
    with pytest.raises(ValueError, match="uid"):
        PodPaths(Path("/"), uid)


def test_mountinfo() -> None:
    text = (
        "22 1 0:21 / /proc rw,nosuid shared:5 - proc proc rw\n"
        "23 1 0:5 / /a\\040b\\134c rw - tmpfs tmpfs rw,size=1k\n"
    )
    assert parse(text) == [
        Mount("/proc", "proc", "0:21", "/"),
        Mount("/a b\\c", "tmpfs", "0:5", "/"),
    ]
