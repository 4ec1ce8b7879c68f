from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubeletpy.settings.configuration import KubeletConfiguration, convert
from kubeletpy.settings.host import TUNABLES, Host, apply_oom_score, host_problems, read_host

V1, V2 = Host(cgroup_version=1), Host(cgroup_version=2)
SWAP = Host(cgroup_version=2, swap=True)
TUNED = Host(cgroup_version=2, tunables=TUNABLES)
UNTUNED = Host(cgroup_version=2, tunables={**TUNABLES, "kernel.panic": "0"})
PROTECT = {"protectKernelDefaults": True}


@pytest.mark.parametrize(
    ("document", "given", "host", "count"),
    [
        ({}, set(), V1, 0),
        ({}, {"failCgroupV1"}, V1, 1),
        ({"failCgroupV1": False}, {"failCgroupV1"}, V1, 0),
        ({}, {"failCgroupV1"}, V2, 0),
        ({"singleProcessOOMKill": False}, set(), V1, 1),
        ({"singleProcessOOMKill": False}, set(), V2, 0),
        ({}, set(), SWAP, 0),
        ({"failSwapOn": True}, {"failSwapOn"}, SWAP, 1),
        ({"failSwapOn": True}, {"failSwapOn"}, V2, 0),
        ({"failSwapOn": False}, {"failSwapOn"}, SWAP, 0),
        (PROTECT, set(), TUNED, 0),
        (PROTECT, set(), UNTUNED, 1),
        (PROTECT, set(), V2, len(TUNABLES)),
        ({}, set(), UNTUNED, 0),
    ],
)
def test_what_the_host_has_against_it(
    document: dict[str, Any], given: set[str], host: Host, count: int
) -> None:
    one: KubeletConfiguration = convert(document)
    assert len(host_problems(one, given, host)) == count


@pytest.mark.parametrize(
    ("swaps", "on"),
    [("", False), ("Filename Type\n", False), ("Filename Type\n/dev/sda2 partition\n", True)],
)
def test_the_machine_is_read(tmp_path: Path, swaps: str, on: bool) -> None:
    (tmp_path / "swaps").write_text(swaps)
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/panic").write_text("10\n")
    host = read_host(2, tmp_path)
    assert host.swap is on
    assert host.tunables["kernel.panic"] == "10"
    assert host.tunables["vm.overcommit_memory"] == ""


def test_the_oom_score_is_set_or_it_is_told_why_not(tmp_path: Path) -> None:
    assert apply_oom_score(-999, tmp_path) == ""
    assert (tmp_path / "oom_score_adj").read_text() == "-999"
    assert "No such file" in apply_oom_score(-999, tmp_path / "missing")
