"""Objects of an API server: pages, changes, what cannot be read."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kubeletpy_common.apiclient.access import access_of
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.kubeconfig import Access, KubeconfigError, in_cluster
from proxy.inputs.cluster import PAGE, follow
from proxy.model.portal import Family, PortalName
from proxy.model.portals import Model
from proxy.runner import Inputs
from tests.unit.common.apiclient.server import Answer, events, serving, status

SERVICES, NODES = "/api/v1/services", "/api/v1/nodes"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"


def service(name: str, number: int, version: str = "5", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "x", "resourceVersion": version},
        "spec": {"clusterIP": f"10.0.0.{number}", "ports": [{"port": 80}], **spec},
    }


def page(*items: dict[str, Any], more: str = "", version: str = "5") -> Answer:
    metadata = {"resourceVersion": version} | ({"continue": more} if more else {})

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"kind": "List", "metadata": metadata, "items": list(items)})

    return answer


class Following:
    """A model that follows a scripted server."""

    def __init__(self) -> None:
        self.model = Model("here")
        self.moved = asyncio.Event()
        self.inputs = Inputs(self.model, "here", self.moved.set)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            await self.inputs.complete.wait()
            while not condition():
                self.moved.clear()
                await self.moved.wait()

    def names(self) -> list[str]:
        self.model.take(Family.V4)
        return sorted(name.service for name in self.model.portals(Family.V4))


async def test_lists_in_pages_then_changes(caplog: pytest.LogCaptureFixture) -> None:
    following = Following()
    async with serving() as script, ApiClient(Access(server=script.url)) as client:
        script.answers[f"GET {SERVICES}"] = [
            page(service("a", 1), service("b", 2), more="next"),
            page(service("c", 3), service("bad", 9, ports="none")),
        ]
        script.answers[f"WATCH {SERVICES}"] = [
            events(
                ("ADDED", service("d", 4, "6")), ("DELETED", service("a", 1, "7")),
                ("BOOKMARK", {"metadata": {"resourceVersion": "8"}}),
                ("MODIFIED", service("b", 2, "9", ports=[{"port": "http"}])), hold=True,
            )
        ]  # fmt: skip
        for path in (SLICES, NODES):
            script.answers[f"GET {path}"] = [page()]
            script.answers[f"WATCH {path}"] = [events(hold=True)]
        with caplog.at_level(logging.WARNING):
            task = asyncio.create_task(follow(client, following.inputs, "here"))
            await following.until(lambda: following.names() == ["c", "d"])
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        seen = [query for key, query in script.seen if key == f"GET {SERVICES}"]
        assert [query.get("continue") for query in seen] == [None, "next"]
        assert all(query["limit"] == str(PAGE) for query in seen)
        assert all("resourceVersion" not in query for query in seen)
        assert seen[0]["labelSelector"] == "!service.kubernetes.io/service-proxy-name"
        assert seen[0]["fieldSelector"] == "spec.clusterIP!=None"
        queries = dict(script.seen)
        assert queries[f"GET {SLICES}"]["labelSelector"] == "!service.kubernetes.io/headless"
        assert queries[f"GET {NODES}"]["fieldSelector"] == "metadata.name=here"
        assert queries[f"WATCH {SERVICES}"]["resourceVersion"] == "5"
        told = [record.__dict__["fields"] for record in caplog.records]
        assert [each["object"] for each in told if "object" in each] == ["x/bad", "x/b"]


async def test_what_went_while_we_were_away_is_forgotten() -> None:
    following = Following()
    async with serving() as script, ApiClient(Access(server=script.url)) as client:
        script.answers[f"GET {SERVICES}"] = [
            page(service("a", 1), service("b", 2)), page(service("b", 2)),
        ]  # fmt: skip
        script.answers[f"WATCH {SERVICES}"] = [status(410, "Expired"), events(hold=True)]
        for path in (SLICES, NODES):
            script.answers[f"GET {path}"] = [page()]
            script.answers[f"WATCH {path}"] = [events(hold=True)]
        task = asyncio.create_task(follow(client, following.inputs, "here"))
        await following.until(lambda: following.names() == ["b"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_slices_and_the_zone_of_the_node() -> None:
    following = Following()
    one = {
        "metadata": {"name": "a-1", "namespace": "x", "resourceVersion": "5",
                     "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.1.0.1"], "nodeName": "here"}],
    }  # fmt: skip
    node = {"metadata": {"name": "here", "labels": {"topology.kubernetes.io/zone": "z"}}}
    async with serving() as script, ApiClient(Access(server=script.url)) as client:
        for path, item in ((SERVICES, service("a", 1)), (SLICES, one), (NODES, node)):
            script.answers[f"GET {path}"] = [page(item)]
            script.answers[f"WATCH {path}"] = [events(hold=True)]
        task = asyncio.create_task(follow(client, following.inputs, "here"))
        await following.until(following.names)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    found = following.model.portals(Family.V4)[PortalName("x", "a", "", "TCP")]
    assert [(each.ip, each.is_local) for each in found.cluster_endpoints] == [("10.1.0.1", True)]
    assert following.model.zone == "z"
    assert following.inputs.node is not None


def test_where_the_api_server_is(tmp_path: Path) -> None:
    assert access_of("", "http://10.0.0.1:1/", {}).server == "http://10.0.0.1:1"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps({
        "kind": "Config", "current-context": "a", "users": [],
        "contexts": [{"name": "a", "context": {"cluster": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": "https://10.0.0.2:2"}}],
    }))  # fmt: skip
    assert access_of(str(kubeconfig), "", {}).server == "https://10.0.0.2:2"
    assert access_of(str(kubeconfig), "http://10.0.0.1:1", {}).server == "http://10.0.0.1:1"
    with pytest.raises(KubeconfigError, match="--master 'nonsense' is no URL"):
        access_of("", "nonsense", {})
    with pytest.raises(KubeconfigError, match="this is no pod"):
        access_of("", "", {})


def test_as_a_pod(tmp_path: Path) -> None:
    variables = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(KubeconfigError, match="no token"):
        in_cluster(variables, tmp_path)
    (tmp_path / "token").write_text("secret\n")
    with pytest.raises(KubeconfigError, match=r"ca\.crt"):
        in_cluster(variables, tmp_path)
    (tmp_path / "ca.crt").write_text("PEM")
    access = in_cluster(variables, tmp_path)
    assert (access.server, access.ca) == ("https://[fd00::1]:443", b"PEM")
    assert access.bearer() == "secret"
