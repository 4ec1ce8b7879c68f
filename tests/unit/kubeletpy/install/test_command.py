from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from kubeletpy.install import facts, places
from kubeletpy.install.command import install

from .installations import FACTS


def test_without_systemd_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "gather", lambda _: replace(FACTS, systemd=False))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(places, "NODE", tmp_path / "node.yaml")
    done = CliRunner().invoke(install, ["server", "--program", "/x"])
    assert done.exit_code == 1
    assert "does not run systemd as PID 1" in done.stderr
    assert "kubeletpy up" in done.stderr


def test_who_is_not_root_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    done = CliRunner().invoke(
        install, ["server", "--program", "/x", "--advertise-address", "192.0.2.1",
                  "--root", str(tmp_path)],
    )  # fmt: skip
    assert done.exit_code == 1
    assert "needs root" in done.stderr
    assert list(tmp_path.iterdir()) == []
