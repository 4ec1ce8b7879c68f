from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeletpy.resources.cgroups import PodCgroups
from kubeletpy.resources.policy import ResourcePolicy
from kubeletpy_common.cgroups import Hierarchy, detect
from tests.support.circumstances import patient
from tests.unit.kubeletpy.api.pods import make_pod, with_container

pytestmark = pytest.mark.root


@pytest.fixture
def hierarchy() -> Hierarchy:
    return detect()


@pytest.fixture
def root(hierarchy: Hierarchy) -> Iterator[str]:
    name = f"/kubeletpy-test-{secrets.token_hex(4)}"
    yield name
    hierarchy.cgroup(name).kill()
    hierarchy.cgroup(name).remove()


def read(hierarchy: Hierarchy, path: str, names: tuple[str, ...]) -> str:
    """The first of the files (v1's and v2's name) that the cgroup has."""
    for directory in hierarchy.cgroup(path).directories():
        for name in names:
            if (directory / name).exists():
                return (directory / name).read_text().strip()
    raise FileNotFoundError(f"{path}: none of {names}")


def test_limits_of_a_pod(hierarchy: Hierarchy, root: str) -> None:
    cgroups = PodCgroups(hierarchy, root, cpu_milli=2000, policy=ResourcePolicy(pids_limit=50))
    cgroups.set_up()
    cgroups.set_up()
    pod = make_pod(**with_container(resources={"limits": {"cpu": "500m", "memory": "64Mi"}}))
    path = cgroups.ensure(pod)
    assert cgroups.ensure(pod) == path == cgroups.path(pod)
    assert path == f"{root}/kubepods/pod11111111-2222"
    assert read(hierarchy, path, ("memory.limit_in_bytes", "memory.max")) == str(64 * 2**20)
    assert read(hierarchy, path, ("pids.max",)) == "50"
    quota = read(hierarchy, path, ("cpu.cfs_quota_us", "cpu.max"))
    assert quota.split()[0] == "50000"
    if hierarchy.version == 1:
        assert read(hierarchy, path, ("cpu.shares",)) == "512"
        assert read(hierarchy, f"{root}/kubepods", ("cpu.shares",)) == "2048"
        assert read(hierarchy, f"{root}/kubepods/besteffort", ("cpu.shares",)) == "2"
    cgroups.remove(pod.metadata.uid)
    cgroups.remove(pod.metadata.uid)
    assert not hierarchy.cgroup(path).exists()
    cgroups.tear_down()
    assert not hierarchy.cgroup(root).exists()
    cgroups.tear_down()


def test_a_root_that_others_use_stays(hierarchy: Hierarchy, root: str) -> None:
    cgroups = PodCgroups(hierarchy, f"{root}/mine")
    cgroups.set_up()
    hierarchy.cgroup(f"{root}/others").create()
    cgroups.tear_down()
    assert not hierarchy.cgroup(f"{root}/mine").exists()
    assert hierarchy.cgroup(f"{root}/others").exists()


def test_burstable_pods_weigh_what_they_request(hierarchy: Hierarchy, root: str) -> None:
    cgroups = PodCgroups(hierarchy, root)
    cgroups.set_up()
    burstable = make_pod(**with_container(resources={"requests": {"cpu": "1500m"}}))
    cgroups.weigh([burstable, burstable, make_pod()])
    burst = f"{root}/kubepods/burstable"
    names = ("cpu.shares", "cpu.weight")
    heavy = int(read(hierarchy, burst, names))
    assert hierarchy.version == 2 or heavy == 3072
    cgroups.weigh([])
    assert int(read(hierarchy, burst, names)) < heavy


def test_orphans_and_what_still_runs_in_them(hierarchy: Hierarchy, root: str) -> None:
    cgroups = PodCgroups(hierarchy, root)
    cgroups.set_up()
    for uid, resources in (("a", {}), ("b", {"requests": {"cpu": "1"}})):
        pod = make_pod(**with_container(resources=resources))
        pod.metadata.uid = uid
        path = cgroups.ensure(pod)
    assert cgroups.orphans(["b"]) == ["a"]
    assert cgroups.orphans([]) == ["a", "b"]
    container = hierarchy.cgroup(f"{path}/container")
    container.create()
    with subprocess.Popen(["sleep", "300"]) as process:
        for file in container.procs_files():
            Path(file).write_text(str(process.pid))
        cgroups.remove("b")
        assert process.wait(timeout=patient(10)) == -9
    assert cgroups.orphans([]) == ["a"]
