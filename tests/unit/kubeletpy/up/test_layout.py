"""``up`` removes whole directories, so it must never take one that is not its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeletpy.up import layout as layout_module
from kubeletpy.up.errors import UpError
from kubeletpy.up.layout import Layout, mounts_below


def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "data", tmp_path / "run")


def test_made_closed_and_removed(tmp_path: Path) -> None:
    ours = layout(tmp_path)
    ours.check()
    ours.make()
    assert ours.data.stat().st_mode & 0o777 == 0o700
    assert ours.run.stat().st_mode & 0o777 == 0o700
    ours.check()  # what is ours is taken again
    ours.remove_run()
    ours.remove_data()
    assert list(tmp_path.iterdir()) == []


def test_foreign_directory_is_neither_taken_nor_removed(tmp_path: Path) -> None:
    ours = layout(tmp_path)
    ours.data.mkdir()
    (ours.data / "precious").touch()
    with pytest.raises(UpError, match="holds files that `kubeletpy up` did not make"):
        ours.check()
    ours.remove_data()
    assert (ours.data / "precious").exists()


def test_file_and_relative_path_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(UpError, match="is not a directory"):
        layout(tmp_path).check()
    with pytest.raises(UpError, match="is not an absolute path"):
        Layout(Path("data"), tmp_path / "run").check()


def test_socket_path_must_fit_the_kernel(tmp_path: Path) -> None:
    with pytest.raises(UpError, match="too long for a socket"):
        Layout(tmp_path / "data", tmp_path / ("x" * 100)).check()


def test_mounts_are_found_by_whole_names() -> None:
    assert "/proc" in mounts_below(Path("/"))
    assert mounts_below(Path("/pro")) == []


def test_mounts_are_found_by_names_with_blanks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "info").write_text("1 0 0:1 / /a\\040b/c rw - tmpfs tmpfs rw\n")
    monkeypatch.setattr(layout_module, "_MOUNTINFO", tmp_path / "info")
    assert mounts_below(Path("/a b")) == ["/a b/c"]


def test_nothing_is_removed_while_something_is_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = layout(tmp_path)
    ours.make()
    monkeypatch.setattr(layout_module, "mounts_below", lambda directory: [f"{directory}/volume"])
    with pytest.raises(UpError, match="still mounted"):
        ours.remove_data()
    assert ours.logs.is_dir()
