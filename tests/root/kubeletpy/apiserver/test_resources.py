"""What pods may use, on a real kernel and a real runtime: resizes, evictions, logs."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Callable
from typing import Any

import pytest

from kubeletpy_common.cgroups import detect
from tests.root.kubeletpy.engine.process import KubeletProcess, condition, container, wait_for

from .cluster import Api, Object, bound

pytestmark = pytest.mark.root
Run = Callable[..., dict[str, Any]]
FOREVER = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"
MI = 2**20
_FILES = {
    1: {"quota": "cpu.cfs_quota_us", "weight": "cpu.shares", "memory": "memory.limit_in_bytes"},
    2: {"quota": "cpu.max", "weight": "cpu.weight", "memory": "memory.max"},
}
WEIGHT = {1: 204, 2: 29}[detect().version]
"""Of 200 thousandths of a CPU: shares, or the weight that stands for them."""


def limits(kubelet: KubeletProcess, pod: Object, below: str = "") -> dict[str, int]:
    """Return quota and weight of CPU time and the memory limit of a pod, or of a container."""
    hierarchy = detect()
    names = _FILES[hierarchy.version]
    found = {}
    for what, name in names.items():
        cgroup = hierarchy.cgroup(kubelet.pod_cgroup(pod, below))
        directory = cgroup.controller_directory(name.partition(".")[0])
        assert directory is not None
        found[what] = int((directory / name).read_text().split()[0])
    return found


def identity(pod: Object) -> str:
    return str(container(pod, "a")["containerID"]).partition("://")[2]


def resources(cpu: str, memory: str) -> Object:
    return {"limits": {"cpu": cpu, "memory": memory}, "requests": {"cpu": cpu, "memory": memory}}


def change(cpu: str, memory: str) -> Object:
    return {"spec": {"containers": [{"name": "a", "resources": resources(cpu, memory)}]}}


def resized(pod: Object) -> bool:
    """Whether the pod's specification was taken up, and nothing of a resize is left to do."""
    types = {one["type"] for one in pod["status"].get("conditions", [])}
    return (
        pod["status"].get("observedGeneration") == pod["metadata"]["generation"]
        and not types & {"PodResizePending", "PodResizeInProgress"}
        and condition(pod, "Ready") == "True"
    )


def test_a_running_container_gets_other_limits(joined: KubeletProcess, api: Api, run: Run) -> None:
    api.create(bound("web", run("a", FOREVER, resources=resources("100m", "64Mi"))))
    before = api.wait_ready("web")
    assert limits(joined, before)["quota"] == 10_000
    api.patch("web", change("200m", "128Mi"), "/resize")
    after = api.wait("web", resized, "resized")
    status = container(after, "a")
    assert status["resources"] == resources("200m", "128Mi")
    assert status["allocatedResources"] == {"cpu": "200m", "memory": "128Mi"}
    assert (status["restartCount"], identity(after)) == (0, identity(before))
    for below in ("", identity(after)):
        wanted = {"quota": 20_000, "weight": WEIGHT, "memory": 128 * MI}
        assert limits(joined, after, below) == wanted
    # Less than is in use: it says so, and leaves what is.
    api.patch("web", change("200m", "10Ki"), "/resize")

    def refused(pod: Object) -> bool:
        return any(
            one["type"] == "PodResizeInProgress" and one.get("reason") == "Error"
            and "below current usage" in one["message"]
            for one in pod["status"]["conditions"]
        )  # fmt: skip

    failed = api.wait("web", refused, "refused")
    assert container(failed, "a")["resources"]["limits"]["memory"] == "128Mi"
    # What was allocated outlives the kubelet; a new wish replaces it.
    joined.kill()
    joined.start()
    api.patch("web", change("100m", "64Mi"), "/resize")
    again = api.wait("web", resized, "resized back")
    assert identity(again) == identity(before)
    assert limits(joined, again)["memory"] == 64 * MI


