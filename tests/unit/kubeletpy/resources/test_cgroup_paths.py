from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.resources.cgroups import pod_cgroup

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
