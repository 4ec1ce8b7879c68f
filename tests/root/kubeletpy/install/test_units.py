"""What systemd itself has to say of the units."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kubeletpy.install import units
from tests.unit.kubeletpy.install.installations import server

pytestmark = pytest.mark.root


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    """It knows every section and key, and how each value is written."""
    program = tmp_path / "usr/bin/kubeletpy"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    directory = tmp_path / "units"
    directory.mkdir()
    for each in units.rendered(server(program=(str(program),))):
        (directory / each.path.name).write_text(each.text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
         *map(str, sorted(directory.iterdir()))],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "kubeletpy" in line]
    assert ours == []