def test_a_resize_that_needs_a_restart_and_one_that_has_to_wait(
    joined: KubeletProcess, api: Api, run: Run
) -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    api.create(
        bound("again", run("a", FOREVER, resources=resources("100m", "64Mi"), resizePolicy=policy))
    )
    before = api.wait_ready("again")
    api.patch("again", change("100m", "96Mi"), "/resize")
    after = api.wait("again", resized, "resized")
    status = container(after, "a")
    assert status["restartCount"] == 1
    assert identity(after) != identity(before)
    assert limits(joined, after, identity(after))["memory"] == 96 * MI
    api.patch("again", change("1000", "96Mi"), "/resize")

    def deferred(pod: Object) -> bool:
        return any(
            one["type"] == "PodResizePending" and one["reason"] == "Deferred"
            for one in pod["status"]["conditions"]
        )

    waiting = api.wait("again", deferred, "deferred")
    assert container(waiting, "a")["allocatedResources"]["cpu"] == "100m"
    api.patch("again", change("100m", "96Mi"), "/resize")
    api.wait("again", resized, "taken back")


def test_limits_of_storage_and_who_hides_in_the_hosts_file(
    joined: KubeletProcess, api: Api, run: Run
) -> None:
    """CVE-2020-8557: what a pod writes to /etc/hosts is counted like everything else."""
    fill = "head -c 3000000 /dev/zero > {}; sleep 1000"
    limit = {"limits": {"ephemeral-storage": "2Mi"}}
    api.create(
        bound(
            "full",
            run("a", fill.format("/data/x"), volumeMounts=[{"name": "d", "mountPath": "/data"}]),
            volumes=[{"name": "d", "emptyDir": {"sizeLimit": "1Mi"}}],
        )
    )
    api.create(bound("hosts", run("a", fill.format("/etc/hosts"), resources=limit)))
    api.create(bound("modest", run("a", FOREVER, resources=limit)))
    messages = {
        "full": 'Usage of EmptyDir volume "d" exceeds the limit "1Mi". ',
        "hosts": "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ",
    }
    for name, message in messages.items():
        pod = api.wait(name, lambda one: one["status"].get("phase") == "Failed", "evicted", 30)
        assert (pod["status"]["reason"], pod["status"]["message"]) == ("Evicted", message)
    assert condition(api.wait_ready("modest"), "Ready") == "True"


def test_logs_are_rotated_without_a_lost_line(joined: KubeletProcess, api: Api, run: Run) -> None:
    joined.kill()
    joined.flags = (*joined.flags, "--container-log-max-size=20Ki", "--container-log-max-files=4")
    joined.start()
    # It goes on until it is deleted, with pauses in which the kubelet can follow.
    script = "i=0; while :; do i=$((i+1)); echo line $i; [ $((i % 200)) = 0 ] && sleep 0.4; done; "
    api.create(bound("loud", run("a", script + FOREVER)))
    pod = api.wait_ready("loud")
    directory = joined.logs / f"default_loud_{pod['metadata']['uid']}" / "a"

    def current() -> bytes:
        # While it is being rotated there is none for a moment.
        with contextlib.suppress(FileNotFoundError):
            return (directory / "0.log").read_bytes()
        return b""

    def names() -> list[str]:
        return sorted(path.name for path in directory.iterdir() if path.suffix != ".tmp")

    def numbers() -> list[int]:
        found: list[int] = []
        for path in [directory / name for name in names() if name != "0.log"]:
            data = path.read_bytes()
            found += _numbers(gzip.decompress(data) if path.suffix == ".gz" else data)
        return found + _numbers(current())

    def whole() -> bool:
        # What is read while a file gets another name is not whole; a lost line never gets so.
        try:
            before, kept = names(), numbers()
        except FileNotFoundError:
            return False
        return names() == before and kept == list(range(kept[0], kept[-1] + 1))

    wait_for(lambda: any(name.endswith(".gz") for name in names()), "a compressed log", 60)
    wait_for(whole, "all lines from the first that is kept", 30)
    assert len(names()) <= 4
    api.delete("loud")
    api.wait_gone("loud")
    wait_for(lambda: not directory.exists(), "the logs to be removed", 10)


def _numbers(data: bytes) -> list[int]:
    # The last line may not be whole yet.
    return [int(line.split()[-1]) for line in data.rpartition(b"\n")[0].splitlines()]
