from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from kubeletpy.packaging import debian_package as deb
from kubeletpy.packaging.command import chosen
from kubeletpy.packaging.errors import PackagingError
from kubeletpy.packaging.manifest import Manifest, Pinned, digest


@pytest.mark.parametrize(
    ("commit", "changed", "expected"),
    [
        ("", "", "0.1.0"),
        ("20261122040525.79d8363", "", "0.1.0~git20261122040525.79d8363"),
        (
            "20261122040525.79d8363",
            "abcdef0123",
            "0.1.0~git20261122040525.79d8363+changed.abcdef01",
        ),
    ],
)
def test_versions(commit: str, changed: str, expected: str) -> None:
    assert deb.debian_version("0.1.0", commit, changed) == expected


def test_versions_are_in_the_order_of_their_making() -> None:
    ordered = [
        deb.debian_version("0.1.0", "20261122040525.ffffff", ""),
        deb.debian_version("0.1.0", "20261122040525.ffffff", "00000000"),
        deb.debian_version("0.1.0", "20261122040526.000000", ""),
        deb.debian_version("0.1.0", "", ""),
        deb.debian_version("0.2.0", "20270101000000.000000", ""),
    ]
    for lower, higher in itertools.pairwise(ordered):
        subprocess.run(["dpkg", "--compare-versions", lower, "lt", higher], check=True)


def test_control_names_each_python_and_what_is_loaded() -> None:
    text = deb.Control("0.1.0", "amd64", ["3.11", "3.13"], 2049).text()
    fields = dict(line.split(": ", 1) for line in text.splitlines() if not line.startswith(" "))
    assert fields["Depends"].startswith("python3.11 | python3.13, python3, ")
    assert {"iptables", "libseccomp2", "ca-certificates"} <= set(fields["Depends"].split(", "))
    assert fields["Installed-Size"] == "3"
    assert fields["Recommends"] == "kmod, nginx-light | nginx"
    assert all(len(line) < 80 for line in text.splitlines() if line.startswith(" "))


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_maintainer_scripts_are_shell(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(deb.script(name, ["3.11", "3.13"]))
    assert "@" not in path.read_text().replace('"$@"', "")
    subprocess.run(["sh", "-n", str(path)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(path)], check=True)
    unknown = subprocess.run(["sh", str(path), "nonsense"], capture_output=True, check=False)
    assert unknown.returncode == 1
    assert b"unknown argument 'nonsense'" in unknown.stderr


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("postinst", "abort-upgrade"), ("postinst", "abort-remove"), ("prerm", "upgrade"),
        ("prerm", "failed-upgrade"), ("postrm", "remove"), ("postrm", "upgrade"),
        ("postrm", "abort-install"),
    ],
)  # fmt: skip
def test_steps_that_change_nothing(name: str, step: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(deb.script(name, ["3.11"]))
    done = subprocess.run(
        ["sh", str(path), step], capture_output=True, check=False, env={"PATH": os.defpath}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for number in (1, 2):
        wheels, tree = tmp_path / f"wheels{number}", tmp_path / f"tree{number}"
        wheels.mkdir()
        tree.mkdir()
        wheel = wheels / "kubeletpy-0.1.0-py3-none-any.whl"
        wheel.write_bytes(b"content")
        os.utime(wheel, (number, number))
        wheel.chmod(0o600 + number)
        pinned = Pinned("kubeletpy", "0.1.0", wheel.name, digest(wheel), 7)
        manifest = Manifest("0.1.0", {"3.11": (pinned,)})
        control = deb.Control("0.1.0", "amd64", ["3.11"], 0)
        deb.lay_out(tree, manifest, wheels, {"usr/share/doc/kubeletpy/x.gz": "text"}, control)
        made.append(tmp_path / f"{number}.deb")
        deb.build(tree, made[-1], 1_700_000_000)
    assert made[0].read_bytes() == made[1].read_bytes()
    listing = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", str(made[0])], capture_output=True, check=True
    )
    (tmp_path / "data.tar").write_bytes(listing.stdout)
    with tarfile.open(tmp_path / "data.tar") as archive:
        entries = {entry.name: entry for entry in archive}
    assert {entry.uid for entry in entries.values()} == {0}
    assert {entry.mtime for entry in entries.values()} == {1_700_000_000}
    assert entries["./usr/bin/kubeletpy"].linkname == "/opt/kubeletpy/current/bin/kubeletpy"
    # What dpkg owns may vanish at any time: nothing of it is where processes run from.
    assert not [name for name in entries if name.startswith(("./opt", "./etc", "./var"))]


@pytest.mark.parametrize(
    ("given", "expected"),
    [(("all",), ["3.11", "3.12", "3.13"]), (("3.13", "3.11"), ["3.11", "3.13"])],
)
def test_pythons(given: tuple[str, ...], expected: list[str]) -> None:
    assert chosen(given) == expected


def test_a_python_that_nobody_tried_is_refused() -> None:
    with pytest.raises(PackagingError, match=r"not tried on Python 3\.10: choose of 3\.11"):
        chosen(("3.10", "3.11"))
