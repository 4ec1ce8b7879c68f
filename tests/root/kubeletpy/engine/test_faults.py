"""Each kind of fault is told within two seconds: where, why, and what to do about it."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from tests.root.kubeletpy.engine.process import NODE, KubeletProcess, manifest, wait_for
from tests.root.runtime.cri.node import Node, Place, running_node
from tests.support.machine import Allowances

pytestmark = pytest.mark.root
Run = Callable[..., dict[str, Any]]
FOREVER = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"
IN_TIME = 2.0
"""Seconds from the cause to event and status."""


@pytest.fixture(scope="module")
def node(place: Place, machine_allowances: Allowances) -> Iterator[Node]:
    """A runtime whose network is a CNI plugin that always fails."""
    for process in ("-m runtime", "spawner", "unpacker"):
        machine_allowances.allow("processes", process)
    plugins, configuration = place.directory / "cni", place.directory / "net.d"
    plugins.mkdir()
    configuration.mkdir()
    plugin = plugins / "failing"
    answer = '{"cniVersion": "1.0.0", "code": 11, "msg": "no addresses left"}'
    plugin.write_text(
        '#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] || exit 0\n' + f"echo '{answer}'\nexit 1\n"
    )
    plugin.chmod(0o755)
    listed = {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "failing"}]}
    (configuration / "10-pods.conflist").write_text(json.dumps(listed))
    extra = f'[cni]\nconf_dir = "{configuration}"\nbin_dirs = ["{plugins}"]\n'
    with running_node(place, extra) as running:
        yield running


class Refusing(http.server.BaseHTTPRequestHandler):
    """A registry that answers with the status that the image's name begins with."""

    def do_GET(self) -> None:
        status = int(self.path.split("/")[2]) if self.path.count("/") > 2 else 200
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="here"')
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def registry(node: Node) -> Iterator[str]:
    with in_namespace(node.place.netns):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


@contextmanager
def tight_cgroups(node: Node, kubelet: KubeletProcess) -> Iterator[None]:
    """Have no cgroup made that may use CPUs (cgroup v1), or none at all (v2)."""
    root = kubelet.pods_cgroup()
    quota = node.cgroup_file(root, "cpu", "cpu.cfs_quota_us")
    most = node.cgroup_file(root, "", "cgroup.max.descendants")
    file, tight, wide = (quota, "1000", "-1") if quota.exists() else (most, "0", "max")
    file.write_text(tight)
    try:
        yield
    finally:
        file.write_text(wide)


@dataclass(frozen=True)
class Fault:
    """One fault: what is wrong of a pod, and what shall be told of it.

    Attributes:
        event: reason of the event.
        words: what its message has to name.
        waiting: reason in the status: of the container, or of the pod that failed.
        container, spec: fields of container and pod that are wrong.
    """

    event: str
    words: tuple[str, ...]
    waiting: tuple[str, ...] = ()
    container: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)


PULL = ("ErrImagePull", "ImagePullBackOff")


