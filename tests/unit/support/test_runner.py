from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support import runner
from tests.support.circumstances import THOROUGH_VARIABLE


def test_what_the_fast_tests_leave_out_is_run_beside_the_root_tests() -> None:
    mark, names, *files = runner._slow_tests()
    assert (mark, names) == ("-m", "slow or hypothesis")
    assert "tests/unit/controlplane/engine/test_engine.py" in files
    assert "tests/unit/kubeletpy/pods/test_histories.py" in files
    assert "tests/unit/kubeletpy/pods/test_actions.py" not in files
    assert all((runner.CHECKOUT / file).is_file() for file in files)


@pytest.mark.parametrize("count", [1, 2, 3, 9, 5000])
def test_each_file_is_in_one_share(count: int) -> None:
    files = {str(path.relative_to(runner.CHECKOUT))
             for path in (runner.CHECKOUT / "tests/unit").rglob("test_*.py")}  # fmt: skip
    shares = runner._shares(count)
    assert sorted(file for share in shares for file in share) == sorted(files)
    assert len(shares) == count or count > 9


def test_steps_together_tell_which_failed() -> None:
    steps = [
        runner.Step(name, (sys.executable, "-c", f"raise SystemExit({code})"), 60)
        for name, code in (("a", 0), ("b", 3), ("c", 0))
    ]
    assert runner.Together(tuple(steps)).run() == ["b"]


@pytest.mark.parametrize(("variable", "counts"), [("", [5, 18, 5]), ("1", [25, 150, 1])])
def test_how_many_examples(variable: str, counts: list[int]) -> None:
    script = "from tests.support.circumstances import examples as e; print(e(25), e(150), e(1))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=runner.CHECKOUT, check=True, capture_output=True,
        text=True, env={**os.environ, THOROUGH_VARIABLE: variable}, timeout=60,
    )  # fmt: skip
    assert list(map(int, done.stdout.split())) == counts
