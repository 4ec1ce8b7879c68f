from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kubeletpy.packaging import compiled, interpreters, release
from kubeletpy.packaging.manifest import Compiled, ManifestError, Pinned, digest

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
GOOD = "def fail():\n    raise RuntimeError\nCHOICES = {'a', 'b', 'c'} - frozenset(('a', 'd'))\n"
MODULES = {"p/__init__.py": "", "p/good.py": GOOD, "p/later.py": "def", "p/data.json": "{}"}


def wheel(directory: Path, modules: dict[str, str], name: str = "p") -> Pinned:
    path = directory / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in modules.items():
            archive.writestr(inside, text)
    return Pinned(name, "1", path.name, digest(path), path.stat().st_size)


def made(directory: Path, *wheels: Pinned) -> Compiled:
    found = interpreters.compile_wheels(PYTHON, wheels, directory)
    assert found is not None
    return found


def unpacked(directory: Path, site: Path, *wheels: Pinned) -> dict[str, list[str]]:
    return {one.sha256: release.unpack(directory / one.file, site) for one in wheels}


def test_what_was_compiled_is_what_runs(tmp_path: Path) -> None:
    pinned = wheel(tmp_path, MODULES)
    archive, site = made(tmp_path, pinned), tmp_path / "site"
    left = release.add_compiled(archive, tmp_path, unpacked(tmp_path, site, pinned), site)
    # What does not compile is for another version, and nobody tries again.
    assert left == []
    names = {path.name for path in site.rglob("*.pyc")}
    tag = sys.implementation.cache_tag
    assert names == {f"__init__.{tag}.pyc", f"good.{tag}.pyc"}
    # The source's date says nothing, and what it says now is not looked at.
    (site / "p/good.py").write_text("raise SystemExit('the source was taken')")
    os.utime(site / "p/good.py", (1, 1))
    script = "import p.good as g; print(g.fail.__code__.co_filename)"
    done = subprocess.run(
        [sys.executable, "-B", "-c", script], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(site)},
    )  # fmt: skip
    # Tracebacks name the file that is there, wherever the package was made.
    assert done.stdout.strip() == str(site / "p/good.py")


def test_the_same_wheels_give_the_same_bytes(tmp_path: Path) -> None:
    pinned = [wheel(tmp_path, MODULES), wheel(tmp_path, {"q.py": GOOD}, "q")]
    first = made(tmp_path, *pinned)
    assert made(tmp_path, *reversed(pinned)) == first


def test_nothing_is_compiled_for_a_python_that_is_not_here(tmp_path: Path) -> None:
    assert interpreters.compile_wheels("3.2", [wheel(tmp_path, MODULES)], tmp_path) is None


@pytest.mark.parametrize("case", ["no archive", "another magic", "another wheel"])
def test_what_the_package_has_nothing_for_is_left(tmp_path: Path, case: str) -> None:
    pinned = wheel(tmp_path, MODULES)
    archive: Compiled | None = made(tmp_path, pinned)
    assert archive is not None
    if case == "no archive":
        archive = None
    elif case == "another magic":
        archive = Compiled(archive.file, archive.sha256, "00000000")
    else:
        pinned = wheel(tmp_path, {**MODULES, "p/new.py": ""})
    site = tmp_path / "site"
    left = release.add_compiled(archive, tmp_path, unpacked(tmp_path, site, pinned), site)
    assert {path.relative_to(site) for path in left} >= {Path("p/good.py"), Path("p/later.py")}
    assert list(site.rglob("*.pyc")) == []


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    pinned = wheel(tmp_path, MODULES)
    archive, site = made(tmp_path, pinned), tmp_path / "site"
    with open(tmp_path / archive.file, "ab") as file:
        file.write(b"more")
    with pytest.raises(ManifestError, match=rf"compiled-{PYTHON}\.zip.*changed or damaged"):
        release.add_compiled(archive, tmp_path, unpacked(tmp_path, site, pinned), site)


def test_other_releases_keep_what_they_share(tmp_path: Path) -> None:
    pinned = wheel(tmp_path, MODULES)
    archive, site = made(tmp_path, pinned), tmp_path / "site"
    names = unpacked(tmp_path, site, pinned)
    cached = site / "p/__pycache__" / f"good.{sys.implementation.cache_tag}.pyc"
    cached.parent.mkdir()
    other = tmp_path / "other"
    other.write_text("of another release")
    os.link(other, cached)
    release.add_compiled(archive, tmp_path, names, site)
    assert other.read_text() == "of another release"
    assert cached.read_bytes().startswith(bytes.fromhex(compiled.MAGIC))
