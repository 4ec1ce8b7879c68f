from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.resources.cgroups import pod_cgroup
from kubeletpy.resources.layout import Layout

from ..api.pods import make_pod, with_container


@pytest.mark.parametrize(
    ("resources", "root", "path"),
    [
        ({}, "/", "/kubepods/besteffort/pod11111111-2222"),
        ({"requests": {"cpu": "1"}}, "/", "/kubepods/burstable/pod11111111-2222"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "/", "/kubepods/pod11111111-2222"),
        ({}, "/second", "/second/kubepods/besteffort/pod11111111-2222"),
    ],
)
def test_path(resources: dict[str, Any], root: str, path: str) -> None:
    assert pod_cgroup(root, make_pod(**with_container(resources=resources))) == path


@pytest.mark.parametrize(
    ("qos", "root", "path"),
    [
        ("Burstable", "/",
         "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podaa_b.slice"),
        ("Guaranteed", "/", "/kubepods.slice/kubepods-podaa_b.slice"),
        ("BestEffort", "/up-1",
         "/up_1.slice/up_1-kubepods.slice/up_1-kubepods-besteffort.slice"
         "/up_1-kubepods-besteffort-podaa_b.slice"),
    ],
)  # fmt: skip
def test_slices(qos: str, root: str, path: str) -> None:
    layout = Layout(root, "systemd")
    assert layout.pod_path(qos, "aa-b") == path
    assert layout.uid_of(path) == "aa-b"
    assert layout.uid_of(layout.class_path(qos)) == ""


@pytest.mark.parametrize(
    ("root", "driver", "roots"),
    [
        ("/", "cgroupfs", []),
        ("/", "systemd", []),
        ("/a/b", "cgroupfs", ["/a/b", "/a"]),
        ("/a/b-c", "systemd", ["/a.slice/a-b_c.slice", "/a.slice"]),
    ],
)
def test_roots(root: str, driver: str, roots: list[str]) -> None:
    assert Layout(root, driver).roots() == roots


def test_uid_of_a_directory() -> None:
    layout = Layout("/")
    assert layout.uid_of("/kubepods/burstable/pod1-2") == "1-2"
    assert layout.uid_of("/kubepods/burstable") == ""
