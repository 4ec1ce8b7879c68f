"""Packages of two versions, each made once for the tests here; all in memory: they are large."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kubeletpy.bootstrap import CHECKOUT
from kubeletpy.packaging import debian_package as deb
from kubeletpy.packaging.command import build_deb
from kubeletpy.packaging.manifest import FILE_NAME, Manifest
from kubeletpy.packaging.release import WHEELS
from kubeletpy.packaging.resolve import pinned, requirements
from kubeletpy_common.linux import mounts
from kubeletpy_common.releases import Releases
from tests.support.wheels import write_wheels

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Package:
    """What a Debian package has for us: a directory of wheels, and their manifest."""

    wheels: Path

    @property
    def manifest(self) -> Manifest:
        return Manifest.from_json((self.wheels / FILE_NAME).read_text())

    @property
    def release(self) -> str:
        return self.manifest.release_name(PYTHON)

    def run(self, step: str, root: Path, settings: Path) -> subprocess.CompletedProcess[str]:
        """Do what the maintainer scripts do, with releases below ``root``."""
        [own] = self.wheels.glob("kubeletpy-*.whl")
        base = str(getattr(sys, "_base_executable", sys.executable))
        command = [base, "-P", "-s", "-m", "kubeletpy.packaging.release", step]
        command += ["--root", str(root), "--wheels", str(self.wheels), "--settings", str(settings)]
        environment = {**os.environ, "PYTHONPATH": str(own), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=100
        )

    def changed(self, directory: Path) -> Package:
        """Return a later one, which differs in a few bytes of kubeletpy."""
        shutil.copytree(self.wheels, directory, copy_function=os.link)
        [own] = directory.glob("kubeletpy-*.whl")
        own.unlink()
        shutil.copyfile(self.wheels / own.name, own)
        with zipfile.ZipFile(own, "a") as archive:
            archive.writestr("kubeletpy/packaging/later.py", '"""Of a later package."""\n')
        return Package(directory).of(lambda file: True)

    def of(self, wanted: Callable[[str], bool]) -> Package:
        """Write the manifest anew, with the wheels that are wanted, as they are now."""
        before = self.manifest
        files = [wheel.file for wheel in before.pythons[PYTHON] if wanted(wheel.file)]
        listing = tuple(pinned(self.wheels / file) for file in files)
        text = replace(before, pythons={PYTHON: listing}).to_json()
        (self.wheels / FILE_NAME).unlink()
        (self.wheels / FILE_NAME).write_text(text)
        return self

    def debian(self, version: str, directory: Path) -> Path:
        """Make a Debian package of it."""
        tree = directory / f"tree-{version}"
        tree.mkdir()
        control = deb.Control(version, deb.architecture(), [PYTHON], 0)
        deb.lay_out(tree, self.manifest, self.wheels, {}, control)
        made = directory / f"{version}.deb"
        deb.build(tree, made, 1_800_000_000)
        shutil.rmtree(tree)
        return made


@pytest.fixture(scope="package")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("packaging")
    mounts.mount(
        "packaging", path, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, "size=2g,mode=0755"
    )
    yield path
    mounts.umount(path, mounts.MNT_DETACH)


@pytest.fixture(scope="package")
def first_deb(memory: Path) -> Path:
    """The package of this checkout, as the command makes it."""
    wheels = memory / "wheels"
    wheels.mkdir()
    write_wheels(wheels, requirements(CHECKOUT))
    made = build_deb(memory / "dist", [PYTHON], wheels)
    shutil.rmtree(wheels)
    return made


@pytest.fixture(scope="package")
def first(memory: Path, first_deb: Path) -> Package:
    tree = memory / "first"
    subprocess.run(["dpkg-deb", "--extract", str(first_deb), str(tree)], check=True)
    return Package(tree / WHEELS.relative_to("/"))


@pytest.fixture(scope="package")
def second(memory: Path, first: Package) -> Package:
    return first.changed(memory / "second")


@pytest.fixture(scope="package")
def releases(memory: Path, first: Package) -> Releases:
    """A machine's releases; the first one is current."""
    found = Releases(memory / "opt")
    done = first.run("configure", found.root, memory / "absent.toml")
    assert done.returncode == 0, done.stderr
    return found


@pytest.fixture(scope="package")
def full_release(releases: Releases) -> Path:
    """A release with all that kubeletpy needs."""
    found = releases.current()
    assert found is not None
    return found
