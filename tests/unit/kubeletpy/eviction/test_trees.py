from __future__ import annotations

import os
from pathlib import Path

from kubeletpy.eviction.trees import file_usage, tree_usage

BLOCK = 4096


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def test_bytes_and_inodes(tmp_path: Path) -> None:
    empty = tree_usage(tmp_path)
    write(tmp_path / "a" / "one", 5 * BLOCK)
    write(tmp_path / "two", 3 * BLOCK)
    used = tree_usage(tmp_path)
    assert used.inodes == empty.inodes + 3
    assert used.bytes - empty.bytes >= 8 * BLOCK
    assert tree_usage(tmp_path / "none").bytes == 0


def test_names_of_one_file_count_once(tmp_path: Path) -> None:
    write(tmp_path / "one", 10 * BLOCK)
    before = tree_usage(tmp_path)
    os.link(tmp_path / "one", tmp_path / "again")
    assert tree_usage(tmp_path) == before


def test_links_lead_nowhere(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    write(outside / "big", 100 * BLOCK)
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    assert tree_usage(inside).bytes < 10 * BLOCK
    assert tree_usage(inside).inodes == 2


def test_sparse_files_take_what_they_take(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(2**30)
    assert tree_usage(tmp_path).bytes < 2**20


def test_nothing_hides_in_the_depth(tmp_path: Path) -> None:
    """Deeper than any path can name, as a pod may nest what it likes."""
    depth, name = 120, "d" * 100
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        deeper = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    file = os.open("hidden", os.O_WRONLY | os.O_CREAT, dir_fd=here)
    os.write(file, b"x" * 50 * BLOCK)
    os.close(file)
    used = tree_usage(tmp_path)
    assert used.inodes == depth + 2
    assert used.bytes >= 50 * BLOCK
    # pytest cannot remove what it cannot name.
    os.unlink("hidden", dir_fd=here)
    for _ in range(depth):
        parent = os.open("..", os.O_RDONLY, dir_fd=here)
        os.close(here)
        os.rmdir(name, dir_fd=parent)
        here = parent
    os.close(here)


def test_one_file(tmp_path: Path) -> None:
    write(tmp_path / "hosts", 2 * BLOCK)
    assert file_usage(tmp_path / "hosts").bytes >= 2 * BLOCK
    assert file_usage(tmp_path / "none").inodes == 0
