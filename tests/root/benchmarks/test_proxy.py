"""The benchmark of the proxy runs from end to end; no time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.proxy.__main__ import FIGURES
from benchmarks.report import OURS

pytestmark = pytest.mark.root
REPOSITORY = Path(__file__).parents[3]


def test_every_figure_is_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.proxy", "--quick", "--services", "40"]
    done = subprocess.run(
        [*command, "--mode", "nftables", "--results", str(tmp_path), "-o", "json"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    [result] = json.loads(done.stdout)["results"]
    assert (result["mode"], result["services"]) == ("nftables", 40)
    assert list(result["figures"]) == list(FIGURES)
    for name, row in result["figures"].items():
        # An endpoint changed may cost less CPU than the clock of processes tells.
        assert row[OURS] >= 0 if name == "endpoint_cpu" else row[OURS] > 0, name
        # So little work is no ground for a verdict.
        assert row["met"] is None
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("proxy-")
