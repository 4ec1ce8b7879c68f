"""Id mappings: what is refused, and how a container's ids translate."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.oci.mappings import (
    Mapping,
    MappingError,
    check_mappings,
    host_owner,
    map_text,
    to_host,
)
from runtime.oci.plan import plan_file_system
from runtime.oci.root_steps import MountRoot
from runtime.oci.steps import MakeDevice, MountBind, MountFileSystem
from runtime.shim.messages import Rootfs

LAST = (1 << 32) - 2


def mapping(inside: int, host: int, size: int) -> Mapping:
    return {"containerID": inside, "hostID": host, "size": size}


@pytest.mark.parametrize(
    ("mappings", "words"),
    [
        ([], "0 id mappings"),
        ([mapping(n, 1000 + n, 1) for n in range(341)], "341 id mappings"),
        ([mapping(n, 4_000_000_000 + n, 1) for n in range(300)], "4096 bytes"),
        ([mapping(0, 1000, 0)], "maps no id"),
        ([mapping(0, 1000, -1)], "maps no id"),
        ([mapping(0, -5, 10)], "beyond"),
        # A length that a 32-bit sum would wrap around to the host's root.
        ([mapping(0, 1000, (1 << 32) - 1000)], "beyond"),
        ([mapping(0, 1, LAST + 1)], "beyond"),
        ([mapping(0, 0, 10)], "host's root"),
        ([mapping(0, 1000, 10), mapping(5, 3000, 10)], "containerID overlap"),
        ([mapping(0, 1000, 10), mapping(10, 1009, 10)], "hostID overlap"),
        ([mapping(1, 1000, 10)], "id 0"),
    ],
)
def test_mappings_that_are_refused(mappings: list[Mapping], words: str) -> None:
    with pytest.raises(MappingError, match=words):
        check_mappings(mappings, "uids")


def test_mappings_that_are_fine() -> None:
    mappings = [mapping(0, 1000, 10), mapping(10, 5000, 10), mapping(70000, LAST, 1)]
    check_mappings(mappings, "uids")
    check_mappings([mapping(0, 1, LAST)], "uids")
    assert map_text(mappings[:2]) == "0 1000 10\n10 5000 10\n"
    assert [to_host(mappings, n) for n in (0, 9, 10, 19, 20, 70000)] == [
        1000, 1009, 5000, 5009, None, LAST,
    ]  # fmt: skip


@given(st.lists(st.tuples(*(st.integers(-2, 1 << 33),) * 3), min_size=1, max_size=4))
def test_what_is_accepted_never_reaches_the_hosts_root(ids: list[tuple[int, int, int]]) -> None:
    mappings = [mapping(*each) for each in ids]
    try:
        check_mappings(mappings, "uids")
    except MappingError:
        return
    for each in mappings:
        for inside in (each["containerID"], each["containerID"] + each["size"] - 1):
            host = to_host(mappings, inside)
            assert host is not None
            assert 0 < host <= LAST


def config(mappings: list[Mapping]) -> dict[str, Any]:
    return {
        "process": {"cwd": "/"},
        "mounts": [
            {"destination": "/dev", "type": "tmpfs", "options": []},
            {"destination": "/dev/pts", "type": "devpts", "options": ["gid=5", "mode=0620"]},
            {"destination": "/a", "type": "bind", "source": "/a", "options": ["rbind"],
             "uidMappings": mappings, "gidMappings": mappings},
            {"destination": "/b", "type": "bind", "source": "/b", "options": ["rbind"]},
        ],
        "linux": {"uidMappings": mappings, "gidMappings": mappings,
                  "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 2, "gid": 7}]},
    }  # fmt: skip


def test_owners_in_the_plan_are_the_hosts() -> None:
    mappings = [mapping(0, 1000, 10)]
    assert host_owner(config(mappings), 3, 7) == (1003, 1007)
    assert host_owner(config(mappings), 3, 70) == (1003, 1000)
    assert host_owner(config([]), 3, 70) == (3, 70)
    steps = plan_file_system(config(mappings), Rootfs(("1",), "2", "3", "/base"), "/root")
    devices = {s.path: (s.uid, s.gid) for s in steps if isinstance(s, MakeDevice)}
    assert devices["/dev/null"] == (1000, 1000)
    assert devices["/dev/x"] == (1000, 1007)
    (devpts,) = (s for s in steps if isinstance(s, MountFileSystem) and s.fstype == "devpts")
    assert devpts.options.parameters == (("gid", "1005"), ("mode", "0620"))
    assert [s.mapped for s in steps if isinstance(s, MountBind)] == [True, False]
    (root,) = (s for s in steps if isinstance(s, MountRoot))
    assert root.uid_mappings == tuple(mappings)
