"""The command as a package would have it, and what this machine's boot lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kubeletpy.install import units
from tests.vm.inside.services import host

RELEASES = Path("/opt/kubeletpy/releases")
CURRENT = Path("/opt/kubeletpy/current")
PROGRAM = CURRENT / "bin/kubeletpy"


@pytest.fixture(scope="module")
def machine_allowances() -> None:
    """Nothing is compared by itself: the test does, before the installation and after."""


@pytest.fixture
def machine() -> None:
    """Nothing is compared by itself."""


def release(name: str) -> None:
    """Make a release of the program from the checkout, and the current one of it."""
    program = RELEASES / name / "bin/kubeletpy"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(
        f"#!/bin/sh\nPYTHONPATH={os.environ['PYTHONPATH']} PYTHONDONTWRITEBYTECODE=1 "
        f"exec {sys.executable} -X utf8 -P -c "
        '\'from kubeletpy.cli import main; main(prog_name="kubeletpy")\' "$@"\n'
    )
    program.chmod(0o755)
    CURRENT.unlink(missing_ok=True)
    CURRENT.symlink_to(RELEASES / name)


def kubeletpy(*arguments: str, code: int = 0) -> str:
    """Run the command; return what it printed on stdout."""
    done = subprocess.run(
        [str(PROGRAM), *arguments], capture_output=True, text=True, check=False,
        timeout=host.SECONDS, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    logs = "".join(host.log_of(name)[-1500:] for name in units.ALL) if done.returncode else ""
    assert done.returncode == code, (arguments, done.stdout[-3000:], done.stderr[-4000:], logs)
    print(done.stderr, flush=True)
    return done.stdout


def install(*arguments: str) -> Any:
    """Run `kubeletpy install` so that an emulated machine can; return what it says it did."""
    return json.loads(kubeletpy("install", *arguments, "--timeout", "600", "-o", "json"))


@pytest.fixture(scope="module")
def prepared() -> None:
    """Have a network, and services that need no more of a boot than there was."""
    host.set_up_network()
    release("1")
    for name in units.ALL:
        drop_in = Path("/run/systemd/system", f"{name}.d")
        drop_in.mkdir(parents=True, exist_ok=True)
        (drop_in / "test.conf").write_text(
            "[Unit]\nDefaultDependencies=no\n"
            f"[Service]\nStandardError=append:/var/log/{name}.log\nRestartSec=1\n"
            # Emulated, three at once take long to start.
            "TimeoutStartSec=600\n"
        )
