from __future__ import annotations

from pathlib import Path

import pytest

from kubeletpy.stats import processes


@pytest.mark.parametrize(("pids", "threads"), [(4194304, 192_669), (32_768, 192_669)])
def test_the_smaller_limit_counts(tmp_path: Path, pids: int, threads: int) -> None:
    kernel = tmp_path / "sys/kernel"
    kernel.mkdir(parents=True)
    (kernel / "pid_max").write_text(f"{pids}\n")
    (kernel / "threads-max").write_text(f"{threads}\n")
    (tmp_path / "loadavg").write_text("0.10 0.20 0.30 2/345 678\n")
    assert processes.most(tmp_path) == min(pids, threads)
    assert processes.running(tmp_path) == 345
