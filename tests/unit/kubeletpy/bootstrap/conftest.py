"""What the tests of setting-up share."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def kept_logs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the output of commands that fail is kept: not among files of the machine."""
    place = tmp_path_factory.mktemp("kept")
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place
