"""Install, install again, upgrade under a pod that runs, uninstall: nothing is left."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from kubeletpy.install import units
from tests.root.kubeletpy.apiserver.cluster import Api
from tests.root.kubeletpy.engine.process import condition
from tests.root.runtime.cri.node import wait_until
from tests.support.machine import Allowances, MachineState, Scope, report
from tests.support.ociimage import busybox_image, push
from tests.support.registry import DockerRegistry
from tests.vm.inside.services import host

from .conftest import PROGRAM, install, kubeletpy, release

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]
ADMIN = Path("/etc/kubeletpy/admin.kubeconfig")
OBJECTS = "/api/v1/namespaces/default"
INGRESSES = "/apis/networking.k8s.io/v1/namespaces/default/ingresses"


def processes_of(pod: Any) -> set[tuple[int, str]]:
    """Return the processes of a pod's containers: pid and start, which name one for good."""
    found = set()
    for status in pod["status"]["containerStatuses"]:
        identifier = status["containerID"].partition("://")[2]
        (scope,) = Path("/sys/fs/cgroup").glob(f"kubepods.slice/**/kubeletpy-{identifier}.scope")
        for pid in map(int, (scope / "cgroup.procs").read_text().split()):
            stat = Path(f"/proc/{pid}/stat").read_text()
            found.add((pid, stat.rpartition(")")[2].split()[19]))
    return found


def pod_of(image: str) -> Any:
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "steady"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": image, "command": ["sleep", "36000"]}],
        },
    }  # fmt: skip


def web_of(image: str) -> Any:
    script = "mkdir -p /www && echo it is web > /www/index.html && exec httpd -f -p 8080 -h /www"
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": image, "command": ["sh", "-c", script]}],
        },
    }  # fmt: skip


def says(address: str, host_name: str) -> str:
    """Return what a web server answers, or why there is no answer."""
    request = urllib.request.Request(f"http://{address}/", headers={"Host": host_name})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.read().decode().strip())
    except (OSError, urllib.error.HTTPError) as error:
        return str(error)


def timed(what: str, begun: float) -> None:
    print(f"\n{what}: {time.monotonic() - begun:.1f} s", flush=True)


def test_a_server_from_nothing_to_nothing(prepared: None, tmp_path: Path) -> None:
    before = MachineState.capture(Scope(strict=True, settle=20.0))
    (tmp_path / "registry").mkdir()
    with DockerRegistry(tmp_path / "registry") as registry:
        push(busybox_image({}, config={}), registry.host, "tests/busybox", "v1")
        begun = time.monotonic()
        did = install("server", "--program", str(PROGRAM))
        timed("install server", begun)
        assert list(did["services"].values()) == ["started"] * len(units.ALL)
        assert "kubeletpy install node" in did["joinCommand"], did
        assert did["kubeconfig"] == str(ADMIN)
        assert ADMIN.stat().st_mode & 0o777 == 0o600

        begun = time.monotonic()
        assert set(install("server")["services"].values()) == {"runs on"}
        timed("install again", begun)

        api = Api(Path("/proc/self/ns/net"), ADMIN)
        begun = time.monotonic()
        api.create(pod_of(f"{registry.host}/tests/busybox:v1"))
        pod = api.wait("steady", lambda it: condition(it, "Ready") == "True", "Ready", 600.0)
        timed("a pod is Ready", begun)
        published(api, f"{registry.host}/tests/busybox:v1")
        upgrade(api, pod)

        status = json.loads(kubeletpy("install", "status", "-o", "json"))
        assert status["well"], status
        begun = time.monotonic()
        kubeletpy("uninstall", "--yes", "--timeout", "300")
        timed("uninstall", begun)
        kubeletpy("uninstall", "--yes")  # twice is no fault
    allowed = Allowances()
    # Modules stay loaded, and with them what they have in /proc/sys; logs are the test's own.
    allowed.allow("files", "/var/log/kubeletpy-")
    allowed.allow("files", "/run/credentials")  # systemd's own, made with its first credential
    assert (leaks := before.leaks(allowed)) == [], report(leaks, "uninstall")


def published(api: Api, image: str) -> None:
    """Have the controllers, in their sandbox, serve an Ingress and give a Service an address.

    The machine's address is 10.9.0.1, see `host.set_up_network`.
    """
    begun = time.monotonic()
    did = install(
        "server", "--ingress", "--load-balancer-pool", "10.9.0.128/29",
        "--load-balancer-interface", "uplink",
    )  # fmt: skip
    assert [name for name, what in did["services"].items() if what == "restarted"] == [
        units.CONTROLLERS
    ]
    timed("install again, with Ingresses and load balancers", begun)
    api.create(web_of(image))
    port = {"port": 80, "targetPort": 8080}
    spec = {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [port]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}
    api.must("POST", f"{OBJECTS}/services", service)
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    api.must("POST", INGRESSES, {
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"},
        "spec": {"rules": [{"host": "web.example.test", "http": {"paths": [path]}}]},
    })  # fmt: skip
    begun = time.monotonic()

    def given(path: str) -> list[Any]:
        status = api.must("GET", f"{path}/web")["status"]
        return [one["ip"] for one in status.get("loadBalancer", {}).get("ingress", ())]

    wait_until(lambda: bool(given(f"{OBJECTS}/services")), "the Service has an address", 60)
    (address,) = given(f"{OBJECTS}/services")
    assert address.startswith("10.9.0.1"), address
    wait_until(lambda: f" {address}/" in host.run("ip", "address"), "it is on the link", 60)
    wait_until(lambda: says(address, "any") == "it is web", "the Service answers at it", 60)
    wait_until(lambda: given(INGRESSES) == ["10.9.0.1"], "the Ingress has an address", 60)
    wait_until(
        lambda: says("10.9.0.1", "web.example.test") == "it is web", "the Ingress answers", 60
    )
    assert "404" in says("10.9.0.1", "else.example.test")
    timed("a Service and an Ingress answer", begun)


def upgrade(api: Api, pod: Any) -> None:
    """Start all daemons anew from another release; the pod does not notice."""
    first = processes_of(pod)
    assert first
    pids = {name: host.main_pid(name) for name in units.ALL}
    release("2")
    begun = time.monotonic()
    did = json.loads(kubeletpy("install", "--upgrade", "--timeout", "600", "-o", "json"))
    timed("upgrade of all services", begun)
    assert set(did["services"].values()) == {"restarted"}
    assert not [name for name, pid in pids.items() if host.main_pid(name) == pid]
    after = api.wait("steady", lambda it: condition(it, "Ready") == "True", "Ready", 600.0)
    assert processes_of(after) == first
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
