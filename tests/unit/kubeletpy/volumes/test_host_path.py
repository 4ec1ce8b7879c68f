from __future__ import annotations

import socket
from pathlib import Path

import pytest

from kubeletpy.api.volumes import HostPathVolumeSource
from kubeletpy.volumes.errors import VolumeError
from kubeletpy.volumes.host_path import prepare


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("directory")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("directory", ""),
        ("missing", ""),
        ("directory", "Directory"),
        ("link", "Directory"),
        ("directory", "DirectoryOrCreate"),
        ("a/b/c", "DirectoryOrCreate"),
        ("file", "File"),
        ("file", "FileOrCreate"),
        ("new", "FileOrCreate"),
        ("socket", "Socket"),
        ("/dev/null", "CharDevice"),
    ],
)
def test_allowed(place: Path, path: str, kind: str) -> None:
    wanted = str(place / path)
    assert prepare("data", HostPathVolumeSource(path=wanted, type=kind)) == wanted
    if kind:
        assert Path(wanted).exists()
    assert not (place / "missing").exists()


@pytest.mark.parametrize(
    ("path", "kind", "reason"),
    [
        ("file", "Directory", "is not a directory"),
        ("missing", "Directory", "does not exist"),
        ("file", "DirectoryOrCreate", "is not a directory"),
        ("directory", "File", "is not a file"),
        ("directory", "FileOrCreate", "is not a file"),
        ("no/parent", "FileOrCreate", "cannot be made"),
        ("file", "Socket", "is not a socket"),
        ("file", "BlockDevice", "is not a block device"),
        ("/dev/null", "BlockDevice", "is not a block device"),
        ("file/below", "Directory", "check failed"),
    ],
)
def test_refused(place: Path, path: str, kind: str, reason: str) -> None:
    with pytest.raises(VolumeError, match=f"volume 'data': .*{reason}"):
        prepare("data", HostPathVolumeSource(path=str(place / path), type=kind))
