"""The metrics server behind an API server, with kubelets and pods that only tell metrics."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from controlplane.auth.trust.authority import SERVER_AUTH, Subject, open_authority
from controlplane.engine.resources import NODES, PODS, SERVICES, Object
from controlplane.metrics_server.server import MetricsServer
from kubeletpy_common.apiclient.client import STRATEGIC_PATCH, ApiClient
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.apiclient.kubeconfig import Access, read_kubeconfig
from tests.support.cluster import SECONDS, Cluster, cluster
from tests.support.extension import API_SERVICES, own_address, reason
from tests.support.hollow import node, running

METRICS = "/apis/metrics.k8s.io/v1beta1"
CUSTOM = "/apis/custom.metrics.k8s.io/v1beta2"
EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"


@dataclass
class Told:
    """What a kubelet and a pod tell; the counters grow with time."""

    kubelet: int = 0
    pod: int = 0
    names: list[str] = field(default_factory=list)
    text: str = ""
    begun: float = field(default_factory=time.time)

    async def resource(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        certificate = request.transport.get_extra_info("peercert") or {}
        self.names += [text for part in certificate.get("subject", ())
                       for key, text in part if key == "commonName"]  # fmt: skip
        now = time.time()
        at, cpu = int(now * 1000), (now - self.begun) * 0.25
        labels = '{container="main",namespace="default",pod="web-0"}'
        return web.Response(text="\n".join((
            f"node_cpu_usage_seconds_total {cpu * 4} {at}",
            f"node_memory_working_set_bytes 1048576 {at}",
            f"container_cpu_usage_seconds_total{labels} {cpu} {at}",
            f"container_memory_working_set_bytes{labels} 4096 {at}",
            f"container_start_time_seconds{labels} {self.begun - 1000}", "")))  # fmt: skip

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/endless":
            response = web.StreamResponse()
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                while True:
                    await response.write(b"x 1\n" * 10_000)
        if request.path == "/moved":
            raise web.HTTPFound("http://127.0.0.1/")
        grown = int((time.time() - self.begun) * 1000)
        return web.Response(text=self.text or (
            f"# TYPE requests counter\nrequests_total {grown}\n"
            '# TYPE depth gauge\ndepth{queue="a"} 3\ndepth{queue="b"} 4.5\n'))  # fmt: skip


@contextlib.asynccontextmanager
async def telling(directory: Path) -> AsyncIterator[Told]:
    """Serve as a kubelet (TLS, with the cluster's authority) and as a pod."""
    authority = open_authority(directory / "api" / "pki", "ca", "kubernetes")
    pair = authority.issue(Subject("n1"), usages=(SERVER_AUTH,), names=[own_address()])
    (directory / "kubelet.pem").write_bytes(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "kubelet.pem")
    context.load_verify_locations(cadata=authority.pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    told = Told()
    runners = []
    try:
        for handler, tls in ((told.resource, context), (told.metrics, None)):
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", handler)
            runners.append(runner := web.AppRunner(app, access_log=None, shutdown_timeout=0.1))
            await runner.setup()
            await web.TCPSite(runner, own_address(), 0, ssl_context=tls).start()
        told.kubelet, told.pod = (runner.addresses[0][1] for runner in runners)
        yield told
    finally:
        for runner in runners:
            await runner.cleanup()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


@pytest.fixture
async def told(server: Cluster, tmp_path: Path) -> AsyncIterator[Told]:
    """A node, a pod, and the metrics server, registered."""
    async with telling(tmp_path) as made:
        await server.client.create(NODES.path(), node("n1", labels={"zone": "z"}))
        status = node("n1")["status"]
        status["addresses"] = [{"type": "InternalIP", "address": own_address()}]
        status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": made.kubelet}}
        path = NODES.path(name="n1", subresource="status")
        await server.client.patch(path, {"status": status}, kind=STRATEGIC_PATCH)
        await make_pod(server, "web-0", made.pod)
        await server.create(SERVICES, {"metadata": {"name": "front"}, "spec": {
            "ports": [{"port": 80}], "selector": {"app": "web"}}})  # fmt: skip
        await server.start_parts(
            [MetricsServer], metric_resolution=0.3, metrics_secure_port=0,
            kubelet_preferred_address_types=("InternalIP",),
        )  # fmt: skip
        versions = ("v1beta1.metrics", "v1beta2.custom.metrics", "v1beta1.custom.metrics",
                    "v1beta1.external.metrics")  # fmt: skip
        for name in (f"{version}.k8s.io" for version in versions):
            await reason(server, name, "Passed")
        yield made


async def make_pod(server: Cluster, name: str, port: int, **notes: str) -> Object:
    given = {"scrape": "true", "port": str(port), **notes}
    annotations = {f"prometheus.io/{key}": text for key, text in given.items()}
    meta = {"name": name, "labels": {"app": "web"}, "annotations": annotations}
    container = {"name": "main", "image": "x"}
    made = await server.create(PODS, {
        "metadata": meta, "spec": {"containers": [container], "nodeName": "n1"}})  # fmt: skip
    status = {**running(made), "podIP": own_address(), "podIPs": [{"ip": own_address()}]}
    return await server.client.patch(PODS.path_of(made, "status"), {"status": status})


async def got(server: Cluster, path: str, **params: str) -> Object:
    """Return what is at a path, as soon as there is something."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                answer = await server.client.get(path, params=params)
                if answer.get("items") != []:
                    return answer
            except ApiError as error:
                if error.code != 404:
                    raise
            await asyncio.sleep(0.05)


async def test_usage_of_nodes_and_pods(server: Cluster, told: Told) -> None:
    answer = await got(server, f"{METRICS}/nodes")
    assert (answer["kind"], answer["apiVersion"]) == ("NodeMetricsList", "metrics.k8s.io/v1beta1")
    [one] = answer["items"]
    assert one["metadata"]["name"] == "n1"
    assert one["metadata"]["labels"]["zone"] == "z"
    cpu = int(one["usage"]["cpu"].removesuffix("n")) / 1e9
    assert cpu == pytest.approx(1, abs=0.05)
    assert one["usage"]["memory"] == "1Mi" or one["usage"]["memory"] == "1024Ki"
    assert one["window"].endswith("s")
    pod = await got(server, f"{METRICS}/namespaces/default/pods/web-0")
    assert pod["kind"] == "PodMetrics"
    [container] = pod["containers"]
    assert container["name"] == "main"
    used = int(container["usage"]["cpu"].removesuffix("n")) / 1e9
    assert used == pytest.approx(0.25, abs=0.02)
    assert container["usage"]["memory"] == "4Ki"
    path = f"{METRICS}/pods"
    found = await server.client.get(path, params={"labelSelector": "app=web"})
    assert [item["metadata"]["name"] for item in found["items"]] == ["web-0"]
    assert not (await server.client.get(path, params={"labelSelector": "app=x"}))["items"]
    chosen = await server.client.get(path, params={"fieldSelector": "metadata.name=web-0"})
    assert len(chosen["items"]) == 1
    with pytest.raises(ApiError) as error:
        await server.client.get(f"{METRICS}/namespaces/default/pods/none")
    assert error.value.message == 'podmetrics.metrics.k8s.io "default/none" not found'
    # By the certificate of whom it asks the API server as.
    assert set(told.names) == {"kubernetes-admin"}
    headers = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
    url = server.client.access.server + f"{METRICS}/namespaces/default/pods"
    async with server.client._session.get(url, headers=headers) as response:
        table = await response.json()
    assert table["kind"] == "Table"
    assert table["rows"][0]["cells"][0] == "web-0"


async def test_metrics_of_pods(server: Cluster, told: Told) -> None:
    answer = await got(server, f"{CUSTOM}/namespaces/default/pods/*/requests", labelSelector="app")
    assert answer["kind"] == "MetricValueList"
    [item] = answer["items"]
    assert item["describedObject"] == {"kind": "Pod", "namespace": "default", "name": "web-0",
                                       "apiVersion": "v1"}  # fmt: skip
    assert item["metric"] == {"name": "requests"}
    number = item["value"]
    rate = float(number[:-1]) / 1000 if number.endswith("m") else float(number)
    # A thousand a second; the clock is read at both ends, so a busy machine blurs it.
    assert rate == pytest.approx(1000, rel=0.5) or number == "1k"
    path = f"{CUSTOM}/namespaces/default/services/front/depth"
    answer = await got(server, path, metricLabelSelector="queue=b")
    [item] = answer["items"]
    assert item["value"] == "4500m"
    assert item["describedObject"]["kind"] == "Service"
    assert item["metric"]["selector"] == {"matchLabels": {"queue": "b"}}
    answer = await got(server, f"{CUSTOM}/namespaces/default/metrics/depth")
    assert answer["items"][0]["value"] == "7500m"
    old = f"{CUSTOM.replace('v1beta2', 'v1beta1')}/namespaces/default/pods/web-0/depth"
    assert (await got(server, old))["items"][0]["metricName"] == "depth"
    answer = await got(server, f"{EXTERNAL}/namespaces/other/depth", labelSelector="queue=a")
    [item] = answer["items"]
    assert item["value"] == "3"
    assert item["metricLabels"] == {"namespace": "default", "pod": "web-0", "queue": "a"}
    with pytest.raises(ApiError) as error:
        await server.client.get(f"{CUSTOM}/namespaces/default/pods/*/none")
    assert error.value.code == 404
    names = {one["name"] for one in (await server.client.get(CUSTOM))["resources"]}
    assert {"pods/depth", "services/requests_total", "namespaces/depth"} <= names


async def test_hostile_pods_do_no_harm(server: Cluster, told: Told) -> None:
    await make_pod(server, "endless", told.pod, path="/endless")
    await make_pod(server, "moved", told.pod, path="/moved")
    await make_pod(server, "closed", 1)
    path = f"{CUSTOM}/namespaces/default/pods/*/depth"
    answer = await got(server, path)
    for _ in range(3):
        before = answer["items"][0]["timestamp"]
        async with asyncio.timeout(SECONDS):
            while answer["items"][0]["timestamp"] == before:
                answer = await server.client.get(path)
                await asyncio.sleep(0.1)
        assert [one["describedObject"]["name"] for one in answer["items"]] == ["web-0"]


async def test_who_may_not_sees_nothing(server: Cluster, told: Told, tmp_path: Path) -> None:
    await got(server, f"{METRICS}/nodes")
    proxy = read_kubeconfig(tmp_path / "api" / "proxy.kubeconfig")
    async with ApiClient(proxy) as other:
        with pytest.raises(ApiError) as error:
            await other.get(f"{METRICS}/nodes")
        assert error.value.code == 403
    service = await server.get(API_SERVICES, "v1beta1.metrics.k8s.io")
    bundle = base64.b64decode(service["spec"]["caBundle"])
    pieces = await server.client.get(
        "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/metrics-server"
    )
    port = pieces["ports"][0]["port"]
    url = f"https://{own_address()}:{port}"
    name = "metrics-server.kube-system.svc"
    forged = {"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}

    async def ask(access: Access, headers: dict[str, str]) -> int:
        async with ApiClient(access) as direct:
            session: Any = direct._session
            async with session.get(
                f"{url}{METRICS}/nodes", headers=headers, server_hostname=name
            ) as answer:
                return int(answer.status)

    nobody = Access(server=url, ca=bundle, server_name=name)
    assert await ask(nobody, forged) == 401
    assert await ask(nobody, {"Authorization": "Bearer nonsense"}) == 401
    # Users of the cluster are known by their certificates, and may not say that they are others.
    known = Access(server=url, ca=bundle, server_name=name, certificate=proxy.certificate,
                   key=proxy.key)  # fmt: skip
    assert await ask(known, forged) == 403
    admin = server.client.access
    allowed = Access(server=url, ca=bundle, server_name=name, certificate=admin.certificate,
                     key=admin.key)  # fmt: skip
    assert await ask(allowed, {}) == 200
    account = {"metadata": {"name": "looker"}}
    await server.client.create("/api/v1/namespaces/kube-system/serviceaccounts", account)
    made = await server.client.create(
        "/api/v1/namespaces/kube-system/serviceaccounts/looker/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    )
    bearer = {"Authorization": f"Bearer {made['status']['token']}"}
    assert await ask(nobody, bearer) == 403
