from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from kubeletpy.console import CommandFailed, run_shown

TALKS = ["sh", "-c", "echo first; echo second"]


def test_plain_lines_away_from_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    run_shown("Working", TALKS)
    start, end = capsys.readouterr().err.splitlines()
    assert start == "Working ..."
    assert end.startswith("Working: done (")


def test_a_terminal_sees_the_last_line_of_output() -> None:
    leader, follower = pty.openpty()
    script = f"from kubeletpy.console import run_shown; run_shown('Working', {TALKS!r})"
    subprocess.run([sys.executable, "-c", script], stderr=follower, check=True)
    os.close(follower)
    seen = os.read(leader, 65536).decode()
    os.close(leader)
    assert "Working: first" in seen
    assert "\r\x1b[KWorking: second" in seen


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo noise; echo 'E: Unable to locate package x'; echo more; exit 100", "Unable to"),
        ("echo 'ERROR: No matching distribution'; echo hint; exit 1", "No matching distribution"),
        ("echo only this; exit 3", "only this"),
        ("exit 7", "exit status 7"),
    ],
)
def test_failure_names_its_cause_and_keeps_the_output(script: str, reason: str) -> None:
    with pytest.raises(CommandFailed, match=reason) as caught:
        run_shown("Working", ["sh", "-c", script])
    log: Path = caught.value.log
    assert log.exists()
    log.unlink()


def test_missing_program() -> None:
    with pytest.raises(CommandFailed, match="cannot start /no/such/program") as caught:
        run_shown("Working", ["/no/such/program"])
    caught.value.log.unlink()
