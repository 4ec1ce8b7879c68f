"""The same limits by runc with systemd and by us: files and properties of the units are equal."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kubeletpy_common.cgroups import LinuxResources, detect
from kubeletpy_common.cgroups.systemd import open_systemd
from tests.vm.inside.test_drivers import MIB, ROOT
from tests.vm.inside.test_systemd import shown, systemctl

pytestmark = pytest.mark.root

# Not compared is what runc 1.1 did otherwise than later: shares, odd quotas in files, rsvd.
LIMITS: dict[str, dict[str, Any]] = {
    "kubelet": {
        "cpu": {"quota": 20_000, "period": 100_000},
        "memory": {"limit": 64 * MIB, "swap": 64 * MIB},
        "unified": {"cpu.weight": "59", "memory.oom.group": "1"},
    },
    "odd": {
        "cpu": {"quota": 12_500, "period": 50_000, "cpus": "0", "mems": "0"},
        "memory": {"limit": 64 * MIB, "swap": 80 * MIB, "reservation": 16 * MIB},
        "pids": {"limit": 77},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}],
    },
    "quality": {
        "memory": {"limit": 64 * MIB},
        "unified": {
            "memory.min": str(8 * MIB), "memory.low": str(16 * MIB), "memory.high": str(60 * MIB),
            "pids.max": "max", "cpuset.cpus": "0-1", "cpu.max": "50000 100000",
        },
    },
    "none": {"cpu": {"quota": -1, "period": 100_000}, "memory": {"limit": -1, "swap": -1},
             "pids": {"limit": -1}},
}  # fmt: skip
FILES = (
    *("cpu.max", "cpu.weight", "cpuset.cpus", "cpuset.mems", "io.weight", "pids.max"),
    *("memory.min", "memory.low", "memory.high", "memory.max", "memory.swap.max"),
    *("memory.oom.group", "hugetlb.2MB.max"),
)
PROPERTIES = (
    *("CPUWeight", "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec", "AllowedCPUs", "AllowedMemoryNodes"),
    *("MemoryMin", "MemoryLow", "MemoryHigh", "MemoryMax", "MemorySwapMax", "TasksMax", "IOWeight"),
    *("Delegate", "DefaultDependencies", "Slice", "CPUAccounting", "MemoryAccounting"),
    *("IOAccounting", "TasksAccounting"),
)


@contextmanager
def by_runc(directory: Path, resources: dict[str, Any], slice_name: str) -> Iterator[str]:
    """A container of runc that sleeps; gives its unit."""
    name = f"r{secrets.token_hex(4)}"
    (directory / "rootfs/bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", directory / "rootfs/bin/busybox")
    subprocess.run(["runc", "spec"], cwd=directory, check=True)
    spec = json.loads((directory / "config.json").read_text())
    spec["process"] |= {"args": ["/bin/busybox", "sleep", "1000"], "terminal": False}
    spec["linux"] |= {
        "cgroupsPath": f"{slice_name}:test:{name}",
        "resources": {**resources, "devices": [{"allow": False, "access": "rwm"}]},
    }
    (directory / "config.json").write_text(json.dumps(spec))
    command = ["runc", "--root", str(directory / "state"), "--systemd-cgroup"]
    log = directory / "log"
    # A pipe would be the container's, and without an end as long as that one lives.
    with open(log, "wb") as output:
        done = subprocess.run(
            [*command, "run", "--detach", "--bundle", str(directory), name],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False,
        )  # fmt: skip
    assert done.returncode == 0, log.read_text()
    try:
        yield f"test-{name}.scope"
    finally:
        subprocess.run([*command, "delete", "--force", name], check=True)


@contextmanager
def by_us(resources: dict[str, Any], slice_name: str) -> Iterator[str]:
    """A scope of ours around a process that sleeps; gives its name."""
    unit = f"test-u{secrets.token_hex(4)}.scope"
    scope = open_systemd(detect()).cgroup(f"/{slice_name}/{unit}")
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        try:
            scope.create_around(process.pid)  # type: ignore[attr-defined]
            scope.apply(LinuxResources.from_oci(resources))
            yield unit
        finally:
            process.kill()
    scope.remove()


def facts(unit: str) -> dict[str, str]:
    """Return what files and properties say."""
    directory = ROOT / shown(unit, "ControlGroup")["ControlGroup"].lstrip("/")
    files = {
        name: (directory / name).read_text().strip()
        for name in FILES
        if os.path.exists(directory / name)
    }
    return files | shown(unit, *PROPERTIES)


@pytest.mark.parametrize("limits", LIMITS)
def test_units_and_files_are_those_of_runc(limits: str, tmp_path: Path) -> None:
    slice_name = f"kt{secrets.token_hex(3)}.slice"
    resources = LIMITS[limits]
    try:
        with by_runc(tmp_path, resources, slice_name) as unit:
            theirs = facts(unit)
        with by_us(resources, slice_name) as unit:
            ours = facts(unit)
        if theirs["memory.swap.max"] == "0":
            # runc takes 0 for "not set" there, so that a daemon-reload lifts its limit.
            theirs["MemorySwapMax"] = "0"
        assert ours == theirs
    finally:
        systemctl("stop", slice_name)
