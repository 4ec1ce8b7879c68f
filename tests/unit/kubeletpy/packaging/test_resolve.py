from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from kubeletpy.console import CommandFailed
from kubeletpy.packaging.errors import PackagingError
from kubeletpy.packaging.resolve import explain, pinned, platforms, unmet


def _wheel(directory: Path, name: str, *needs: str) -> Path:
    path = directory / f"{name}-1.0-py3-none-any.whl"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0"]
    lines += [f"Requires-Dist: {need}" for need in needs]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}-1.0.dist-info/METADATA", "\n".join(lines) + "\n\n")
    return path


def test_wheels_are_those_of_the_oldest_system() -> None:
    tags = platforms("x86_64")
    assert tags[0] == "manylinux_2_36_x86_64"
    assert "manylinux2014_x86_64" in tags
    assert "manylinux_2_37_x86_64" not in tags
    assert "manylinux1_aarch64" not in platforms("aarch64")


def test_conditions_are_judged_for_the_python_that_is_packaged(tmp_path: Path) -> None:
    wheels = [
        _wheel(tmp_path, "one", "typing_extensions>=4; python_version < '3.13'", "Two.Half"),
        _wheel(tmp_path, "two_half", "never; extra == 'speed'", "new; python_version >= '3.13'"),
    ]
    assert unmet(wheels, "3.11") == {"typing_extensions>=4"}
    assert unmet(wheels, "3.13") == {"new"}


def test_what_is_no_wheel_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x-1.0-py3-none-any.whl"
    path.write_text("not a zip")
    with pytest.raises(PackagingError, match=r"x-1\.0-py3-none-any\.whl: it is no wheel"):
        unmet([path], "3.11")
    with pytest.raises(PackagingError):
        pinned(tmp_path / "kubeletpy.whl")


@pytest.mark.parametrize(
    ("output", "offline", "expected"),
    [
        (
            "ERROR: No matching distribution found for grpcio>=1.85",
            True,
            r"has no wheel of grpcio>=",
        ),
        ("ERROR: No matching distribution found for re2", False, "the index has no wheel of re2"),
        ("WARNING: Retrying\nERROR: No matching distribution found for re2", False, "the network"),
        ("ERROR: [Errno 28] No space left on device", False, "pip failed: no reason"),
    ],
)
def test_failures_of_pip(tmp_path: Path, output: str, offline: bool, expected: str) -> None:
    log = tmp_path / "log"
    log.write_text(output)
    error = CommandFailed("title", "no reason", log)
    text = explain(error, "3.13", Path("/wheels") if offline else None)
    assert expected in text
    assert "--" in text
