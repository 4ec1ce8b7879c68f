from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import pytest

from kubeletpy.packaging import release
from kubeletpy.packaging.manifest import FILE_NAME, Manifest, ManifestError, Pinned
from kubeletpy_common.releases import ReleaseError, Releases


def _wheel(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, f"content of {name}")
    return path


def test_a_wheel_is_unpacked_without_scripts(tmp_path: Path) -> None:
    wheel = _wheel(
        tmp_path / "w.whl", "p/__init__.py", "p-1.data/purelib/p/more.py",
        "p-1.data/platlib/q.so", "p-1.data/scripts/p", "p-1.dist-info/RECORD",
    )  # fmt: skip
    site = tmp_path / "site"
    release.unpack(wheel, site)
    found = sorted(str(path.relative_to(site)) for path in site.rglob("*") if path.is_file())
    assert found == ["p-1.dist-info/RECORD", "p/__init__.py", "p/more.py", "q.so"]


@pytest.mark.parametrize("name", ["../x", "/x", "p/../../x", "p-1.data/purelib/../../../x", "a\\b"])
def test_a_wheel_cannot_write_elsewhere(tmp_path: Path, name: str) -> None:
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), "x")
    with pytest.raises(ManifestError, match="leads out of its place"):
        release.unpack(wheel, tmp_path / "deep" / "site")
    assert not (tmp_path / "x").exists()


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    wheel = tmp_path / "w.whl"
    wheel.write_bytes(io.BytesIO(b"nothing").getvalue())
    with pytest.raises(ManifestError, match=r"w\.whl"):
        release.unpack(wheel, tmp_path)


def test_a_python_without_wheels_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(Manifest("0.1.0", {"2.7": ()}).to_json())
    releases = Releases(tmp_path / "opt")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    with pytest.raises(ReleaseError, match=f"nothing for Python {version}.* only for 2.7"):
        release.configure(releases, tmp_path)
    assert not releases.root.exists()


def test_a_damaged_wheel_leaves_nothing(tmp_path: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    pinned = Pinned("p", "1", "p-1-py3-none-any.whl", "00", 1)
    (tmp_path / pinned.file).write_bytes(b"other")
    (tmp_path / FILE_NAME).write_text(Manifest("0.1.0", {version: (pinned,)}).to_json())
    releases = Releases(tmp_path / "opt")
    with pytest.raises(ManifestError, match="changed or damaged"):
        release.configure(releases, tmp_path)
    assert list(releases.directory.iterdir()) == []
    assert releases.current() is None


def test_what_did_not_change_is_shared(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path / "w.whl", "p/__init__.py", "p/data.json", "p-1.data/scripts/p")
    before, site = tmp_path / "before", tmp_path / "site"
    release.unpack(wheel, before)
    compiled = before / "p" / "__pycache__" / f"__init__.{sys.implementation.cache_tag}.pyc"
    compiled.parent.mkdir()
    compiled.write_bytes(b"compiled")
    assert release.share(wheel, before, site)
    for path in before.rglob("*"):
        assert path.is_dir() or path.samefile(site / path.relative_to(before))


def test_what_is_shared_is_never_written_to(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path / "w.whl", "p/a.py", "p/b.py")
    before, site = tmp_path / "before", tmp_path / "site"
    release.unpack(wheel, before)
    (before / "p/a.py").write_text("kept")
    (before / "p/b.py").unlink()
    assert not release.share(wheel, before, site)
    release.unpack(wheel, site)
    assert (before / "p/a.py").read_text() == "kept"
    assert (site / "p/a.py").read_text() == "content of p/a.py"
    assert (site / "p/b.py").read_text() == "content of p/b.py"
