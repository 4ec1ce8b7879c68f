from __future__ import annotations

import pytest

from kubeletpy.volumes.nested import mount_points, used

from ..api.pods import make_pod, with_container


@pytest.mark.parametrize(
    ("mounts", "inside"),
    [
        ([("vol", "/dir")], []),
        ([("vol", "/dir"), ("a", "/dir/nested"), ("b", "/dir/nested/other")], ["nested"]),
        ([("vol", "/dir"), ("a", "/dir/nested-vol"), ("b", "/dir/nested/x")],
         ["nested-vol", "nested/x"]),
        ([("vol", "/dir/"), ("a", "/dir//one/"), ("b", "/directory")], ["one"]),
        ([("vol", "/"), ("a", "/etc/x")], ["etc/x"]),
        ([("vol", "/one"), ("vol", "/two"), ("a", "/one/x"), ("b", "/two/y")], ["x", "y"]),
        ([("a", "/dir"), ("vol", "/dir/nested")], []),
    ],
)  # fmt: skip
def test_mount_points(mounts: list[tuple[str, str]], inside: list[str]) -> None:
    pod = make_pod(
        **with_container(volumeMounts=[{"name": n, "mountPath": path} for n, path in mounts])
    )
    assert sorted(mount_points(pod, "vol")) == inside
    assert used(pod) == {name for name, _ in mounts}
