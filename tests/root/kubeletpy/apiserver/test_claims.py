"""A pod's claim on a real node: provisioned, written, read again, removed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.root.kubeletpy.engine.process import NODE, KubeletProcess, condition, wait_for
from tests.support.circumstances import patient

from .cluster import Api, Object

pytestmark = pytest.mark.root
Run = Callable[..., dict[str, Any]]
CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
VOLUMES = "/api/v1/persistentvolumes"
CONTROLLERS = ("persistentvolume-binder-controller", "volume-provisioner")


@contextlib.contextmanager
def process(api: Api, log: Path, *words: str) -> Iterator[None]:
    """Run a process of the control plane in the network of the node."""
    command = ["nsenter", f"--net={api.netns}", sys.executable, "-m", "kubeletpy", *words,
               f"--kubeconfig={api.kubeconfig}", "--no-leader-elect",
               "--healthz-port=-1"]  # fmt: skip
    with open(log, "wb") as file:
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield
    finally:
        running.terminate()
        assert running.wait(patient(15)) == 0, log.read_text()[-2000:]


def pod(name: str, container: Object) -> Object:
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
    mounts = [{"name": "v", "mountPath": "/data"}]
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "nodeName": NODE, "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "restartPolicy": "Never", "volumes": [volume],
            "securityContext": {"runAsUser": 1000, "runAsGroup": 1000},
            "containers": [{**container, "volumeMounts": mounts}],
        },
    }  # fmt: skip


def is_ready(status: int, node: Object) -> bool:
    return status == 200 and condition(node, "Ready") == "True"


def test_a_claim_keeps_what_pods_write(
    joined: KubeletProcess, api: Api, run: Run, tmp_path: Path
) -> None:
    root = tmp_path / "volumes"
    wait_for(lambda: is_ready(*api.ask("GET", f"/api/v1/nodes/{NODE}")), "the node to be ready")
    flags = (f"--controllers={','.join(CONTROLLERS)}", f"--host-path-root={root}",
             "--host-path-class=standard")  # fmt: skip
    with process(api, tmp_path / "controllers.log", "controllers", *flags):
        wait_for(
            lambda: api.ask("GET", "/apis/storage.k8s.io/v1/storageclasses/standard")[0] == 200,
            "the storage class",
        )
        request = {"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"]}
        # As the scheduler says it.
        chosen = {"volume.kubernetes.io/selected-node": NODE}
        meta = {"name": "data", "annotations": chosen}
        api.must("POST", CLAIMS, {"metadata": meta, "spec": request})
        # Each pod adds a line, which it can only do if it may write and has what was written.
        for number in (1, 2):
            script = f"echo x >> /data/lines; test $(wc -l < /data/lines) = {number}"
            api.create(pod(f"writer-{number}", run("a", script)))
            done = api.wait(
                f"writer-{number}", lambda one: one["status"]["phase"] in ("Succeeded", "Failed"),
                "its end",
            )  # fmt: skip
            assert done["status"]["phase"] == "Succeeded", done["status"]
            api.delete(f"writer-{number}")
            api.wait_gone(f"writer-{number}")
        [volume] = api.must("GET", VOLUMES)["items"]
        place = Path(volume["spec"]["hostPath"]["path"])
        assert (place / "lines").stat().st_uid == 1000
        assert place.parent == root
        api.must("DELETE", f"{CLAIMS}/data")
        wait_for(lambda: not api.must("GET", VOLUMES)["items"], "the volume to be gone")
        assert os.listdir(root) == [".making"]
