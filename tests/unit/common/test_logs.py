from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys

import pytest

from kubeletpy_common import logs


def test_a_record_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.configure("info")
        logger = logging.getLogger("x.y")
        logs.event(logger, logging.INFO, "pod\nstarted", pod="default/web", attempt=2)
        logs.event(logger, logging.DEBUG, "not shown")
        (line,) = capsys.readouterr().err.splitlines()
    finally:
        root.handlers[:], root.level = before
    entry = json.loads(line)
    assert entry["msg"] == "pod\nstarted"
    assert (entry["level"], entry["logger"], entry["pod"]) == ("info", "x.y", "default/web")
    assert entry["ts"].endswith("Z")


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="loud"):
        logs.configure("loud")


def test_a_crash_in_native_code_tells_where_python_was() -> None:
    program = (
        "import ctypes; from kubeletpy_common import logs\n"
        "def guilty(): ctypes.string_at(0)\n"
        "logs.configure(); guilty()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == -signal.SIGSEGV
    assert b"in guilty" in done.stderr
