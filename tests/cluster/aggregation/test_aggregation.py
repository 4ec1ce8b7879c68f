"""Extension servers behind the API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.engine.resources import CONFIG_MAPS, SERVICES, SLICES, Object, Resource
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.apiclient.kubeconfig import read_kubeconfig
from tests.support.cluster import Cluster, cluster
from tests.support.extension import (
    API_SERVICES,
    GROUP,
    RESOURCES,
    Extension,
    condition,
    extension,
    make_slice,
    reason,
    register,
)

NAME = f"v1.{GROUP}"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


@pytest.fixture
async def sample(server: Cluster, tmp_path: Path) -> AsyncIterator[Extension]:
    trust = await server.get(CONFIG_MAPS, "extension-apiserver-authentication", "kube-system")
    trusted = trust["data"]["requestheader-client-ca-file"]
    async with extension(tmp_path, trusted, "sample.default.svc") as made:
        yield made


def flunders(sample: Extension) -> list[tuple[str, list[tuple[str, str]], str]]:
    """Return the requests that are none of the server's own."""
    return [one for one in sample.asked if "/flunders" in one[0]]


async def test_requests_go_on_in_the_name_of_who_sent_them(
    server: Cluster, sample: Extension
) -> None:
    await register(server, sample.port, sample.bundle)
    await reason(server, NAME, "Passed")
    assert await server.client.get(f"/apis/{GROUP}/v1") == RESOURCES
    sample.asked.clear()
    path = f"/apis/{GROUP}/v1/namespaces/default/flunders"
    body = {"kind": "Flunder", "metadata": {"name": "a"}}
    liar = {"X-Remote-User": "somebody", "X-Remote-Group": "system:masters"}
    session = server.client._session
    async with session.post(
        server.client.access.server + path + "?fieldManager=x", json=body, headers=liar
    ) as answer:
        assert answer.status == 201
        assert await answer.json() == body
    [(asked, headers, client)] = flunders(sample)
    assert asked == f"{path}?fieldManager=x"
    assert client == "front-proxy-client"
    told = [(name, value) for name, value in headers if name.lower().startswith("x-remote-")]
    assert told[:3] == [
        ("X-Remote-User", "kubernetes-admin"),
        ("X-Remote-Group", "kubeadm:cluster-admins"),
        ("X-Remote-Group", "system:authenticated"),
    ]
    extra = dict(told[3:])
    assert list(extra) == ["X-Remote-Extra-authentication.kubernetes.io%2Fcredential-id"]
    assert not any(name.lower() == "authorization" for name, _ in headers)


async def test_watches_come_as_they_are_sent(server: Cluster, sample: Extension) -> None:
    await register(server, sample.port, sample.bundle)
    await reason(server, NAME, "Passed")
    names: list[str] = []
    async with asyncio.timeout(10):
        async for event in server.client.watch(f"/apis/{GROUP}/v1/flunders", {}, idle=10):
            names.append(event["object"]["metadata"]["name"])
            sample.gate.set()
    assert names == ["f1", "f2"]


async def test_redirects_are_not_followed_nor_passed_on(server: Cluster, sample: Extension) -> None:
    await register(server, sample.port, sample.bundle)
    await reason(server, NAME, "Passed")
    with pytest.raises(ApiError) as error:
        await server.client.get(f"/apis/{GROUP}/v1/flunders/moved")
    assert error.value.code == 502


async def test_who_may_not_is_not_passed_on(
    server: Cluster, sample: Extension, tmp_path: Path
) -> None:
    await register(server, sample.port, sample.bundle)
    await reason(server, NAME, "Passed")
    sample.asked.clear()
    access = read_kubeconfig(tmp_path / "api" / "proxy.kubeconfig")
    async with ApiClient(access) as other:
        with pytest.raises(ApiError) as error:
            await other.get(f"/apis/{GROUP}/v1/flunders")
    assert error.value.code == 403
    assert not flunders(sample)


async def test_discovery_tells_of_both(server: Cluster, sample: Extension) -> None:
    await register(server, sample.port, sample.bundle)
    await reason(server, NAME, "Passed")
    groups = [one["name"] for one in (await server.client.get("/apis"))["groups"]]
    assert groups[:3] == ["apiregistration.k8s.io", "apps", "events.k8s.io"]
    assert groups[-1] == GROUP
    one = await server.client.get(f"/apis/{GROUP}")
    assert one["preferredVersion"] == {"groupVersion": f"{GROUP}/v1", "version": "v1"}
    apps = await server.client.get("/apis/autoscaling")
    assert [one["version"] for one in apps["versions"]] == ["v2", "v1"]
    session = server.client._session
    media = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    url = server.client.access.server + "/apis"
    async with session.get(url, headers={"Accept": media}) as answer:
        assert answer.headers["Content-Type"] == media
        found = {one["metadata"]["name"]: one for one in json.loads(await answer.read())["items"]}
    [version] = found[GROUP]["versions"]
    assert version["freshness"] == "Current"
    kind = {"group": GROUP, "version": "v1", "kind": "Flunder"}
    assert version["resources"] == [
        {"resource": "flunders", "responseKind": kind, "scope": "Namespaced",
         "singularResource": "flunder", "verbs": ["get", "list", "watch", "create"],
         "shortNames": ["fl"], "subresources": [
             {"subresource": "status", "responseKind": kind, "verbs": ["get"]}]},
    ]  # fmt: skip
    assert found["apps"]["versions"][0]["resources"]
    sample.healthy = False
    await server.client.delete(SLICES.path("default", "sample"))
    await make_slice(server, sample.port)
    await reason(server, NAME, "FailedDiscoveryCheck")
    async with session.get(url, headers={"Accept": media}) as answer:
        items = json.loads(await answer.read())["items"]
    [version] = next(one for one in items if one["metadata"]["name"] == GROUP)["versions"]
    assert version["freshness"] == "Stale"
    assert [one["resource"] for one in version["resources"]] == ["flunders"]


