"""For all tests."""

from __future__ import annotations

import gc
import signal

from hypothesis import HealthCheck, settings

from tests.support.circumstances import examples
from tests.support.machine import run_token

pytest_plugins = ["pytester"]

# How long an example takes says more of what else the machine does than of our code.
settings.register_profile(
    "shared machine",
    deadline=None,
    max_examples=examples(100),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("shared machine")

# Who starts us in the background of a script starts us deaf to SIGINT, and with us every command
# that a test means to interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Set before any test starts a process, so that each of them carries the mark of this run.
run_token()


# What collecting makes stays for good: looking through it again and again finds no garbage.
gc.disable()


def pytest_collection_finish() -> None:
    """Take what collecting made out of the garbage collector's sight."""
    gc.collect()
    gc.freeze()
    gc.enable()
