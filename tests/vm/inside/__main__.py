"""Run the chosen tests inside of the virtual machine; its service starts this."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from tests.vm.machine import firmware_file

_ARGUMENTS: Final = firmware_file("arguments")
CHECKOUT: Final = Path(__file__).resolve().parents[3]
CHOSEN: Final = (
    "tests/root/common/test_cgroups.py",
    "tests/root/common/test_bpf_devices.py",
    "tests/vm/inside/test_drivers.py",
    "tests/vm/inside/test_systemd.py",
    "tests/vm/inside/services",
)


def main() -> int:
    """Return pytest's exit status."""
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    print(f"booted in {uptime:.0f} s", flush=True)
    # Daemons that the tests start run from the checkout too.
    places = [str(CHECKOUT), str(CHECKOUT / "proto"), os.environ["PYTHONPATH"]]
    os.environ["PYTHONPATH"] = os.pathsep.join(places)
    began = time.monotonic()
    given = _ARGUMENTS.read_text().split("\n") if _ARGUMENTS.exists() else ["-"]
    chosen = [*CHOSEN] if given == ["-"] else given
    status = pytest.main(["-p", "no:cacheprovider", "--durations=15", "-o", "timeout=900", *chosen])
    print(f"tested for {time.monotonic() - began:.0f} s", flush=True)
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
