"""What systemd knows of pods: slices, scopes, and limits that outlive a reload."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kubeletpy_common.cgroups import Cgroup, CgroupError, LinuxResources, detect
from kubeletpy_common.cgroups.systemd import open_systemd
from tests.root.runtime.cri.node import SLEEP, Node, wait_until
from tests.vm.inside.test_drivers import FILES, LIMITS, MIB, cgroup_of, read

pytestmark = pytest.mark.root

# systemd keeps a quota in whole percents of a CPU.
KEPT_FILES = {**FILES, "cpu.max": "12500 50000"}


@pytest.fixture(scope="module", params=["systemd"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def systemctl(*arguments: str) -> str:
    done = subprocess.run(
        ["systemctl", "--no-pager", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shown(unit: str, *properties: str) -> dict[str, str]:
    output = systemctl("show", f"--property={','.join(properties)}", unit)
    return dict(line.split("=", 1) for line in output.splitlines())


@contextmanager
def kubelet_slice(node: Node) -> Iterator[Cgroup]:
    """A pod's slice with limits, as a kubelet makes it, and those above it."""
    top = node.place.cgroup.strip("/").removesuffix(".slice") + "kubelet"
    hierarchy = open_systemd(detect())
    path = f"/{top}.slice/{top}-burstable.slice/{top}-burstable-pod1_2.slice"
    cgroup = hierarchy.cgroup(path)
    cgroup.create()
    try:
        cgroup.apply(LinuxResources(memory_limit=128 * MIB, cpu_shares=100, pids_limit=50))
        yield cgroup
        assert cgroup.exists(), "the slice is the kubelet's: no runtime removes it"
    finally:
        cgroup.kill()
        cgroup.remove()
        hierarchy.cgroup(f"/{top}.slice/{top}-burstable.slice").remove(recursive=False)
        hierarchy.cgroup(f"/{top}.slice").remove(recursive=False)
    assert top not in systemctl("list-units", "--all")


def test_containers_are_scopes_in_the_pods_slice(node: Node) -> None:
    with kubelet_slice(node) as pod:
        unit = Path(pod.path).name
        assert shown(unit, "MemoryMax", "CPUWeight", "TasksMax", "ActiveState") == {
            "MemoryMax": str(128 * MIB), "CPUWeight": "17", "TasksMax": "50",
            "ActiveState": "active",
        }  # fmt: skip
        with node.pod(cgroup_parent=pod.path) as sandbox:
            container = node.run(sandbox, *SLEEP, resources=LIMITS)
            directory = cgroup_of(node, container)
            assert directory.parent.name == unit
            assert directory.name == f"kubeletpy-{container}.scope"
            wanted = {
                "Slice": unit, "Delegate": "yes", "DefaultDependencies": "no",
                "MemoryMax": str(64 * MIB), "MemorySwapMax": str(16 * MIB),
                "MemoryHigh": str(60 * MIB), "CPUWeight": "59", "AllowedCPUs": "0",
                "ActiveState": "active",
            }  # fmt: skip
            assert shown(directory.name, *wanted) == wanted
            listing = subprocess.run(
                ["systemd-cgls", "--no-pager", "-l"], capture_output=True, text=True, check=True
            ).stdout
            assert directory.name in listing
            _survives_reloads(node, sandbox, container, directory)
        assert container not in systemctl("list-units", "--all")


def _survives_reloads(node: Node, sandbox: str, container: str, directory: Path) -> None:
    for command in ("daemon-reload", "daemon-reexec"):
        systemctl(command)
        # A new scope beside it, and a changed slice above it, have systemd go over the tree.
        node.run(sandbox, *SLEEP, name=command)
        systemctl("set-property", "--runtime", directory.parent.name, "MemoryMax=129M")
        # What systemd does not keep comes back once the runtime has heard of it.
        try:
            wait_until(
                lambda: (directory / "memory.oom.group").read_text() == "1\n",
                f"memory.oom.group after {command}", 2,
            )  # fmt: skip
        except AssertionError as error:
            raise AssertionError(f"{error}\n{node.daemon.log()[-3000:]}") from None
        assert read(directory, list(KEPT_FILES)) == KEPT_FILES
        script = "mknod /tmp/disk b 254 0; head -c 1 /tmp/disk"
        assert b"Operation not permitted" in node.exec(container, "sh", "-c", script).stderr


def test_a_scope_that_begins_badly_leaves_nothing(node: Node) -> None:
    with node.pod() as sandbox, pytest.raises(Exception, match="no-such-program"):
        node.run(sandbox, "/no-such-program")
    assert node.place.cgroup.strip("/") not in systemctl("list-units", "--all")


def test_refusals_of_systemd_are_told() -> None:
    hierarchy = open_systemd(detect())
    assert int(hierarchy.systemd_version.split(".")[0].split("-")[0]) >= 240
    scope = hierarchy.cgroup("/system.slice/kubeletpy-nobody.scope")
    with pytest.raises(CgroupError, match="begins with a process"):
        scope.create()
    with pytest.raises(CgroupError, match=r"kubeletpy-nobody\.scope"):
        scope.apply(LinuxResources(memory_limit=MIB))
    scope.remove()
