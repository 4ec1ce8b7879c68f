from __future__ import annotations

import json
import logging

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
