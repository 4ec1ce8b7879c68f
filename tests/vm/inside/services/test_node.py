"""A joined node whose kubelet and runtime are services of systemd: what its pods get."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.root.kubeletpy.engine.process import condition, wait_for
from tests.root.runtime.cri.node import wait_until

from . import host
from .conftest import Cluster

pytestmark = pytest.mark.root

ROOT = Path("/sys/fs/cgroup")
MIB = 1 << 20


def slice_of(pod: Any, qos: str = "burstable") -> str:
    """Return the unit of a pod's cgroup, as the Go kubelet names it."""
    uid = pod["metadata"]["uid"].replace("-", "_")
    return f"kubepods-{qos}-pod{uid}.slice" if qos else f"kubepods-pod{uid}.slice"


def directory_of(unit: str) -> Path:
    """Return the directory of a slice."""
    return ROOT / host.shown(unit, "ControlGroup")["ControlGroup"].lstrip("/")


def test_the_units_say_when_they_serve(cluster: Cluster) -> None:
    for unit in (host.RUNTIME, host.KUBELET):
        wanted = {"Type": "notify", "ActiveState": "active", "SubState": "running"}
        assert host.shown(unit, *wanted) == wanted
    # The token was enough: the kubelet made its own kubeconfig and certificate of it.
    assert stat.S_IMODE(host.KUBECONFIG.stat().st_mode) == 0o600
    assert Path("/var/lib/kubelet/pki/kubelet-client-current.pem").is_symlink()
    info = cluster.node()["status"]["nodeInfo"]
    assert info["bootID"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert info["containerRuntimeVersion"].startswith("kubeletpy://")


def test_a_pod_in_slices(cluster: Cluster) -> None:
    probe = {"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1, "timeoutSeconds": 20}
    resources = {
        "requests": {"cpu": "100m", "memory": "32Mi"},
        "limits": {"cpu": "500m", "memory": "64Mi"},
    }
    pod = cluster.run(
        "web", "sleep 2; echo > /tmp/ready; sleep 3600",
        container={"readinessProbe": probe, "resources": resources},
    )  # fmt: skip
    unit = slice_of(pod)
    assert host.shown(unit, "Slice", "MemoryMax", "CPUWeight", "ActiveState") == {
        "Slice": "kubepods-burstable.slice", "MemoryMax": str(64 * MIB), "CPUWeight": "17",
        "ActiveState": "active",
    }  # fmt: skip
    directory = directory_of(unit)
    assert str(directory) == str(ROOT / "kubepods.slice" / "kubepods-burstable.slice" / unit)
    identifier = pod["status"]["containerStatuses"][0]["containerID"].partition("://")[2]
    scope = directory / f"kubeletpy-{identifier}.scope"
    assert (scope / "memory.max").read_text() == f"{64 * MIB}\n"
    assert (scope / "cpu.max").read_text() == "50000 100000\n"
    assert (directory / "cpu.max").read_text() == "50000 100000\n"
    # All pods together may not take what is kept for the rest.
    assert (ROOT / "kubepods.slice/memory.max").read_text() != "max\n"
    summary = cluster.api.must("GET", f"/api/v1/nodes/{host.NODE}/proxy/stats/summary")
    stats = {one["podRef"]["name"]: one for one in summary["pods"]}["web"]
    used = int((scope / "memory.current").read_text())
    assert 0 < stats["containers"][0]["memory"]["usageBytes"] <= used + 16 * MIB
    assert stats["containers"][0]["cpu"]["usageCoreNanoSeconds"] > 0
    cluster.remove("web")
    wait_until(lambda: not directory.exists(), "the slice to be gone", 60)
    assert unit not in host.run("systemctl", "list-units", "--all", "--no-pager")


def test_huge_pages(cluster: Cluster) -> None:
    assert cluster.node()["status"]["allocatable"]["hugepages-2Mi"] == "32Mi"
    amounts = {"cpu": "100m", "memory": "32Mi", "hugepages-2Mi": "4Mi"}
    pod = cluster.run(
        "huge",
        "fallocate -l 4194304 /huge/a; echo first $?; fallocate -l 2097152 /huge/b 2> /dev/null; "
        "echo second $?; grep /huge /proc/mounts; sleep 3600",
        container={
            "resources": {"limits": amounts, "requests": amounts},
            "volumeMounts": [{"name": "huge", "mountPath": "/huge"}],
        },
        volumes=[{"name": "huge", "emptyDir": {"medium": "HugePages"}}],
    )  # fmt: skip
    path = f"/api/v1/nodes/{host.NODE}/proxy/containerLogs/default/huge/main"
    wait_for(lambda: "hugetlbfs" in text(cluster, path), "the container's output", host.SECONDS)
    first, second, mount = text(cluster, path).splitlines()[-3:]
    assert first == "first 0"
    assert second != "second 0", "the limit of the pod holds"
    assert mount.split()[2] == "hugetlbfs"
    assert "pagesize=2M" in mount
    directory = directory_of(slice_of(pod, ""))
    assert (directory / "hugetlb.2MB.max").read_text() == f"{4 * MIB}\n"
    assert (directory / "hugetlb.2MB.current").read_text() == f"{4 * MIB}\n"
    cluster.remove("huge")
    assert "HugePages_Free:       16\n" in Path("/proc/meminfo").read_text()
    assert "/huge" not in Path("/proc/mounts").read_text()


def text(cluster: Cluster, path: str) -> str:
    """Return what the API server answers, as text."""
    connection = cluster.api.connect()
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def test_an_nfs_volume(cluster: Cluster) -> None:
    export = Path("/srv/export")
    host.serve_nfs(export)
    try:
        (export / "shared").mkdir()
        (export / "shared/greeting").write_text("hello\n")
        volume = {"name": "files", "nfs": {"server": "127.0.0.1", "path": "/shared"}}
        pod = cluster.run(
            "nfs", "cat /files/greeting > /files/copy; sync; sleep 3600",
            container={"volumeMounts": [{"name": "files", "mountPath": "/files"}]},
            volumes=[volume],
        )  # fmt: skip
        wait_for(lambda: (export / "shared/copy").exists(), "a file of the pod", host.SECONDS)
        wait_for(lambda: (export / "shared/copy").read_text() == "hello\n", "its content")
        mounted = f"/pods/{pod['metadata']['uid']}/volumes/kubernetes.io~nfs/files nfs4 "
        assert mounted in Path("/proc/mounts").read_text()
        cluster.remove("nfs")
        assert "kubernetes.io~nfs" not in Path("/proc/mounts").read_text()
    finally:
        for command in ("rpc.nfsd 0", "exportfs -au"):
            subprocess.run(command.split(), check=False)


def test_a_kubelet_that_hangs_is_started_anew(cluster: Cluster) -> None:
    assert host.shown(host.KUBELET, "WatchdogUSec")["WatchdogUSec"] == "30s"
    before = cluster.run("steady", "sleep 3600")
    pid, restarts = host.main_pid(host.KUBELET), host.shown(host.KUBELET, "NRestarts")
    host.run("kill", "-STOP", str(pid))
    host.wait_started(host.KUBELET, pid)
    count = int(restarts["NRestarts"]) + 1
    assert host.shown(host.KUBELET, "NRestarts") == {"NRestarts": str(count)}
    cluster.wait_ready()
    runs_on(cluster, before)
    cluster.remove("steady")


def test_services_that_are_killed_are_started_anew(cluster: Cluster) -> None:
    before = cluster.run("steady", "sleep 3600")
    for unit in (host.RUNTIME, host.KUBELET):
        pid = host.main_pid(unit)
        host.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", unit)
        host.wait_started(unit, pid)
        cluster.wait_ready()
    runs_on(cluster, before)
    cluster.remove("steady")


def runs_on(cluster: Cluster, before: Any) -> None:
    """Look that a pod runs on as it was."""
    after: Any = cluster.api.pod(before["metadata"]["name"])
    first, now = (one["status"]["containerStatuses"][0] for one in (before, after))
    assert now["containerID"] == first["containerID"]
    assert now["restartCount"] == 0
    changes = [
        one["lastTransitionTime"]
        for pod in (before, after)
        for one in pod["status"]["conditions"]
        if one["type"] == "Ready"
    ]
    assert changes[0] == changes[1]
    assert condition(after, "Ready") == "True"


def test_the_configuration_is_served(cluster: Cluster) -> None:
    path = f"/api/v1/nodes/{host.NODE}/proxy/configz"
    served = cluster.api.must("GET", path)["kubeletconfig"]
    assert (served["cgroupDriver"], served["shutdownGracePeriod"]) == ("systemd", "1m0s")
