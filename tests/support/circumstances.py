"""What the machine's owner says of it: its cgroup driver, how slow it is, how much to try.

The virtual machine of ``tests/vm`` sets the first two; elsewhere tests use cgroupfs and wait as
they say.
"""

from __future__ import annotations

import os
from pathlib import Path

ASIDE_VARIABLE = "KUBELETPY_TESTS_ASIDE"
"""Set to 1 for what runs beside the root tests, which do not count it as left behind by them."""
CGROUP_DRIVER = os.environ.get("KUBELETPY_TESTS_CGROUP_DRIVER", "cgroupfs")
"""The driver of the runtimes and kubelets that tests start: cgroupfs or systemd."""

_PATIENCE = float(os.environ.get("KUBELETPY_TESTS_PATIENCE", "1"))

THOROUGH_VARIABLE = "KUBELETPY_TESTS_THOROUGH"
"""Set to 1, tests of properties try as many examples as they name, rather than the first few."""
_THOROUGH = os.environ.get(THOROUGH_VARIABLE) == "1"


def patient(seconds: float) -> float:
    """Return how long to wait here for what takes up to ``seconds`` on an ordinary machine."""
    return seconds * _PATIENCE


def python_path(first: Path) -> str:
    """Return PYTHONPATH for a process that is to take ``first`` before what this one takes.

    In the virtual machine the packages of the environment are on it.
    """
    return os.pathsep.join(filter(None, (str(first), os.environ.get("PYTHONPATH"))))


def examples(count: int) -> int:
    """Return how many of ``count`` examples a test of a property tries in this run."""
    return count if _THOROUGH else max(5, count // 8)
