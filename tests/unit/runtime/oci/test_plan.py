from __future__ import annotations

from typing import Any

import pytest

from kubeletpy_common.linux import mounts as m
from runtime.oci.options import parse_options
from runtime.oci.plan import PlanError, plan_file_system
from runtime.shim.messages import Rootfs

ROOTFS = Rootfs(("1/fs",), "2/fs", "2/work", "/snapshots")


def plan(**config: Any) -> list[str]:
    full = {"process": {"cwd": "/work"}, "root": {}, "linux": {}, **config}
    return [step.describe() for step in plan_file_system(full, ROOTFS, "/target")]


def test_sources_are_taken_before_the_tree_is_cut_off_and_masks_come_last() -> None:
    steps = plan(
        mounts=[
            {"destination": "/proc", "type": "proc"},
            {"destination": "/v", "type": "bind", "source": "/s", "options": ["rbind"]},
        ],
        linux={"maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]},
        root={"readonly": True},
    )
    assert steps == [
        "take /s",
        "isolate the mount namespace",
        "mount the overlay of 1 layers on /target",
        "mount proc on /proc",
        "bind /s on /v",
        "make the directory /work",
        "mask /proc/kcore",
        "make /proc/sys read-only",
        "make the root read-only",
    ]


def test_default_devices_and_links_only_on_our_own_dev() -> None:
    assert not [step for step in plan() if "/dev" in step]
    steps = plan(mounts=[{"destination": "/dev", "type": "tmpfs"}])
    assert "make the device /dev/null" in steps
    assert "link /dev/ptmx to pts/ptmx" in steps


def test_nothing_is_made_on_volumes() -> None:
    devices = [
        {"path": f"{directory}/x", "type": "c", "major": 1, "minor": 3}
        for directory in ("/dev", "/dev/v", "/v", "/other")
    ]
    bind = {"type": "bind", "source": "/s", "options": ["rbind"]}
    own_dev = {"destination": "/dev", "type": "tmpfs"}
    made = "make the device "
    inside = [{"destination": "/v", **bind}, {"destination": "/dev/v", **bind}]
    steps = plan(mounts=[own_dev, *inside], linux={"devices": devices})
    assert {s for s in steps if s.startswith(made) and s.endswith("/x")} == {
        f"{made}/dev/x", f"{made}/other/x",
    }  # fmt: skip
    steps = plan(mounts=[{"destination": "/dev", **bind}], linux={"devices": devices})
    assert [s for s in steps if s.startswith((made, "link "))] == [
        f"{made}/v/x", f"{made}/other/x",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"mounts": [{"destination": "x", "type": "proc"}]}, "not absolute"),
        ({"mounts": [{"destination": "/x", "type": "bind", "source": "s"}]}, "not absolute"),
        ({"mounts": [{"destination": "/x"}]}, "neither a type"),
        ({"linux": {"devices": [{"path": "/dev/x", "type": "z"}]}}, "type 'z'"),
        ({"linux": {"devices": [{"path": "x", "type": "c"}]}}, "absolute path"),
    ],
)
def test_what_cannot_be_planned(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(PlanError, match=reason):
        plan(**config)


def test_options() -> None:
    options = parse_options(["nosuid", "noexec", "mode=755", "size=64k", "noswap"])
    assert options.attr_set == m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NOEXEC
    assert options.parameters == (("mode", "755"), ("size", "64k"), ("noswap", None))
    assert not options.bind


@pytest.mark.parametrize(
    ("words", "attr_set", "attr_clr"),
    [
        (["ro", "rw"], 0, m.MOUNT_ATTR_RDONLY),
        (["rw", "ro"], m.MOUNT_ATTR_RDONLY, 0),
        (["noatime"], m.MOUNT_ATTR_NOATIME, m.MOUNT_ATTR__ATIME),
        (["noatime", "strictatime"], m.MOUNT_ATTR_STRICTATIME, m.MOUNT_ATTR__ATIME),
        (["noatime", "relatime"], 0, m.MOUNT_ATTR__ATIME),
        (["nosuid", "noatime"], m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NOATIME, m.MOUNT_ATTR__ATIME),
    ],
)
def test_a_later_option_wins(words: list[str], attr_set: int, attr_clr: int) -> None:
    options = parse_options(words)
    assert (options.attr_set, options.attr_clr) == (attr_set, attr_clr)


@pytest.mark.parametrize(
    ("words", "recursive", "propagation"),
    [
        (["bind"], False, 0),
        (["rbind", "rprivate"], True, m.MS_PRIVATE),
        (["rbind", "rslave", "ro"], True, m.MS_SLAVE),
        (["rbind", "rshared"], True, m.MS_SHARED),
    ],
)
def test_bind_options(words: list[str], recursive: bool, propagation: int) -> None:
    options = parse_options(words)
    assert options.bind
    assert (options.recursive, options.propagation) == (recursive, propagation)


def test_recursive_read_only() -> None:
    assert parse_options(["rbind", "rro"]).recursive_set == m.MOUNT_ATTR_RDONLY
