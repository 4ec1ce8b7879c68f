"""Device plug-ins, CSI drivers and the static CPU manager on a real runtime."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from kubeletpy.affinity import cpusets
from kubeletpy.csi.requests import CsiVolume, attachment_name
from kubeletpy.plugins.channels import connect
from kubeletpy_proto import podresources_pb2, podresources_pb2_grpc
from tests.root.kubeletpy.apiserver.cluster import Api, bound
from tests.root.kubeletpy.engine.process import (
    NODE,
    KubeletProcess,
    condition,
    manifest,
    wait_for,
)
from tests.support.circumstances import patient
from tests.support.csi_driver import CsiDriver
from tests.support.device_plugin import DevicePlugin, Registrar

from .conftest import Loop

pytestmark = pytest.mark.root
Run = Callable[..., dict[str, Any]]
FOREVER = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"
GPU = "vendor.com/gpu"
MERGE = "application/merge-patch+json"


def test_a_pod_gets_a_device(joined: KubeletProcess, api: Api, run: Run, loop: Loop) -> None:
    directory = joined.root / "device-plugins"
    wait_for((directory / "kubelet.sock").exists, "the socket for device plug-ins")
    plugin = DevicePlugin(directory / "gpu.sock", {"gpu-0": (), "gpu-1": ()})
    plugin.needs.envs["GPUS"] = "one"
    plugin.needs.devices.add(container_path="/dev/gpu", host_path="/dev/zero", permissions="r")
    loop.do(plugin.start())
    try:
        loop.do(plugin.register(directory / "kubelet.sock", GPU))

        def amounts() -> tuple[str | None, str | None]:
            status = api.must("GET", f"/api/v1/nodes/{NODE}")["status"]
            return status["capacity"].get(GPU), status["allocatable"].get(GPU)

        wait_for(lambda: amounts() == ("2", "2"), "the devices in the node's status")
        script = f"head -c 3 /dev/gpu | wc -c > /dev/termination-log; echo $GPUS; {FOREVER}"
        pod = bound("gpu", run("a", script, resources={"limits": {GPU: "1"}}))
        api.create(pod)
        api.wait_ready("gpu")
        assert len(plugin.allocated) == 1
        listed = loop.do(_list(joined.root / "pod-resources" / "kubelet.sock"))
        [mine] = [one for one in listed.pod_resources if one.name == "gpu"]
        [device] = mine.containers[0].devices
        assert (device.resource_name, list(device.device_ids)) == (GPU, plugin.allocated[0])
        assert health(api.pod("gpu")) == [(device.device_ids[0], "Healthy")]
        loop.do(plugin.change(device.device_ids[0]))
        sick = [(device.device_ids[0], "Unhealthy")]
        api.wait("gpu", lambda pod: health(pod) == sick, "the health of its device")
        loop.do(plugin.change())
        wait_for(lambda: amounts() == ("2", "2"), "the devices to be healthy again")
        plugin.fault = "too hot"
        api.create(bound("hot", run("a", FOREVER, resources={"limits": {GPU: "1"}})))
        hot = api.wait("hot", lambda pod: pod["status"]["phase"] == "Failed", "refused")["status"]
        assert hot["reason"] == "UnexpectedAdmissionError"
        assert "Allocate failed due to rpc error: code = Unknown desc = too hot" in hot["message"]
        api.delete("hot", gracePeriodSeconds=0)
        # The device stays the pod's over a restart of the kubelet.
        joined.kill()
        joined.start()

        def again() -> list[podresources_pb2.PodResources]:
            # Until the new kubelet listens and has taken its pods over, there is no such pod.
            try:
                listed = loop.do(_list(joined.root / "pod-resources" / "kubelet.sock"))
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return []
            return [one for one in listed.pod_resources if one.name == "gpu"]

        assert wait_for(again, "the pod among those that have devices") == [mine]
        api.delete("gpu", gracePeriodSeconds=0)
        api.wait_gone("gpu")
    finally:
        loop.do(plugin.stop())


def health(pod: Any) -> list[tuple[str, str]]:
    """Return the devices of a pod's container with their health, as its status tells."""
    [status] = pod["status"]["containerStatuses"]
    resources = status.get("allocatedResourcesStatus", [])
    return [(one["resourceID"], one["health"]) for each in resources for one in each["resources"]]