async def test_the_condition_says_what_is_missing(server: Cluster, sample: Extension) -> None:
    await register(server, sample.port, sample.bundle)
    await reason(server, NAME, "Passed")
    path = SERVICES.path("default", "sample")
    service = await server.get(SERVICES, "sample")
    service["spec"]["ports"][0]["port"] = 444
    service = await server.client.update(path, service)
    found = await reason(server, NAME, "ServicePortError")
    assert condition(found) == ("False", "ServicePortError")
    [told] = found["status"]["conditions"]
    assert told["message"] == 'service/sample in "default" is not listening on port 443'
    with pytest.raises(ApiError) as error:
        await server.client.get(f"/apis/{GROUP}/v1/flunders")
    assert error.value.code == 503
    service["spec"]["ports"][0]["port"] = 443
    await server.client.update(path, service)
    await reason(server, NAME, "Passed")
    await server.client.delete(SLICES.path("default", "sample"))
    await reason(server, NAME, "EndpointsNotFound")
    # Nobody listens there.
    wrong = await make_slice(server, 1)
    found = await reason(server, NAME, "FailedDiscoveryCheck")
    assert (
        "failing or missing response from https://" in found["status"]["conditions"][0]["message"]
    )
    wrong["ports"][0]["port"] = sample.port
    await server.client.update(SLICES.path("default", "sample"), wrong)
    await reason(server, NAME, "Passed")
    await server.client.delete(path)
    await reason(server, NAME, "ServiceNotFound")


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"caBundle": ""}, "FailedDiscoveryCheck"),
        ({"caBundle": "", "insecureSkipTLSVerify": True}, "Passed"),
    ],
)
async def test_the_certificate_of_an_extension_counts(
    server: Cluster, sample: Extension, spec: dict[str, Any], wanted: str
) -> None:
    await register(server, sample.port, sample.bundle, **spec)
    await reason(server, NAME, wanted)


async def test_the_servers_own_groups_are_there(server: Cluster) -> None:
    def fits(found: list[Object]) -> bool:
        names = {one["metadata"]["name"] for one in found}
        return {"v1.", "v1.apps", "v2.autoscaling"} <= names

    found = await server.until(API_SERVICES, fits)
    apps = next(one for one in found if one["metadata"]["name"] == "v1.apps")
    assert apps["spec"] == {"group": "apps", "version": "v1", "groupPriorityMinimum": 17800,
                            "versionPriority": 15}  # fmt: skip
    assert condition(apps) == ("True", "Local")


async def test_custom_resources_have_one_as_long_as_they_are_there(server: Cluster) -> None:
    definitions = Resource(
        "apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", False
    )
    names = {"plural": "shirts", "singular": "shirt", "kind": "Shirt"}
    schema = {"openAPIV3Schema": {"type": "object"}}
    made = await server.create(definitions, {
        "metadata": {"name": "shirts.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": schema}]},
    })  # fmt: skip
    await reason(server, "v1.example.com", "Local")
    await server.client.delete(definitions.path_of(made))
    await server.until(API_SERVICES, lambda found: not any(
        one["metadata"]["name"] == "v1.example.com" for one in found))  # fmt: skip


@pytest.mark.parametrize(
    ("name", "spec", "field"),
    [
        ("v1.other", {}, "metadata.name"),
        (NAME, {"groupPriorityMinimum": 0}, "spec.groupPriorityMinimum"),
        (NAME, {"versionPriority": 1001}, "spec.versionPriority"),
        (NAME, {"caBundle": "YQ==", "insecureSkipTLSVerify": True}, "spec.insecureSkipTLSVerify"),
        (NAME, {"service": None, "caBundle": "YQ=="}, "spec.caBundle"),
        (NAME, {"service": {"name": "x"}}, "spec.service.namespace"),
        (f"1.{GROUP}", {"version": "1"}, "spec.version"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    server: Cluster, name: str, spec: dict[str, object], field: str
) -> None:
    wanted = {
        "group": GROUP, "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
        "service": {"namespace": "default", "name": "x"}, **spec,
    }  # fmt: skip
    with pytest.raises(ApiError) as error:
        await server.create(API_SERVICES, {"metadata": {"name": name}, "spec": wanted})
    assert error.value.code == 422
    assert [cause["field"] for cause in error.value.details["causes"]] == [field]
