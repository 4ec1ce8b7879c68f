"""Pods that use CPU become more, and fewer when they rest.

Everything is real but the haste: API server, kubelet, runtime, scheduler, controllers, metrics.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from tests.root.kubeletpy.engine.process import NODE, KubeletProcess, wait_for
from tests.support.circumstances import patient
from tests.support.kubectl import Kubectl

from .cluster import Api, Object

pytestmark = pytest.mark.root

CONTROLLERS = (
    "nodelifecycle,deployment,replicaset,horizontalpodautoscaling,scheduler,metrics-server"
)
AUTOSCALER = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
DEPLOYMENT = "/apis/apps/v1/namespaces/default/deployments"
# Busy until a file says that it is enough.
BUSY = "trap 'exit 0' TERM; while [ ! -e /tmp/enough ]; do :; done; sleep 1000 & wait"


@pytest.fixture
def controllers(api: Api, joined: KubeletProcess, tmp_path: Path) -> Iterator[Path]:
    """The process of scheduler, controllers and metrics server; gives its log."""
    log = tmp_path / "controllers.log"
    prefix = "--horizontal-pod-autoscaler"
    command = [
        "nsenter", f"--net={api.netns}", sys.executable, "-P", "-m", "controlplane.controllers",
        f"--kubeconfig={api.kubeconfig}", f"--controllers={CONTROLLERS}", "--no-leader-elect",
        "--healthz-port=-1", f"{prefix}-sync-period=1s", f"{prefix}-downscale-stabilization=0s",
        f"{prefix}-cpu-initialization-period=0s", f"{prefix}-initial-readiness-delay=0s",
        "--metric-resolution=1s", "--kubelet-insecure-tls", "--metrics-secure-port=0",
        "--kubelet-preferred-address-types=InternalIP",
    ]  # fmt: skip
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield log
    finally:
        process.terminate()
        assert process.wait(patient(20)) == 0, log.read_text()[-3000:]


def test_a_deployment_grows_and_shrinks_with_its_load(
    joined: KubeletProcess, api: Api, controllers: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    resources = {"requests": {"cpu": "50m"}, "limits": {"cpu": "100m"}}
    container = run("main", BUSY, resources=resources)
    labels = {"app": "busy"}
    api.must("POST", DEPLOYMENT, {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "busy"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}}}})  # fmt: skip
    target = {"type": "Utilization", "averageUtilization": 60}
    api.must("POST", AUTOSCALER, {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "busy"}, "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "busy"},
            "minReplicas": 1, "maxReplicas": 3,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]},
    })  # fmt: skip

    def running() -> list[Object]:
        pods = api.must("GET", "/api/v1/namespaces/default/pods")["items"]
        return [pod for pod in pods if pod["status"].get("phase") == "Running"
                and "deletionTimestamp" not in pod["metadata"]]  # fmt: skip

    def count(wanted: int) -> None:
        try:
            wait_for(lambda: len(running()) == wanted, f"{wanted} pods", 45)
        except AssertionError as error:
            status = api.must("GET", f"{AUTOSCALER}/busy").get("status")
            pods = api.must("GET", "/api/v1/namespaces/default/pods")["items"]
            lines = [line for line in controllers.read_text().splitlines() if "Failed" not in line]
            raise AssertionError(
                f"{error}: {status} {[pod['status'] for pod in pods]} {lines[:20]}"
            ) from None

    count(3)
    path = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods"
    wait_for(lambda: len(api.must("GET", path)["items"]) == 3, "metrics of all three", 15)
    for item in api.must("GET", path)["items"]:
        # What a container may use, and what it uses.
        [one] = item["containers"]
        assert 50_000_000 < int(one["usage"]["cpu"].removesuffix("n")) < 130_000_000
    with in_namespace(api.netns):
        kubectl = Kubectl(api.kubeconfig, tmp_path)
        lines = kubectl("top", "pods", "--no-headers").splitlines()
        assert {line.partition("-")[0] for line in lines} == {"busy"}
        assert len(lines) == 3
        assert kubectl("top", "nodes", "--no-headers").split()[0] == NODE
        for pod in running():
            kubectl("exec", pod["metadata"]["name"], "--", "touch", "/tmp/enough")
    count(1)
    status = api.must("GET", f"{AUTOSCALER}/busy")["status"]
    conditions = {one["type"]: one["status"] for one in status["conditions"]}
    assert conditions["AbleToScale"] == conditions["ScalingActive"] == "True"
    api.must("DELETE", f"{AUTOSCALER}/busy")
    api.must("DELETE", f"{DEPLOYMENT}/busy")
    wait_for(lambda: not running(), "the pods to go", 20)