def faults(host: str, missing: str) -> dict[str, Fault]:
    def image(path: str) -> dict[str, Any]:
        return {"image": f"{host}/{path}:v1", "imagePullPolicy": "Always"}

    volume = {"name": "v", "hostPath": {"path": f"{missing}/not", "type": "Directory"}}
    on_file = {"name": "v", "hostPath": {"path": "/proc/version", "type": "File"}}
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "echo no key; exit 3"]}}}
    probe = {"exec": {"command": ["sh", "-c", "echo not yet; exit 1"]}, "periodSeconds": 1}
    seccomp = {"type": "Localhost", "localhostProfile": "missing.json"}
    many = {"requests": {"cpu": "4000"}}
    return {
        "image": Fault("Failed", (f"{host}/404/app", "404", "not found"), PULL, image("404/app")),
        "auth": Fault("Failed", (f"{host}/401/app", "needs credentials"), PULL, image("401/app")),
        "busy": Fault("Failed", (f"{host}/503/app", "503", "check"), PULL, image("503/app")),
        "away": Fault("Failed", ("127.0.0.1:1", "refused", "check that the registry"), PULL,
                      {"image": "127.0.0.1:1/a:v1"}),
        "name": Fault("Failed", ("nowhere.invalid", "cannot connect"), PULL,
                      {"image": "nowhere.invalid/a:v1"}),
        "cni": Fault("FailedCreatePodSandBox", ("failing", "no addresses left"),
                     ("ContainerCreating",), {}, {"hostNetwork": False}),
        "mount": Fault("Failed", ("/etc/passwd/x",), ("CreateContainerError", "RunContainerError"),
                       {"volumeMounts": [{"name": "v", "mountPath": "/etc/passwd/x"}]},
                       {"volumes": [on_file]}),
        "hook": Fault("FailedPostStartHook", ("PostStartHook failed", "exited with 3"), (),
                      {"lifecycle": hook}),
        "probe": Fault("Unhealthy", ("Readiness probe failed", "not yet"), (),
                       {"readinessProbe": probe}),
        "seccomp": Fault("Failed", ("missing.json",), ("CreateContainerError",
                         "CreateContainerConfigError"),
                         {"securityContext": {"seccompProfile": seccomp}}),
        "admission": Fault("UnexpectedAdmissionError", ("preemption", "res: cpu"),
                           ("UnexpectedAdmissionError",), {"resources": many}),
        "cgroup": Fault("FailedCreatePodContainer", ("kubepods", "Invalid argument|unavailable"),
                        ("ContainerCreating",), {"resources": {"limits": {"cpu": "500m"}}}),
        "volume": Fault("FailedMount", (f"{missing}/not", "not a directory|does not exist"),
                        ("ContainerCreating",),
                        {"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
                        {"volumes": [volume]}),
    }  # fmt: skip


def reasons(pod: Any) -> set[str]:
    """Return why a pod, or a container of it, is not as it should be."""
    status = pod["status"]
    waiting = {
        one["state"].get("waiting", {}).get("reason", "")
        for one in status.get("containerStatuses", [])
    }
    return {*waiting, status.get("reason", "")}


def told(kubelet: KubeletProcess, name: str, fault: Fault) -> str:
    """Return the message of the event, once it and the status are there."""
    status, body = kubelet.get("/events")
    if status != 200:
        return ""
    pod = kubelet.pod(name)
    for event in json.loads(body)["items"]:
        message = event["message"]
        if (
            event["involvedObject"]["name"] == f"{name}-{NODE}"
            and event["reason"] == fault.event
            and all(any(one in message for one in word.split("|")) for word in fault.words)
            and (not fault.waiting or (pod is not None and reasons(pod) & set(fault.waiting)))
        ):
            return str(message)
    return ""


def shown(kubelet: KubeletProcess, name: str) -> str:
    """Return all that is told of a pod, for a test that fails."""
    _, body = kubelet.get("/events")
    events = [
        f"{one['reason']}: {one['message']}"
        for one in json.loads(body)["items"]
        if one["involvedObject"]["name"] == f"{name}-{NODE}"
    ]
    return json.dumps({"events": events, "pod": kubelet.pod(name)}, indent=1)


def test_each_fault_is_told_in_time(kubelet: KubeletProcess, node: Node, run: Run) -> None:
    late: list[str] = []
    with registry(node) as host:
        for name, fault in faults(host, str(kubelet.directory)).items():
            container = {**run("c", FOREVER), **fault.container}
            made = manifest(name, container, **{"hostNetwork": True, **fault.spec})
            with tight_cgroups(node, kubelet) if name == "cgroup" else nullcontext():
                begun = time.monotonic()
                kubelet.write(name, made)
                try:
                    message = wait_for(partial(told, kubelet, name, fault), name, IN_TIME)
                    print(f"{name}: {time.monotonic() - begun:.2f} s: {message}")
                except AssertionError:
                    late.append(f"{name}: {shown(kubelet, name)}")
            kubelet.remove(name)
    assert not late, "\n".join(late)
