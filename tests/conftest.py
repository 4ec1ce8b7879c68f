"""For all tests."""

from __future__ import annotations

from tests.support.machine import run_token

pytest_plugins = ["pytester"]

# Set before any test starts a process, so that each of them carries the mark of this run.
run_token()
