"""Signals to all processes of a container."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime.shim.server import _signal_all


def test_a_scope_that_went_with_its_last_process_has_nobody_to_signal(tmp_path: Path) -> None:
    of_container = SimpleNamespace(cgroup_procs=(str(tmp_path / "gone" / "cgroup.procs"),))
    _signal_all(SimpleNamespace(request=of_container), signal.SIGKILL)  # type: ignore[arg-type]


def test_a_list_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    of_container = SimpleNamespace(cgroup_procs=(str(tmp_path),))
    with pytest.raises(IsADirectoryError):
        _signal_all(SimpleNamespace(request=of_container), signal.SIGKILL)  # type: ignore[arg-type]


def test_those_that_ended_meanwhile_do_not_keep_others_alive(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    with subprocess.Popen(["sleep", "1000"]) as running:
        (tmp_path / "procs").write_text(f"{ended.pid}\n{running.pid}\n")
        of_container = SimpleNamespace(cgroup_procs=(os.fspath(tmp_path / "procs"),))
        _signal_all(SimpleNamespace(request=of_container), signal.SIGKILL)  # type: ignore[arg-type]
        assert running.wait() == -signal.SIGKILL
