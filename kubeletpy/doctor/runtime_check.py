"""What the runtime says of its own requirements; it knows them best."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

from kubeletpy.doctor.finding import Finding, error, fine
from kubeletpy.doctor.purpose import Purpose

SECONDS: Final = 60.0
"""Longest time that it gets: a machine under load takes its time to start a program."""
_COMMAND: Final = (sys.executable, "-P", "-m", "runtime", "--check", "-o", "json")


def look(purpose: Purpose) -> list[Finding]:
    """Run ``kubeletpy runtime --check``."""
    try:
        done = subprocess.run(
            _COMMAND, capture_output=True, text=True, timeout=SECONDS, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return judge(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as reason:
        found = f"`{' '.join(_COMMAND)}` gave no result: {reason}"
        return [error("runtime's own check", found, "runtime", "run that command to see why")]


def judge(listed: str) -> list[Finding]:
    """Return the findings of what the check printed (pure).

    Raises:
        ValueError, KeyError, TypeError: it is not what the check prints.
    """
    return [
        fine(entry["name"], entry["detail"], "runtime")
        if entry["ok"]
        else error(entry["name"], entry["detail"], "runtime", entry["remedy"])
        for entry in json.loads(listed)
    ]
