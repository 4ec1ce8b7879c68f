"""Attacks of /docs on a container's start, really tried, with canaries on the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.shim.client import ShimError
from tests.root.runtime.shim.pod import Pod, process

pytestmark = pytest.mark.root


async def test_a_linked_proc_is_refused(pod: Pod) -> None:
    """CVE-2019-19921: the image sends /proc elsewhere."""
    (pod.layer / "elsewhere").mkdir()
    (pod.layer / "proc").symlink_to("elsewhere")
    with pytest.raises(ShimError, match="mount proc on /proc"):
        await pod.run("c", process("true"))


async def test_a_volume_over_proc_is_refused(pod: Pod, tmp_path: Path) -> None:
    """CVE-2019-16884, CVE-2023-27561: writes to procfs land in a volume."""
    for target in ("/proc", "/proc/self/attr", "/x/../proc/sys"):
        mount = {
            "destination": target,
            "type": "bind",
            "source": str(tmp_path),
            "options": ["bind"],
        }
        with pytest.raises(ShimError, match=r"procfs|/proc"):
            await pod.run(f"c{len(target)}", process("true"), mounts=[mount])


async def test_mount_targets_stay_inside(pod: Pod, tmp_path: Path) -> None:
    """CVE-2021-30465, CVE-2024-45310: a link of the image leads a mount or a made file outside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "canary").write_text("host")
    (pod.layer / "link").symlink_to(outside)
    (pod.layer / "up").symlink_to("../../../../../../../.." + str(outside))
    source = tmp_path / "source"
    source.mkdir()
    (source / "inside").write_text("")
    for number, target in enumerate(("/link", "/up", "/link/deep/er", "/up/deep/er")):
        mount = {"destination": target, "type": "bind", "source": str(source), "options": ["bind"]}
        try:
            await pod.run(f"c{number}", process("ls", target), mounts=[mount])
        except ShimError:
            continue
    assert os.listdir(outside) == ["canary"]


async def test_a_swapped_null_device_masks_all_the_same(pod: Pod) -> None:
    """CVE-2025-31133: /dev/null of the container is a link to what an attacker wants writable."""
    (pod.layer / "dev").mkdir()
    (pod.layer / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    linux = {"maskedPaths": ["/proc/keys", "/proc/timer_list"]}
    command = "echo evil > /proc/keys; echo evil > /proc/timer_list; ls -l /proc/keys"
    await pod.run("c", process("sh", "-c", command), linux=linux)
    assert "1,   3" in pod.text("c")
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


async def test_every_write_to_the_cgroups_fails(pod: Pod) -> None:
    """CVE-2023-25809: a writable cgroup of the host inside."""
    command = (
        "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/evil && echo made $d; "
        "echo 0 > $d/cgroup.procs && echo wrote $d; done; echo end"
    )
    await pod.run("c", process("sh", "-c", command))
    assert pod.text("c") == "end"
