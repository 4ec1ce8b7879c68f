"""The benchmark runs from end to end and leaves nothing; no time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers import available
from benchmarks.report import FIGURES, OURS, PEER

pytestmark = pytest.mark.root
REPOSITORY = Path(__file__).parents[3]


@pytest.mark.timeout(300)
def test_every_figure_is_measured_for_both_runtimes(tmp_path: Path) -> None:
    assert list(available()) == [OURS, PEER], (
        "apt-get install containerd runc containernetworking-plugins"
    )
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--results", str(tmp_path)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    (file,) = tmp_path.iterdir()
    result = json.loads(file.read_text())
    assert list(result["figures"]) == list(FIGURES)
    for name, row in result["figures"].items():
        for runtime in (OURS, PEER):
            assert row[runtime]["median"] > 0, (name, runtime)
            assert row[runtime]["rounds"] >= 1
        assert row["target"] == FIGURES[name].ratio
        # So little work is no ground for a verdict.
        assert row["met"] is None
        assert row["title"] in done.stdout


def test_one_part_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "pull", "-o", "json"]
    done = subprocess.run(
        [*command, "--results", str(tmp_path)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert list(json.loads(done.stdout)["figures"]) == ["pull"]
