"""The kubelet's API with a real runtime: logs, streams, and what is refused."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
from typing import Any

import aiohttp
import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from kubeletpy_proto import cri_pb2 as cri
from tests.root.kubeletpy.engine.process import KubeletProcess, container
from tests.root.kubeletpy.server.client import PORT, READ_ONLY_PORT, Client, Session
from tests.root.runtime.cri.node import Node
from tests.support.circumstances import patient

pytestmark = pytest.mark.root
LOG = "/containerLogs/default/web-n1/talks"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_is_told_or_done_anonymously(client: Client, method: str) -> None:
    for path in (
        "/", "/pods", "/runningpods/", "/healthz", "/configz", "/logs/", "/metrics",
        "/stats/summary", LOG, "/exec/default/web-n1/talks?command=id&output=1",
        "/run/default/web-n1/talks?cmd=id", "/attach/default/web-n1/cat?input=1",
        "/portForward/default/web-n1", "/debug/pprof/heap", "/checkpoint/default/web-n1/talks",
    ):  # fmt: skip
        assert client.get(path, method=method, anonymous=True) == (401, "Unauthorized"), path


def test_the_read_only_port_serves_what_changes_nothing(kubelet: KubeletProcess) -> None:
    def ask(method: str, path: str) -> int:
        with in_namespace(kubelet.place.netns):
            connection = http.client.HTTPConnection(
                "127.0.0.1", READ_ONLY_PORT, timeout=patient(20)
            )
            connection.connect()
        connection.request(method, path)
        status = connection.getresponse().status
        connection.close()
        return status

    for path in ("/pods", "/healthz", "/stats/summary", "/metrics", "/metrics/cadvisor"):
        assert ask("GET", path) == 200, path
    for path in (LOG, "/exec/default/web-n1/talks", "/run/default/web-n1/talks?cmd=id", "/configz",
                 "/logs/", "/runningpods/", "/portForward/default/web-n1"):  # fmt: skip
        assert {ask("GET", path), ask("POST", path)} <= {404, 405}, path


def test_pods(client: Client, kubelet: KubeletProcess) -> None:
    status, text = client.get("/pods")
    listed = json.loads(text)["items"]
    assert (status, [pod["metadata"]["name"] for pod in listed]) == (200, ["web-n1"])
    assert listed == [kubelet.pod("web")]
    running = json.loads(client.get("/runningpods/")[1])["items"]
    names = {one["name"] for one in running[0]["spec"]["containers"]}
    assert names == {"talks", "cat", "server"}


def test_refusals(client: Client) -> None:
    assert client.get("/containerLogs/default/none/c") == (404, 'pod "none" does not exist')
    told = 'container "none" not found in pod "web-n1"'
    assert client.get("/containerLogs/default/web-n1/none") == (404, told)
    told = 'previous terminated container "talks" in pod "web-n1" not found'
    assert client.get(f"{LOG}?previous=true") == (400, told)
    assert client.get(f"{LOG}?tailLines=x")[0] == 400
    assert client.get(f"{LOG}?tailLines=-1")[0] == 422
    told = "Upgrade request required"
    assert client.get("/exec/default/web-n1/talks?output=1", method="POST") == (400, told)
    assert client.get("/logs/../../etc/passwd")[0] in (403, 404)
    assert client.get("/logs/%2e%2e/%2e%2e/etc/passwd")[0] in (403, 404)


def test_logs_of_a_container(client: Client) -> None:
    status, text = client.get(LOG)
    assert status == 200
    assert text.startswith("1\n2\n3\n")
    assert client.get(f"{LOG}?limitBytes=5")[1] == "1\n2\n3"
    lines = client.get(f"{LOG}?tailLines=2&timestamps=true")[1].splitlines()
    assert len(lines) == 2
    assert len(lines[0].split()[0]) >= len("2026-01-01T00:00:00.000000000Z")


def test_a_log_is_followed_over_rotations_to_the_end_of_the_container(
    client: Client, kubelet: KubeletProcess, node: Node
) -> None:
    pod = kubelet.pod("web")
    before = container(pod, "talks")
    name = before["containerID"].partition("://")[2]
    directory = kubelet.logs / f"default_web-n1_{pod['metadata']['uid']}" / "talks"

    def rotate() -> None:
        log = directory / "0.log"
        log.rename(f"{log}.20260101-000000")
        node.runtime.ReopenContainerLog(cri.ReopenContainerLogRequest(container_id=name))

    async def follow(session: Session) -> list[bytes]:
        lines: list[bytes] = []
        async with session.get(f"{LOG}?follow=true&tailLines=1") as answer:
            async for line in answer.content:
                lines.append(line)
                if len(lines) == 5:
                    await asyncio.to_thread(rotate)
                if len(lines) == 15:
                    await asyncio.to_thread(node.stop, name, 5)
        return lines

    lines = client.talk(follow)
    assert lines[-1] == b"bye\n"
    numbers = [int(line) for line in lines[:-1]]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    kubelet.wait_pod(
        "web", lambda pod: container(pod, "talks")["restartCount"] == 1, "a second talks"
    )
    assert client.get(f"{LOG}?previous=true&tailLines=1") == (200, "bye\n")


def test_a_link_in_the_place_of_a_log_is_not_followed(
    client: Client, kubelet: KubeletProcess
) -> None:
    uid = kubelet.pod("web")["metadata"]["uid"]
    log = kubelet.logs / f"default_web-n1_{uid}" / "cat" / "0.log"
    away = log.with_suffix(".away")
    log.rename(away)
    secret = kubelet.directory / "secret"
    secret.write_text("2026-01-01T00:00:00Z stdout F secret\n")
    log.symlink_to(secret)
    try:
        status, text = client.get("/containerLogs/default/web-n1/cat")
    finally:
        away.rename(log)
    assert status == 400
    assert "failed to open log file" in text


def test_a_command_by_websocket(client: Client) -> None:
    path = "/exec/default/web-n1/talks?input=1&output=1&error=1"
    script = "cat; echo wrong >&2; exit 7"

    async def execute(session: Session) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        query = "".join(f"&command={word}" for word in ("sh", "-c", script.replace(" ", "%20")))
        protocols = ("v5.channel.k8s.io",)
        query = query.replace(";", "%3B").replace(">&", "%3E%26")
        async with session.ws_connect(path + query, protocols=protocols) as socket:
            assert socket.protocol == "v5.channel.k8s.io"
            await socket.send_bytes(b"\x00" + b"x" * 300_000)
            # Closes the channel of the input.
            await socket.send_bytes(b"\xff\x00")
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    channel = message.data[0]
                    found[channel] = found.get(channel, b"") + message.data[1:]
        return found

    found = client.talk(execute)
    assert found[1] == b"x" * 300_000
    assert found[2] == b"wrong\n"
    status: Any = json.loads(found[3])
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]


def test_attach_by_websocket(client: Client) -> None:
    async def attach(session: Session) -> bytes:
        path = "/attach/default/web-n1/cat?input=1&output=1"
        async with session.ws_connect(path, protocols=("v5.channel.k8s.io",)) as socket:
            await socket.send_bytes(b"\x00hello\n")
            async for message in socket:
                binary = message.type is aiohttp.WSMsgType.BINARY
                if binary and message.data[:1] == b"\x01" != message.data:
                    return bytes(message.data[1:])
        raise AssertionError("nothing came back")

    assert client.talk(attach) == b"hello\n"


def test_ports_are_forwarded_by_spdy(client: Client, kubelet: KubeletProcess) -> None:
    async def upgrade() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT, ssl=client.context())
        writer.write(
            b"POST /portForward/default/web-n1 HTTP/1.1\r\nHost: n1\r\nConnection: Upgrade\r\n"
            b"Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: portforward.k8s.io\r\n\r\n"
        )
        head = await reader.readuntil(b"\r\n\r\n")
        # A SPDY ping (RFC-less: SPDY protocol, draft 3.1, section 2.6.5) comes back as it is.
        ping = b"\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01"
        writer.write(ping)
        assert await reader.readexactly(len(ping)) == ping
        writer.close()
        return head

    async def limited() -> bytes:
        async with asyncio.timeout(patient(10)):
            return await upgrade()

    with in_namespace(kubelet.place.netns):
        head = asyncio.run(limited())
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"portforward.k8s.io" in head


def test_run(client: Client) -> None:
    path = "/run/default/web-n1/talks?cmd=echo%20hello"
    assert client.get(path, method="POST") == (200, "hello\n")
    status, text = client.get("/run/default/web-n1/talks?cmd=false", method="POST")
    assert (status, text) == (500, "command 'false' exited with 1: ")


def test_a_summary_of_the_node_and_its_pods(client: Client) -> None:
    status, text = client.get("/stats/summary")
    assert status == 200
    summary = json.loads(text)
    node = summary["node"]
    assert node["nodeName"] == "n1"
    for part in (node, *node["systemContainers"]):
        assert part["cpu"]["usageCoreNanoSeconds"] > 0, part
        assert 0 < part["memory"]["workingSetBytes"] <= part["memory"]["usageBytes"], part
    assert {one["name"] for one in node["systemContainers"]} >= {"kubelet", "runtime", "pods"}
    assert node["cpu"]["usageNanoCores"] > 0
    assert 0 < node["fs"]["usedBytes"] < node["fs"]["capacityBytes"]
    assert node["runtime"]["imageFs"]["usedBytes"] > 0
    assert node["rlimit"]["curproc"] > 0
    [pod] = summary["pods"]
    assert pod["podRef"]["name"] == "web-n1"
    assert pod["process_stats"]["process_count"] >= 3
    assert pod["network"]["name"] == "eth0"
    assert {one["name"] for one in pod["containers"]} == {"talks", "cat", "server"}
    for one in (*pod["containers"], pod):
        assert one["cpu"]["usageCoreNanoSeconds"] > 0
        assert one["memory"]["workingSetBytes"] > 0
    talks = next(one for one in pod["containers"] if one["name"] == "talks")
    assert talks["logs"]["usedBytes"] > 0
    assert pod["ephemeral-storage"]["usedBytes"] >= talks["logs"]["usedBytes"]
    plain = json.loads(client.get("/stats/summary?only_cpu_and_memory=true")[1])
    assert "fs" not in plain["node"]
    assert "network" not in plain["pods"][0]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/metrics", 'kubelet_running_containers{container_state="running"} 3.0'),
        ("/metrics", 'kubelet_runtime_operations_total{operation_type="run_podsandbox"} 1.0'),
        ("/metrics", 'kubelet_node_name{node="n1"} 1.0'),
        ("/metrics", "process_resident_memory_bytes"),
        ("/metrics/probes", "# TYPE prober_probe_total counter"),
        ("/metrics/slis", 'kubernetes_healthcheck{name="syncloop",type="healthz"} 1'),
        ("/metrics/resource", 'pod_memory_working_set_bytes{namespace="default",pod="web-n1"}'),
        ("/metrics/resource", "resource_scrape_error 0"),
        ("/metrics/cadvisor", "container_scrape_error 0"),
        ("/metrics/cadvisor", 'container_cpu_usage_seconds_total{container="talks",cpu="total"'),
        ("/metrics/cadvisor", 'container_memory_working_set_bytes{container="",id="/"'),
        ("/metrics/cadvisor", "machine_cpu_cores"),
    ],
)
def test_metrics(client: Client, path: str, expected: str) -> None:
    status, text = client.get(path)
    assert status == 200
    assert f"\n{expected}" in f"\n{text}"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_only(client: Client, kubelet: KubeletProcess) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1

    async def connect(context: ssl.SSLContext | None) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT, ssl=context)
        writer.write(b"GET /pods HTTP/1.1\r\nHost: n1\r\n\r\n")
        assert await asyncio.wait_for(reader.read(), patient(10)) == b""
        raise ConnectionResetError("closed without a word")

    for context in (None, old):
        with in_namespace(kubelet.place.netns), pytest.raises((ssl.SSLError, ConnectionError)):
            asyncio.run(connect(context))
