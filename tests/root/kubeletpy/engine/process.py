"""A real kubelet as a process of its own, against a real runtime, in that one's network."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kubeletpy_common.cgroups.systemd.names import child_slice, scope_path
from kubeletpy_common.linux.namespaces import in_namespace
from tests.root.runtime.cri.node import Place
from tests.support.circumstances import patient

NODE = "n1"
PORT = 10248
SECONDS = 20.0
_CLASSES = {"Guaranteed": "", "Burstable": "burstable", "BestEffort": "besteffort"}
Object = Mapping[str, Any]


def wait_for(condition: Callable[[], Any], what: str, timeout: float = SECONDS) -> Any:
    """Return the first true result of ``condition``, which is looked at again and again.

    What a kubelet serves over HTTP has no event to wait for; the pause is 20 ms.
    """
    deadline = time.monotonic() + patient(timeout)
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {what}")
        select.select([], [], [], 0.02)


class KubeletProcess:
    """The process ``python -m kubeletpy.kubelet_main``."""

    def __init__(self, place: Place, directory: Path) -> None:
        self.place = place
        self.directory = directory
        self.manifests = directory / "manifests"
        self.root = directory / "kubelet"
        self.logs = directory / "logs"
        # For systemd a name too: of the slice that it makes of it.
        self.cgroup_root = f"/kt{place.token}k"
        self.cgroup_parent = place.cgroup_of(f"kt{place.token}k")
        self.log_path = directory / "kubelet.log"
        self.manifests.mkdir(parents=True)
        self.flags: tuple[str, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None

    def pods_cgroup(self) -> str:
        """Return the path of the cgroup of all pods."""
        if self.place.driver == "systemd":
            return child_slice(self.cgroup_parent, "kubepods")
        return f"{self.cgroup_root}/kubepods"

    def pod_cgroup(self, pod: Object, below: str = "") -> str:
        """Return the path of a pod's cgroup, or of that of the container ``below`` it."""
        path, of_class = self.pods_cgroup(), _CLASSES[pod["status"]["qosClass"]]
        for name in filter(None, (of_class, f"pod{pod['metadata']['uid']}")):
            path = child_slice(path, name) if self.place.driver == "systemd" else f"{path}/{name}"
        if not below:
            return path
        systemd = self.place.driver == "systemd"
        return scope_path(path, "kubeletpy", below) if systemd else f"{path}/{below}"

    def start(self, *, terminate: bool = True) -> None:
        """Start it and wait until it answers; ``terminate``: it ends its pods when stopped."""
        flags = [*self.flags, *(["--terminate-pods-on-exit"] if terminate else [])]
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen(
                ["nsenter", f"--net={self.place.netns}", sys.executable, "-m",
                 "kubeletpy.kubelet_main", f"--root-dir={self.root}",
                 f"--pod-manifest-path={self.manifests}", f"--pod-logs-dir={self.logs}",
                 f"--cert-dir={self.directory}/pki",
                 f"--cgroup-root={self.cgroup_root}", f"--hostname-override={NODE}",
                 f"--container-runtime-endpoint=unix://{self.place.socket}",
                 *flags],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        wait_for(lambda: self.ended or self.get("/healthz/ping")[0] == 200, "the kubelet")
        assert not self.ended, self.log()[-3000:]

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """End it as a crash would; pods go on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(patient(10))

    def stop(self, timeout: float = 60) -> int:
        """End it politely, which ends and removes its pods; returns its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(patient(timeout))

    def log(self) -> str:
        """Return all that it logged."""
        return self.log_path.read_text() if self.log_path.exists() else ""

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask the kubelet; status 0 if it does not answer."""
        try:
            with in_namespace(self.place.netns):
                connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=patient(5))
                connection.connect()
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 0, b""

    def write(self, name: str, pod: Object | bytes) -> None:
        """Write a manifest as an editor does: whole, and in one step."""
        temporary = self.manifests / f".{name}.tmp"
        temporary.write_bytes(pod if isinstance(pod, bytes) else json.dumps(pod).encode())
        os.replace(temporary, self.manifests / f"{name}.yaml")

    def remove(self, name: str) -> None:
        """Remove a manifest."""
        (self.manifests / f"{name}.yaml").unlink()

    def pods(self) -> list[Any]:
        """Return all pods with their statuses; none if the kubelet does not answer."""
        status, body = self.get("/pods")
        return list(json.loads(body)["items"] or ()) if status == 200 else []

    def pod(self, name: str) -> Any:
        """Return a static pod with its status, or None."""
        for item in self.pods():
            if item["metadata"]["name"] == f"{name}-{NODE}":
                return item
        return None

    def events(self, name: str) -> list[tuple[str, str]]:
        """Return reasons and messages of the events of a pod."""
        _, body = self.get("/events")
        return [
            (event["reason"], event["message"])
            for event in json.loads(body)["items"]
            if event["involvedObject"].get("name") == f"{name}-{NODE}"
        ]

    def wait_pod(
        self, name: str, check: Callable[[Any], Any], what: str, timeout: float = SECONDS
    ) -> Any:
        """Wait until ``check`` of a pod is true, and return the pod."""

        def look() -> Any:
            pod = self.pod(name)
            if pod is None or "containerStatuses" not in pod["status"]:
                return None
            return pod if check(pod) else None

        try:
            return wait_for(look, f"pod {name}: {what}", timeout)
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{json.dumps((self.pod(name) or {}).get('status'), indent=1)}\n"
                f"{self.log()[-4000:]}"
            ) from None

    def wait_ready(self, name: str, timeout: float = SECONDS) -> Any:
        """Wait until a pod is ready, and return it."""
        return self.wait_pod(name, lambda pod: condition(pod, "Ready") == "True", "Ready", timeout)

    def wait_gone(self, name: str, timeout: float = SECONDS) -> None:
        """Wait until a pod is gone."""
        wait_for(lambda: self.pod(name) is None, f"pod {name} to be gone", timeout)

    def container_log(self, name: str, container: str, attempt: int = 0) -> str:
        """Return the text that a container wrote."""
        uid = self.pod(name)["metadata"]["uid"]
        path = self.logs / f"default_{name}-{NODE}_{uid}" / container / f"{attempt}.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return "\n".join(line.split(" ", 3)[3] for line in lines)


def condition(pod: Object, kind: str) -> str:
    """Return the status of a condition."""
    found = [one["status"] for one in pod["status"].get("conditions", []) if one["type"] == kind]
    return found[0] if found else ""


def container(pod: Object, name: str) -> Any:
    """Return the status of a container (also of an init container)."""
    status = pod["status"]
    for each in (*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])):
        if each["name"] == name:
            return each
    raise AssertionError(f"no status of container {name}")


def manifest(name: str, *containers: Object, **spec: Any) -> dict[str, Any]:
    """Return a pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 3, "containers": list(containers), **spec},
    }
