"""Directories of volumes, and what pods may have left in them."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from controlplane.controllers.volumes.directories import Directories, DirectoryError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def test_a_directory_is_open_to_pods_and_what_is_around_it_to_nobody(root: Path) -> None:
    directories = Directories(root)
    path = directories.path("fast", "pvc-1", "a", "data")
    assert path == f"{root}/fast/pvc-1_a_data"
    before = os.umask(0o077)
    try:
        directories.make("pvc-1", path, 0o777)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(os.stat(one).st_mode) for one in (root, root / "fast", path)]
    assert modes == [0o700, 0o700, 0o777]
    assert directories.unfinished() == [("pvc-1", path)]
    Path(path, "kept").touch()
    directories.make("pvc-1", path, 0o777)
    assert Path(path, "kept").exists()
    directories.told("pvc-1")
    assert directories.unfinished() == []
    root.chmod(0o755)
    directories.make("pvc-1", path, 0o770)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_a_name_is_never_longer_than_a_file_name(root: Path) -> None:
    path = Directories(root).path("", "pvc-1", "n" * 63, "c" * 253)
    assert len(os.path.basename(path)) == 255


@pytest.mark.parametrize("names", [("", "pvc-1", "a", "x/../../y"), ("..", "pvc-1", "a", "b"),
                                   ("a/b", "pvc-1", "a", "b"), ("", ".x", "a", "b")])  # fmt: skip
def test_no_name_leads_elsewhere(root: Path, names: tuple[str, str, str, str]) -> None:
    with pytest.raises(DirectoryError):
        Directories(root).path(*names)


@pytest.mark.parametrize("path", [
    "/etc", "{root}", "{root}/", "{root}/pvc-2_a_b", "{root}/../root/pvc-1_a_b", "{root}/..",
    "{root}/a/../pvc-1_a_b", "{root}/a/b/pvc-1_a_b", "{root}/.making/pvc-1_a", "{root}//pvc-1_a",
    "{root}x/pvc-1_a_b",
])  # fmt: skip
def test_nothing_else_is_removed(root: Path, path: str) -> None:
    directories = Directories(root)
    directories.make("pvc-1", directories.path("", "pvc-1", "a", "b"), 0o777)
    directories.make("pvc-2", directories.path("", "pvc-2", "a", "b"), 0o777)
    with pytest.raises(DirectoryError, match="nothing else is touched"):
        directories.remove("pvc-1", path.replace("{root}", str(root)))
    assert sorted(os.listdir(root)) == [".making", "pvc-1_a_b", "pvc-2_a_b"]


def test_what_pods_leave_behind_is_removed_and_nothing_beyond(root: Path, tmp_path: Path) -> None:
    directories = Directories(root)
    path = directories.path("", "pvc-1", "a", "b")
    directories.make("pvc-1", path, 0o777)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").touch()
    place = Path(path)
    (place / "link").symlink_to(tmp_path / "secret")
    (place / "dangling").symlink_to("nowhere")
    (place / "sub").mkdir()
    (place / "sub" / "up").symlink_to("../../..")
    os.link(tmp_path / "secret" / "file", place / "sub" / "hard")
    os.mkfifo(place / "pipe")
    # Deeper than any path may be long (4,096 bytes), and than the stack.
    assert sys.getrecursionlimit() < 1200
    opened = os.open(place, os.O_DIRECTORY)
    for _ in range(1200):
        os.mkdir("deep", dir_fd=opened)
        inner = os.open("deep", os.O_DIRECTORY, dir_fd=opened)
        os.close(opened)
        opened = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=opened))
    os.close(opened)
    directories.remove("pvc-1", path)
    assert not place.exists()
    assert (tmp_path / "secret" / "file").exists()
    directories.remove("pvc-1", path)


def test_a_link_in_the_place_of_a_volume_is_not_followed(root: Path, tmp_path: Path) -> None:
    directories = Directories(root)
    path = directories.path("fast", "pvc-1", "a", "b")
    directories.make("pvc-1", path, 0o777)
    (tmp_path / "other" / "pvc-1_a_b").mkdir(parents=True)
    os.rmdir(path)
    os.symlink(tmp_path / "other" / "pvc-1_a_b", path)
    for act in (directories.remove, lambda *_: directories.make("pvc-1", path, 0o777)):
        with pytest.raises(DirectoryError, match=r"pvc-1_a_b|symbolic"):
            act("pvc-1", path)
    os.unlink(path)
    os.rmdir(root / "fast")
    os.symlink(tmp_path / "other", root / "fast")
    with pytest.raises(DirectoryError):
        directories.remove("pvc-1", path)
    assert (tmp_path / "other" / "pvc-1_a_b").is_dir()


def test_a_root_of_someone_else_is_not_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    directories = Directories(root)
    with pytest.raises(DirectoryError, match="belongs to user"):
        directories.make("pvc-1", directories.path("", "pvc-1", "a", "b"), 0o777)
