"""dpkg installs, upgrades, removes and purges the package, in a copy of this machine's files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.root.packaging.conftest import Package

pytestmark = [pytest.mark.root, pytest.mark.timeout(400)]

# Commands of the machine whose mounts are private to them: nothing is seen outside.
_INSIDE = """
set -e
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --bind "$1/packages" "$1/root/mnt"
for name in proc sys dev; do mount --rbind "/$name" "$1/root/$name"; done
mount -t tmpfs tmpfs "$1/root/run"
root=$1
shift
exec chroot "$root/root" "$@"
"""


class Machine:
    """This machine's files, as they would be after what is done to them."""

    def __init__(self, directory: Path, packages: Path) -> None:
        self._directory = directory
        for name in ("upper", "work", "root", "packages"):
            (directory / name).mkdir()
        for file in packages.glob("*.deb"):
            os.link(file, directory / "packages" / file.name)

    @property
    def files(self) -> Path:
        """What was changed."""
        return self._directory / "upper"

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", _INSIDE, "inside",
             str(self._directory), *command],
            env={"PATH": path, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive",
                 **environment},
            capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip

    def must(self, *command: str, **environment: str) -> str:
        done = self.run(*command, **environment)
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def state(self) -> str:
        done = self.run("dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}", "kubeletpy")
        return done.stdout.strip()

    def compiled(self, release: str) -> str:
        """Say where the modules of kubeletpy were compiled, all of them; by the path in them."""
        site = next(
            (self.files / "opt/kubeletpy/releases" / release / "lib").rglob("site-packages")
        )
        modules = list(site.rglob("*.pyc"))
        assert len(modules) == len(list(site.rglob("*.py"))) > 500
        [path] = (site / "kubeletpy/__pycache__").glob("cli.*.pyc")
        return "machine" if b"/opt/kubeletpy/releases" in path.read_bytes() else "package"

    def releases(self) -> set[str]:
        directory = self.files / "opt/kubeletpy/releases"
        # A deleted directory of the lower layer is a device in the upper one.
        return {path.name for path in directory.iterdir() if path.is_dir()}


@pytest.fixture(scope="module")
def packages(memory: Path, first: Package) -> Path:
    """Two packages with little in them: kubeletpy, and what its command line is made of."""
    directory = memory / "packages"
    directory.mkdir()
    shutil.copytree(first.wheels, memory / "small", copy_function=os.link)
    small = Package(memory / "small").of(lambda file: file.startswith(("kubeletpy-", "click-")))
    small.debian("0.1.0", directory)
    small.changed(memory / "small-later").debian("0.1.1", directory)
    return directory


@pytest.fixture
def computer(memory: Path, packages: Path) -> Iterator[Machine]:
    directory = memory / "machine"
    directory.mkdir()
    yield Machine(directory, packages)
    shutil.rmtree(directory)


def test_the_life_of_a_package(computer: Machine) -> None:
    computer.must("dpkg", "--install", "/mnt/0.1.0.deb")
    assert computer.state() == "ii"
    [first] = computer.releases()
    shown = computer.must("kubeletpy", "version")
    assert f"(/opt/kubeletpy/releases/{first}/bin/python)" in shown
    # All of it was compiled when the package was made.
    assert computer.compiled(first) == "package"
    assert computer.run("kubeletpy", "package", "deb").stderr.count("is no checkout") == 1

    # It is there already: nothing is made, nothing is moved.
    link = computer.files / "opt/kubeletpy/current"
    before = link.lstat().st_ino
    computer.must("dpkg", "--install", "/mnt/0.1.0.deb")
    assert link.lstat().st_ino == before

    # While something runs from it, it can neither be removed nor does an upgrade take it away.
    hold = f"cd /opt/kubeletpy/releases/{first}; sleep 1000 & %s; e=$?; kill $!; exit $e"
    refused = computer.run("sh", "-c", hold % "dpkg --remove kubeletpy")
    assert refused.returncode != 0
    assert "processes still run from /opt/kubeletpy" in refused.stderr
    computer.must("sh", "-c", hold % "dpkg --install /mnt/0.1.1.deb")
    [second] = computer.releases() - {first}
    assert f"/releases/{second}/" in computer.must("kubeletpy", "version")
    assert first in computer.releases()
    # Nobody compiled what was changed in this one; the rest is that of the release before.
    assert computer.compiled(second) == "machine"
    said = computer.must("dpkg", "--install", "/mnt/0.1.1.deb")
    assert computer.releases() == {second}
    assert f"removed release {first}: no process uses it" in said

    node = computer.files / "etc/kubeletpy/node.yaml"
    node.parent.mkdir(mode=0o700, parents=True)
    node.write_text("kind: NodeInstallation\n")
    refused = computer.run("dpkg", "--remove", "kubeletpy")
    assert refused.returncode != 0
    assert "this machine is a node: `kubeletpy uninstall` first" in refused.stderr
    # It is to be removed, and installed all the same.
    assert computer.state() == "ri"
    assert computer.must("kubeletpy", "version")

    node.unlink()
    computer.must("dpkg", "--remove", "kubeletpy")
    assert computer.state() == "rc"
    assert not (computer.files / "opt/kubeletpy").is_dir()
    assert not (computer.files / "usr/lib/kubeletpy").is_dir()
    computer.must("dpkg", "--purge", "kubeletpy")
    assert computer.state() in ("un", "")
    assert not node.parent.is_dir()