async def _list(socket: Path) -> podresources_pb2.ListPodResourcesResponse:
    async with connect(socket) as channel:
        stub: podresources_pb2_grpc.PodResourcesListerAsyncStub
        stub = podresources_pb2_grpc.PodResourcesListerStub(channel)
        request = podresources_pb2.ListPodResourcesRequest()
        return await stub.List(request, timeout=patient(10), wait_for_ready=True)


def test_a_csi_volume_outlives_its_pod_and_the_kubelet(
    joined: KubeletProcess, api: Api, run: Run, loop: Loop, tmp_path: Path
) -> None:
    registry = joined.root / "plugins_registry"
    wait_for(registry.exists, "the directory of plug-ins")
    driver = CsiDriver(
        tmp_path / "csi.sock", tmp_path / "volumes", binds=True, topology={"d.io/zone": "z"}
    )
    loop.do(driver.start())
    registrar = Registrar(registry / "d.sock", "CSIPlugin", "d.io", str(driver.socket), "1.0.0")
    loop.do(registrar.start())
    try:
        _check_registered(api)
        _make_volume(api)
        volume = {"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}
        script = f"echo kept > /data/file; {FOREVER}"
        mount = [{"name": "v", "mountPath": "/data"}]
        api.create(bound("disk", run("a", script, volumeMounts=mount), volumes=[volume]))
        handle = "kubernetes.io/csi/d.io^h-1"
        wait_for(lambda: handle in _node(api)["status"].get("volumesInUse", ()), "it is in use")
        _attach(api)
        api.wait_ready("disk")
        kept = tmp_path / "volumes" / "h-1" / "file"
        wait_for(lambda: kept.exists() and kept.read_text() == "kept\n", "the file")
        assert driver.names() == ["stage", "publish"]
        assert driver.calls[0][1]["publishContext"] == {"slot": "7"}
        joined.kill()
        joined.start()
        api.delete("disk", gracePeriodSeconds=0)
        api.wait_gone("disk", 40)
        wait_for(lambda: driver.names()[-1] == "unstage", "the volume unstaged")
        wait_for(lambda: not _node(api)["status"].get("volumesInUse"), "it is not in use")
        assert kept.read_text() == "kept\n"
    finally:
        loop.do(registrar.stop())
        loop.do(driver.stop())
        for path in ("persistentvolumes/pv-1", "namespaces/default/persistentvolumeclaims/claim"):
            api.ask("PATCH", f"/api/v1/{path}", {"metadata": {"finalizers": None}}, MERGE)
            api.ask("DELETE", f"/api/v1/{path}")


def _node(api: Api) -> Any:
    return api.must("GET", f"/api/v1/nodes/{NODE}")


def _check_registered(api: Api) -> None:
    path = f"/apis/storage.k8s.io/v1/csinodes/{NODE}"

    def drivers() -> Any:
        return api.ask("GET", path)[1].get("spec", {}).get("drivers")

    [entry] = wait_for(drivers, "the driver in the CSINode")
    assert (entry["name"], entry["nodeID"], entry["topologyKeys"]) == (
        "d.io",
        "node-1",
        ["d.io/zone"],
    )
    assert entry["allocatable"] == {"count": 7}
    meta = _node(api)["metadata"]
    assert meta["annotations"]["csi.volume.kubernetes.io/nodeid"] == '{"d.io":"node-1"}'
    assert meta["labels"]["d.io/zone"] == "z"


def _make_volume(api: Api) -> None:
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "csi": {"driver": "d.io", "volumeHandle": "h-1"},
    }
    claim = api.must(
        "POST",
        "/api/v1/namespaces/default/persistentvolumeclaims",
        {
            "metadata": {"name": "claim"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "",
                "volumeName": "pv-1",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
    )
    reference = {"namespace": "default", "name": "claim", "uid": claim["metadata"]["uid"]}
    volume = {"metadata": {"name": "pv-1"}, "spec": {**spec, "claimRef": reference}}
    api.must("POST", "/api/v1/persistentvolumes", volume)
    status = {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}
    path = "/api/v1/namespaces/default/persistentvolumeclaims/claim/status"
    api.must("PATCH", path, status, MERGE)


def _attach(api: Api) -> None:
    """Do what the controllers of volumes do."""
    name = attachment_name(CsiVolume(driver="d.io", handle="h-1"), NODE)
    collection = "/apis/storage.k8s.io/v1/volumeattachments"
    spec = {"attacher": "d.io", "nodeName": NODE, "source": {"persistentVolumeName": "pv-1"}}
    api.must("POST", collection, {"metadata": {"name": name}, "spec": spec})
    status = {"attached": True, "attachmentMetadata": {"slot": "7"}}
    api.must("PATCH", f"{collection}/{name}/status", {"status": status}, MERGE)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU cannot be shared out")
def test_a_guaranteed_pod_has_cpus_of_its_own(stopped_kubelet: KubeletProcess, run: Run) -> None:
    kubelet = stopped_kubelet
    kubelet.flags = ("--cpu-manager-policy=static", "--kube-reserved=cpu=500m")
    kubelet.start()
    # What is written there is a file of the kubelet on the node.
    tell = "sed -n 's/^Cpus_allowed_list:\\t//p' /proc/self/status > /dev/termination-log"
    loop = f"while :; do {tell}; sleep 0.1; done"
    part = {"cpu": "500m", "memory": "64Mi"}
    shared = run("a", loop, resources={"limits": part, "requests": part})
    kubelet.write("shared", manifest("shared", shared))
    kubelet.wait_pod("shared", lambda pod: condition(pod, "Ready") == "True", "Ready")
    everything = cpusets.show(os.sched_getaffinity(0))
    wait_for(lambda: _cpus(kubelet, "shared") == everything, "the CPUs that are shared")
    amounts = {"cpu": "1", "memory": "64Mi"}
    own = run("b", loop, resources={"limits": amounts, "requests": amounts})
    kubelet.write("own", manifest("own", own))
    wait_for(lambda: _cpus(kubelet, "own"), "the CPUs of the pod")
    mine = cpusets.parse(_cpus(kubelet, "own"))
    assert len(mine) == 1
    assert mine != {0}  # the reserved one
    assert not _throttled(kubelet, "own")
    assert _throttled(kubelet, "shared")
    rest = cpusets.show(os.sched_getaffinity(0) - mine)
    wait_for(lambda: _cpus(kubelet, "shared") == rest, "the rest to be shared")
    # The state is lost: it is set aside and found anew, and nobody else gets those CPUs.
    kubelet.kill()
    state = kubelet.root / "cpu_manager_state"
    state.write_text(state.read_text().replace("static", "statik"))
    kubelet.start()
    corrupt = kubelet.root / "cpu_manager_state.corrupt"
    wait_for(corrupt.exists, "the state set aside")
    told = f':"{cpusets.show(mine)}"}}'
    wait_for(lambda: state.exists() and told in state.read_text(), "the state made anew")
    wait_for(lambda: _cpus(kubelet, "shared") == rest, "the rest to be shared")
    kubelet.remove("own")
    wait_for(lambda: _cpus(kubelet, "shared") == everything, "all CPUs to be shared again")
    corrupt.unlink()


def _throttled(kubelet: KubeletProcess, name: str) -> bool:
    """Whether the cgroup of a Guaranteed pod, or a container below it, has a quota of CPU time."""
    pod = kubelet.pod(name)
    top, uid, found = Path("/sys/fs/cgroup"), pod["metadata"]["uid"], []
    below = f"{kubelet.pods_cgroup().strip('/')}/**"
    for path in (*top.glob(f"*/{below}/cpu.cfs_quota_us"), *top.glob(f"{below}/cpu.max")):
        if uid in str(path).replace("_", "-"):
            found.append(int(path.read_text().split()[0].replace("max", "-1")))
    assert found
    return max(found) > 0


def _cpus(kubelet: KubeletProcess, name: str) -> str:
    """Return the CPUs that a container of a pod wrote of itself."""
    pod = kubelet.pod(name)
    if pod is None:
        return ""
    directory = kubelet.root / "pods" / pod["metadata"]["uid"] / "containers"
    found = [path.read_text().strip() for path in directory.glob("*/*")]
    return found[-1] if found else ""
