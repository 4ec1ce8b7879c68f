"""A privileged container on cgroup v2, in each cgroup namespace: root tests pass in it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.container.__main__ import VOLUMES
from tests.support.circumstances import patient
from tests.support.machine import Allowances
from tests.vm.inside.__main__ import CHECKOUT
from tests.vm.inside.test_drivers import ROOT

pytestmark = pytest.mark.root

TESTS = (
    "tests/root/common/test_cgroups.py",
    "tests/root/runtime/cri/test_limits.py",
    "tests/root/runtime/cri/test_lifecycle.py",
)
KEPT = ("/dev/shm/libpod_lock", "/run/runc")
_SECONDS = 200.0


@pytest.fixture
def storage(machine_allowances: Allowances) -> Iterator[Path]:
    """Where podman keeps what it makes: not on the file system whose overlay is the root."""
    directory = Path("/run/kubeletpy-podman")
    try:
        yield directory
    finally:
        overlay = directory / "storage/overlay"
        if overlay.is_mount():
            subprocess.run(["umount", overlay], check=True)
        # What podman and runc make at their first use, and keep.
        subprocess.run(["rm", "-rf", directory, *KEPT], check=True)
        with contextlib.suppress(FileNotFoundError):
            ROOT.joinpath("libpod_parent").rmdir()


@pytest.mark.parametrize("cgroupns", ["private", "host"])
def test_root_tests_pass_in_a_privileged_container(storage: Path, cgroupns: str) -> None:
    podman = ["podman", "--root", f"{storage}/storage", "--runroot", f"{storage}/run"]
    podman += ["--tmpdir", f"{storage}/tmp", "--cgroup-manager", "cgroupfs"]
    podman += ["--events-backend", "none"]
    options = ["--rm", "--interactive", "--privileged", "--network", "none", "--tz", "UTC"]
    options += ["--cgroupns", cgroupns, "--volume", f"{CHECKOUT}:/src:ro"]
    options += ["--volume", "/srv/data:/srv/data:ro"]
    for path in VOLUMES:
        options += ["--volume", path]
    environment = {
        "KUBELETPY_TESTS_CONTAINER": "1",
        # This machine's systemd is no part of the container.
        "KUBELETPY_TESTS_CGROUP_DRIVER": "cgroupfs",
        "KUBELETPY_TESTS_PATIENCE": os.environ["KUBELETPY_TESTS_PATIENCE"],
        "PYTHONPATH": "/srv/data/site",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if cgroupns == "private":
        # In the host's namespace the cgroups of others are seen, which come and go.
        environment["KUBELETPY_TESTS_ALONE"] = "1"
    for name, value in environment.items():
        options += ["--env", f"{name}={value}"]
    pytest_words = ["python3", "-X", "utf8", "-m", "pytest", "-p", "no:cacheprovider", *TESTS]
    inside = ["python3", "/src/tests/container/inside.py", *pytest_words]
    names = [path.relative_to(CHECKOUT) for path in CHECKOUT.rglob("*") if path.is_file()]
    done = subprocess.run(
        [*podman, "run", *options, "--rootfs", "/:O", *inside],
        input="\0".join(map(str, names)), capture_output=True, text=True,
        timeout=patient(_SECONDS),
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-12000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
