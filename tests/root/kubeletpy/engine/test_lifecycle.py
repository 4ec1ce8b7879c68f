"""A pod from its manifest to its end, with a real runtime."""

from __future__ import annotations

import http.client
import http.server
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from tests.root.kubeletpy.engine.process import (
    NODE,
    KubeletProcess,
    condition,
    container,
    manifest,
    wait_for,
)
from tests.root.runtime.cri.node import Node
from tests.support.circumstances import patient

pytestmark = pytest.mark.root
Run = Callable[..., dict[str, Any]]
FOREVER = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"


def test_pod_with_init_volume_probe_and_hooks(
    kubelet: KubeletProcess, node: Node, run: Run
) -> None:
    volume = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    web = run(
        "web", "exec httpd -f -p 8080 -h /data", **volume,
        readinessProbe={"httpGet": {"path": "/index.html", "port": 8080}, "periodSeconds": 1},
        lifecycle={"postStart": {"exec": {"command": ["touch", "/data/started"]}}},
        env=[{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
    )  # fmt: skip
    side = run("side", f"echo side of $POD; {FOREVER}", env=[{"name": "POD", "value": "web"}])
    kubelet.write("web", manifest(
        "web", web, side, volumes=[{"name": "data", "emptyDir": {}}],
        initContainers=[run("one", "echo hello > /data/index.html", **volume),
                        run("two", "test -s /data/index.html", **volume)],
    ))  # fmt: skip
    pod = kubelet.wait_ready("web")
    status = pod["status"]
    assert status["phase"] == "Running"
    assert [one["state"]["terminated"]["reason"] for one in status["initContainerStatuses"]] == [
        "Completed", "Completed",
    ]  # fmt: skip
    assert all(one["ready"] and one["started"] for one in status["containerStatuses"])
    assert container(pod, "web")["containerID"].startswith("kubeletpy://")
    assert {one["type"]: one["status"] for one in status["conditions"]} == dict.fromkeys(
        ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"),
        "True",
    )
    with in_namespace(node.place.netns):
        connection = http.client.HTTPConnection(status["podIP"], 8080, timeout=patient(5))
        connection.connect()
    connection.request("GET", "/index.html")
    assert connection.getresponse().read() == b"hello\n"
    wait_for(lambda: "side of web" in kubelet.container_log("web", "side"), "the log")
    reasons = [reason for reason, _ in kubelet.events("web")]
    assert {"Pulled", "Created", "Started"} <= set(reasons)
    kubelet.remove("web")
    kubelet.wait_gone("web")
    assert not any(kubelet.logs.iterdir())
    assert not any((kubelet.root / "pods").iterdir())


def test_restart_back_off_and_termination_message(kubelet: KubeletProcess, run: Run) -> None:
    kubelet.write("crash", manifest("crash", run("c", "echo boom > /dev/termination-log; exit 3")))
    pod = kubelet.wait_pod(
        "crash",
        lambda pod: (
            (container(pod, "c")["state"].get("waiting") or {}).get("reason") == "CrashLoopBackOff"
        ),
        "CrashLoopBackOff",
    )
    each = container(pod, "c")
    assert each["restartCount"] == 1
    assert each["state"]["waiting"]["message"].startswith(
        "back-off 10s restarting failed container=c"
    )
    ended = each["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (3, "Error", "boom\n")
    assert pod["status"]["phase"] == "Running"
    assert ("BackOff" in [reason for reason, _ in kubelet.events("crash")]) is True
    kubelet.wait_pod(
        "crash", lambda pod: container(pod, "c")["restartCount"] == 2, "third start", 15
    )


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (1, "Failed")])
def test_never(kubelet: KubeletProcess, run: Run, code: int, phase: str) -> None:
    kubelet.write("once", manifest("once", run("c", f"exit {code}"), restartPolicy="Never"))
    pod = kubelet.wait_pod("once", lambda pod: pod["status"]["phase"] == phase, phase)
    assert container(pod, "c")["restartCount"] == 0
    kubelet.kill()
    kubelet.start()
    pod = kubelet.wait_pod("once", lambda pod: container(pod, "c"), "to be adopted")
    assert pod["status"]["phase"] == phase


def test_failed_init_container_keeps_the_others_from_starting(
    kubelet: KubeletProcess, run: Run
) -> None:
    kubelet.write("init", manifest("init", run("c", FOREVER),
                                   initContainers=[run("i", "exit 1")]))  # fmt: skip
    pod = kubelet.wait_pod(
        "init",
        lambda pod: (
            (container(pod, "i")["state"].get("waiting") or {}).get("reason") == "CrashLoopBackOff"
        ),
        "the init container's back-off",
    )
    assert pod["status"]["phase"] == "Pending"
    assert container(pod, "c")["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert condition(pod, "Initialized") == "False"


def test_sidecar_runs_beside_and_ends_last(kubelet: KubeletProcess, run: Run) -> None:
    shared = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    side = run("side", "trap 'exit 0' TERM; echo up > /v/side; while :; do sleep 1000 & wait; done",
               restartPolicy="Always", **shared)  # fmt: skip
    main = run("main", "test -f /v/side; echo main saw $?", **shared)
    kubelet.write("job", manifest("job", main, restartPolicy="Never", initContainers=[side],
                                  volumes=[{"name": "v", "emptyDir": {}}]))  # fmt: skip
    pod = kubelet.wait_pod("job", lambda pod: pod["status"]["phase"] == "Succeeded", "Succeeded")
    assert container(pod, "side")["state"]["terminated"]["exitCode"] == 0
    assert kubelet.container_log("job", "main") == "main saw 0"


def test_pre_stop_runs_before_the_stop_within_the_grace(
    kubelet: KubeletProcess, run: Run, node: Node
) -> None:
    host = kubelet.directory / "seen"
    host.mkdir()
    script = "trap 'echo term >> /seen/log; exit 0' TERM; while :; do sleep 1000 & wait; done"
    hook = {"exec": {"command": ["sh", "-c", "sleep 0.2; echo hook >> /seen/log"]}}
    mount = {"volumeMounts": [{"name": "seen", "mountPath": "/seen"}]}
    one = run("c", script, lifecycle={"preStop": hook}, **mount)
    kubelet.write("hooked", manifest("hooked", one, volumes=[
        {"name": "seen", "hostPath": {"path": str(host), "type": "Directory"}}]))  # fmt: skip
    kubelet.wait_ready("hooked")
    kubelet.remove("hooked")
    kubelet.wait_gone("hooked")
    assert (host / "log").read_text() == "hook\nterm\n"


def test_container_that_ignores_term_is_killed_after_the_grace(
    kubelet: KubeletProcess, run: Run
) -> None:
    kubelet.write("deaf", manifest("deaf", run("c", "trap '' TERM; while :; do sleep 1; done")))
    kubelet.wait_ready("deaf")
    kubelet.remove("deaf")
    kubelet.wait_gone("deaf", 10)


def test_liveness_restarts_and_readiness_flips(kubelet: KubeletProcess, run: Run) -> None:
    shared = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    live = run("live", f"touch /tmp/alive; {FOREVER}", **shared,
               livenessProbe={"exec": {"command": ["test", "-e", "/tmp/alive"]},
                              "periodSeconds": 1, "failureThreshold": 1})  # fmt: skip
    ready = run("ready", f"touch /tmp/ok; {FOREVER}",
                readinessProbe={"exec": {"command": ["test", "-e", "/tmp/ok"]},
                                "periodSeconds": 1, "failureThreshold": 1})  # fmt: skip
    flip = run("flip", "sleep 2; echo go > /v/go; sleep 1000", **shared)
    kubelet.write("probed", manifest("probed", live, ready, flip, shareProcessNamespace=True,
                                     volumes=[{"name": "v", "emptyDir": {}}]))  # fmt: skip
    pod = kubelet.wait_ready("probed")
    exec_in(kubelet, container(pod, "ready")["containerID"], "rm", "/tmp/ok")
    pod = kubelet.wait_pod("probed", lambda pod: condition(pod, "Ready") == "False", "unready")
    assert container(pod, "ready")["restartCount"] == 0
    exec_in(kubelet, container(pod, "ready")["containerID"], "touch", "/tmp/ok")
    kubelet.wait_ready("probed")
    exec_in(kubelet, container(pod, "live")["containerID"], "rm", "/tmp/alive")
    pod = kubelet.wait_pod(
        "probed", lambda pod: container(pod, "live")["restartCount"] == 1, "restart"
    )
    kubelet.wait_ready("probed")
    messages = [message for _, message in kubelet.events("probed")]
    assert "Container live failed liveness probe, will be restarted" in messages
    assert any(message.startswith("Readiness probe failed: ") for message in messages)


def exec_in(kubelet: KubeletProcess, container_id: str, *command: str) -> None:
    import grpc

    from kubeletpy_proto import cri_pb2, cri_pb2_grpc

    with grpc.insecure_channel(f"unix://{kubelet.place.socket}") as channel:
        stub = cri_pb2_grpc.RuntimeServiceStub(channel)
        request = cri_pb2.ExecSyncRequest(
            container_id=container_id.partition("://")[2], cmd=command, timeout=10
        )
        assert stub.ExecSync(request, timeout=patient(30)).exit_code == 0


class Pages(http.server.BaseHTTPRequestHandler):
    """Serves what its server has, to those who know the key."""

    server: PageServer

    def do_GET(self) -> None:
        known = self.headers.get("X-Key") == "open"
        status, body = self.server.answer if known else (403, b"")
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class PageServer(http.server.HTTPServer):
    """One answer for all."""

    answer: tuple[int, bytes] = (200, b"")


def test_static_pods_of_a_url(stopped_kubelet: KubeletProcess, node: Node, run: Run) -> None:
    kubelet = stopped_kubelet
    with in_namespace(node.place.netns):
        server = PageServer(("127.0.0.1", 0), Pages)
    items = [manifest(name, run("c", FOREVER)) for name in ("one", "two")]
    listed = {"apiVersion": "v1", "kind": "PodList", "items": items}
    server.answer = 200, json.dumps(listed).encode()
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        port = server.server_address[1]
        kubelet.flags = (
            f"--manifest-url=http://127.0.0.1:{port}/", "--manifest-url-header=X-Key:open",
            "--http-check-frequency=200ms",
        )  # fmt: skip
        kubelet.start()
        before = {name: kubelet.wait_ready(name) for name in ("one", "two")}
        source = before["one"]["metadata"]["annotations"]["kubernetes.io/config.source"]
        assert source == "http"
        server.answer = 500, b"no"

        def told() -> list[Any]:
            status, body = kubelet.get("/events")
            events = json.loads(body)["items"] if status == 200 else []
            return [one for one in events if one["reason"] == "StaticPodURLFailed"]

        [on_one] = [one for one in wait_for(told, "the fault")
                    if one["involvedObject"]["name"] == f"one-{NODE}"]  # fmt: skip
        assert "it answers 500" in on_one["message"]
        # A kubelet that starts while the URL fails takes its pods over as they are.
        kubelet.kill()
        kubelet.start()
        wait_for(told, "the fault at the restart")
        assert container(kubelet.wait_ready("two"), "c") == container(before["two"], "c")
        server.answer = 200, json.dumps(items[1]).encode()
        kubelet.wait_gone("one")
        assert container(kubelet.wait_ready("two"), "c") == container(before["two"], "c")
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
