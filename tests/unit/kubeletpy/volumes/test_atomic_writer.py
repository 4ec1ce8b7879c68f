from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from kubeletpy.volumes.atomic_writer import write, written
from kubeletpy.volumes.payload import PayloadError, ProjectedFile


def files(**content: str) -> dict[str, ProjectedFile]:
    return {
        path.replace("__", "/"): ProjectedFile(text.encode(), 0o640)
        for path, text in content.items()
    }


def seen(directory: Path) -> dict[str, str]:
    """What a container sees, hidden entries left out."""
    return {
        str(path.relative_to(directory)): path.read_text()
        for root, _, names in os.walk(directory, followlinks=True)
        for path in (Path(root, name) for name in names)
        if not path.relative_to(directory).parts[0].startswith("..")
    }


def hidden(directory: Path) -> list[str]:
    return sorted(name for name in os.listdir(directory) if name.startswith(".."))


def test_layout(tmp_path: Path) -> None:
    assert not written(tmp_path)
    assert write(tmp_path, files(name="n", etc__hosts="h"))
    assert written(tmp_path)
    assert seen(tmp_path) == {"name": "n", "etc/hosts": "h"}
    assert (tmp_path / "name").readlink() == Path("..data/name")
    assert (tmp_path / "etc").readlink() == Path("..data/etc")
    target = str((tmp_path / "..data").readlink())
    assert re.fullmatch(r"\.\.\d{4}_\d\d_\d\d_\d\d_\d\d_\d\d\.\w+", target)
    assert hidden(tmp_path) == sorted(["..data", target])
    assert (tmp_path / "etc" / "hosts").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / target / "etc").stat().st_mode & 0o777 == 0o755


def test_nothing_changes_without_a_change(tmp_path: Path) -> None:
    write(tmp_path, files(a="1"))
    before = (tmp_path / "..data").readlink()
    assert not write(tmp_path, files(a="1"))
    assert (tmp_path / "..data").readlink() == before


def test_update_in_one_step(tmp_path: Path) -> None:
    write(tmp_path, files(a="1", old="x", deep__one="1", deep__two="2"))
    held = os.open(tmp_path / "..data", os.O_RDONLY)
    beside: list[dict[str, str]] = []
    assert write(
        tmp_path, files(a="2", new="y", deep__two="3"), lambda: beside.append(seen(tmp_path))
    )
    os.close(held)
    # Until the link is swapped all of the old is there.
    assert beside == [{"a": "1", "old": "x", "deep/one": "1", "deep/two": "2"}]
    assert seen(tmp_path) == {"a": "2", "new": "y", "deep/two": "3"}
    assert len(hidden(tmp_path)) == 2
    assert not (tmp_path / "old").is_symlink()


def test_a_file_becomes_a_directory(tmp_path: Path) -> None:
    write(tmp_path, files(a="1"))
    write(tmp_path, files(a__b="2"))
    assert seen(tmp_path) == {"a/b": "2"}


def test_empty(tmp_path: Path) -> None:
    assert write(tmp_path, {})
    assert written(tmp_path)
    assert not write(tmp_path, {})
    assert write(tmp_path, files(a="1"))
    assert write(tmp_path, {})
    assert seen(tmp_path) == {}


def test_a_mount_point_of_another_volume_is_kept(tmp_path: Path) -> None:
    (tmp_path / "nested").mkdir()
    write(tmp_path, files(a="1"))
    write(tmp_path, files(b="1", nested="not seen, the directory is in its place"))
    assert (tmp_path / "nested").is_dir()
    assert (tmp_path / "b").read_text() == "1"


def test_what_a_killed_kubelet_left_goes(tmp_path: Path) -> None:
    write(tmp_path, files(a="1", b="1"))
    (tmp_path / "..2020_01_01_00_00_00.dead").mkdir()
    (tmp_path / "..data_tmp").symlink_to("..2020_01_01_00_00_00.dead")
    (tmp_path / "b").unlink()
    assert not write(tmp_path, files(a="1", b="1"))
    assert seen(tmp_path) == {"a": "1", "b": "1"}
    assert len(hidden(tmp_path)) == 2


@pytest.mark.parametrize("target", ["../canary", "/", "..", "."])
def test_a_link_that_leads_away_is_neither_read_nor_removed(tmp_path: Path, target: str) -> None:
    """CVE-2017-1002102: what ``..data`` names is removed after an update."""
    canary, volume = tmp_path / "canary", tmp_path / "volume"
    canary.mkdir()
    volume.mkdir()
    (canary / "file").write_text("alive")
    (volume / "..data").symlink_to(target)
    assert write(volume, files(a="1"))
    assert write(volume, files(a="2"))
    assert seen(volume) == {"a": "2"}
    assert (canary / "file").read_text() == "alive"


def test_a_failure_leaves_the_old(tmp_path: Path) -> None:
    write(tmp_path, files(a="1"))

    def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        write(tmp_path, files(a="2"), fail)
    with pytest.raises(PayloadError):
        write(tmp_path, files(a="2", a__b="3"))
    assert seen(tmp_path) == {"a": "1"}
    assert len(hidden(tmp_path)) == 2
