from __future__ import annotations

import os
from pathlib import Path

import pytest

from kubeletpy.status.termination import (
    FALLBACK,
    LONGEST_LOG,
    LONGEST_MESSAGE,
    log_tail,
    tail,
    termination_message,
)


def message(**fields: object) -> str:
    values = {"reported": "", "file": "", "policy": "File", "log": "", "failed": True, **fields}
    return termination_message(**values)  # type: ignore[arg-type]


def test_last_bytes_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"a" * 10_000 + b"end")
    text = message(file=str(file))
    assert len(text) == LONGEST_MESSAGE
    assert text.endswith("aend")


@pytest.mark.parametrize("kind", ["missing", "link", "fifo", "directory"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log"
    secret = tmp_path / "secret"
    secret.write_text("secret")
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    assert tail(str(path), 100) == b""


@pytest.mark.parametrize(
    ("policy", "failed", "written", "expected"),
    [
        (FALLBACK, True, "", "from the log\n"),
        (FALLBACK, False, "", ""),
        (FALLBACK, True, "own", "own"),
        ("File", True, "", ""),
    ],
)
def test_fallback_to_the_log(
    tmp_path: Path, policy: str, failed: bool, written: str, expected: str
) -> None:
    file, log = tmp_path / "file", tmp_path / "log"
    file.write_text(written)
    log.write_text("2026-01-01T00:00:00Z stdout F from the log\n")
    text = message(file=str(file), log=str(log), policy=policy, failed=failed)
    assert text == expected


def test_log_lines_are_joined_and_bounded(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "garbage\n"
        "2026-01-01T00:00:00Z stderr P one \n"
        "2026-01-01T00:00:00Z stderr F line\n"
        "2026-01-01T00:00:00Z other F no\n"
        "2026-01-01T00:00:00Z stdout F two\n"
    )
    assert log_tail(str(log)) == "one line\ntwo\n"
    log.write_text("2026-01-01T00:00:00Z stdout F x" + "y" * 100 + "\n" * 1)
    with open(log, "a") as file:
        for number in range(500):
            file.write(f"2026-01-01T00:00:00Z stdout F line {number} {'z' * 50}\n")
    text = log_tail(str(log))
    assert len(text) <= LONGEST_LOG
    assert "line 499" in text


def test_words_of_the_runtime_come_first(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("own")
    assert message(file=str(file), reported="killed") == "killed: own"
    assert message(reported="killed") == "killed"
