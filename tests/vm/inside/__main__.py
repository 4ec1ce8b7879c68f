"""Run the chosen tests inside of the virtual machine; its service starts this."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from tests.vm.inside.chosen import chosen
from tests.vm.machine import firmware_file

CHECKOUT: Final = Path(__file__).resolve().parents[3]
# Emulated, everything takes many times as long, and longer beside others.
_PATIENCE: Final = "20"


class Failures:
    """Shows a failure when it happens: a machine that hangs later shows nothing at its end."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            print(f"\n{report.nodeid} ({report.when}):\n{report.longreprtext[-6000:]}", flush=True)


def main() -> int:
    """Return pytest's exit status."""
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    print(f"booted in {uptime:.0f} s", flush=True)
    # Daemons that the tests start run from the checkout too.
    places = [str(CHECKOUT), str(CHECKOUT / "proto"), os.environ["PYTHONPATH"]]
    os.environ["PYTHONPATH"] = os.pathsep.join(places)
    # Before tests are imported.
    os.environ.setdefault("KUBELETPY_TESTS_PATIENCE", _PATIENCE)
    os.environ.setdefault("KUBELETPY_TESTS_CGROUP_DRIVER", "systemd")
    began = time.monotonic()
    arguments = chosen(firmware_file("arguments").read_text())
    seconds = firmware_file("seconds").read_text()
    status = pytest.main(
        ["-p", "no:cacheprovider", "--durations=15", "-o", f"timeout={seconds}", *arguments],
        plugins=[Failures()],
    )
    print(f"tested for {time.monotonic() - began:.0f} s", flush=True)
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
