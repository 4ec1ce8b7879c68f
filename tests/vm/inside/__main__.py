"""Run the chosen tests inside of the virtual machine; its service starts this."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import pytest

from tests.support.preflight import WITHOUT_VARIABLE
from tests.vm.image import TOLD
from tests.vm.inside.chosen import LONG, chosen
from tests.vm.inside.progress import Progress

CHECKOUT: Final = Path(__file__).resolve().parents[3]
# Emulated, everything takes many times as long, and longer beside others.
_PATIENCE: Final = "20"
_ENVIRONMENT: Final = "/srv/venv"
_END_SECONDS: Final = 120.0  # what a run whose time is over needs to end
_ROUNDS: Final = {
    "KUBELETPY_KILL_ROUNDS": "5",
    "KUBELETPY_MANY_PODS": "20",
    "KUBELETPY_RESTART_PODS": "10",
    "KUBELETPY_RESTART_ROUNDS": "2",
    "KUBELETPY_STORE_KILL_ROUNDS": "5",
}
"""Rounds of the longest tests in the long form."""
_OUTSIDE: Final = (
    # Nobody loads modules by their devices here: udev does not run.
    "modprobe -a loop tun fuse",
    "ip link add outside type bridge",
    "ip link set outside addrgenmode none",
    "ip link set outside up",
    "ip address add 192.0.2.10/24 dev outside",
    "ip route add default via 192.0.2.1",
)
"""A node has an address and a way out, though it leads nowhere; and disks that are files."""


class Failures:
    """Shows a failure when it happens: a machine that hangs later shows nothing at its end."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            print(f"\n{report.nodeid} ({report.when}):\n{report.longreprtext[-6000:]}", flush=True)
            for title, text in report.sections:
                print(f"--- {title}\n{text}", flush=True)


def main() -> int:
    """Return pytest's exit status."""
    enter_environment()
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    print(f"booted in {uptime:.0f} s", flush=True)
    # Daemons that the tests start run from the checkout too.
    places = [str(CHECKOUT), str(CHECKOUT / "proto"), os.environ["PYTHONPATH"]]
    os.environ["PYTHONPATH"] = os.pathsep.join(places)
    # Before tests are imported.
    os.environ.setdefault("KUBELETPY_TESTS_PATIENCE", _PATIENCE)
    os.environ.setdefault("KUBELETPY_TESTS_CGROUP_DRIVER", "systemd")
    if Path(TOLD, "without").exists():
        os.environ[WITHOUT_VARIABLE] = Path(TOLD, "without").read_text()
    if Path(TOLD, "benchmark").exists():
        return benchmark(Path(TOLD, "arguments").read_text().splitlines())
    keep_temporary_files()
    began = time.monotonic()
    arguments = chosen(Path(TOLD, "arguments").read_text())
    seconds = float(Path(TOLD, "seconds").read_text())
    plugins: list[object] = [Failures()]
    if Path(TOLD, "test-seconds").exists():
        test_seconds = float(Path(TOLD, "test-seconds").read_text())
        left = seconds - uptime - _END_SECONDS
        plugins.append(Progress([*arguments, *LONG], left, test_seconds))
        arguments = ["-v", *arguments]
        prepare_bare_tests()
    status = pytest.main(
        ["-p", "no:cacheprovider", "--durations=15", "-o", f"timeout={seconds:.0f}", *arguments],
        plugins=plugins,
    )
    print(f"tested for {time.monotonic() - began:.0f} s", flush=True)
    return int(status)


def enter_environment() -> None:
    """Go on in an environment: who starts ``python -m kubeletpy`` in none makes one first."""
    if sys.prefix != sys.base_prefix:
        return
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", _ENVIRONMENT], check=True)
    python = f"{_ENVIRONMENT}/bin/python"
    os.execv(python, [python, "-X", "utf8", "-m", "tests.vm.inside"])


def keep_temporary_files() -> None:
    """Have systemd not empty /tmp, which it does as for a boot when the first service starts."""
    Path("/etc/tmpfiles.d").mkdir(exist_ok=True)
    Path("/etc/tmpfiles.d/tmp.conf").symlink_to("/dev/null")


def benchmark(arguments: list[str]) -> int:
    """Compare the runtimes; return the exit status."""
    with tempfile.TemporaryDirectory() as results:
        command = [sys.executable, "-m", "benchmarks", "--results", results, *arguments]
        return subprocess.run(command, check=False).returncode


def prepare_bare_tests() -> None:
    """Have what tests of a bare machine find there."""
    for name, rounds in _ROUNDS.items():
        os.environ.setdefault(name, rounds)
    for command in _OUTSIDE:
        subprocess.run(command.split(), check=True)


if __name__ == "__main__":
    sys.exit(main())
