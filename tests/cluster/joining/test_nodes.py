"""What nodes that joined may do, and the certificates that their kubelets get."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509

from controlplane.auth.trust.authority import CLIENT_AUTH, Authority, Subject, open_authority
from controlplane.dns.publishing import Place, Publisher
from controlplane.engine.resources import (
    CONFIG_MAPS,
    NODES,
    PODS,
    SECRETS,
    SERVICES,
    SIGNING_REQUESTS,
    SLICES,
    Object,
    Resource,
)
from kubeletpy.certificates.pairs import SERVING_SIGNER, Template, new_key, request_pem, usages
from kubeletpy_common.apiclient.client import MERGE_PATCH, ApiClient
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.apiclient.kubeconfig import Access
from tests.support.cluster import Cluster, cluster, pod_template
from tests.support.hollow import node

EVENTS = Resource("v1", "events", "Event")
READABLE = (
    "/api/v1/services", "/api/v1/nodes", "/api/v1/namespaces", "/api/v1/pods",
    "/apis/discovery.k8s.io/v1/endpointslices", "/apis/networking.k8s.io/v1/networkpolicies",
)  # fmt: skip


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


def authority(server: Cluster) -> Authority:
    return open_authority(server.kubeconfig.parent / "pki", "ca", "kubernetes")


def kubelet(server: Cluster, name: str) -> ApiClient:
    """Return the client of a node's kubelet."""
    pair = authority(server).issue(
        Subject(f"system:node:{name}", ("system:nodes",)), usages=(CLIENT_AUTH,)
    )
    access = server.client.access
    return ApiClient(Access(server=access.server, ca=access.ca, certificate=pair.certificate,
                            key=pair.key))  # fmt: skip


async def with_node(server: Cluster, name: str, *addresses: str) -> None:
    made = await server.create(NODES, node(name))
    await tell(server, made, name, *addresses)


async def tell(server: Cluster, made: Object, name: str, *addresses: str) -> None:
    told = [{"type": "Hostname", "address": name}]
    told += [{"type": "InternalIP", "address": one} for one in addresses]
    body = {"status": {"addresses": told}}
    await server.client.patch(NODES.path_of(made, "status"), body, kind=MERGE_PATCH)


async def test_a_node_reads_what_its_pods_need_and_not_what_those_of_others_need(
    server: Cluster,
) -> None:
    for name in ("a", "b"):
        await with_node(server, name)
        for resource in (SECRETS, CONFIG_MAPS):
            await server.create(resource, {"metadata": {"name": f"of-{name}"}})
        pod: dict[str, Any] = {**pod_template(), "metadata": {"name": f"pod-{name}"}}
        pod["spec"] |= {"nodeName": name, "volumes": [
            {"name": "s", "secret": {"secretName": f"of-{name}"}},
            {"name": "c", "configMap": {"name": f"of-{name}"}},
        ]}  # fmt: skip
        await server.create(PODS, pod)
    async with kubelet(server, "a") as a, kubelet(server, "b") as b:
        for client, own, other in ((a, "a", "b"), (b, "b", "a")):
            for resource in (SECRETS, CONFIG_MAPS):
                await client.get(resource.path("default", f"of-{own}"))
                for path in (resource.path("default", f"of-{other}"), resource.path("default"),
                             resource.path()):  # fmt: skip
                    with pytest.raises(ApiError) as caught:
                        await client.get(path)
                    assert caught.value.code == 403
            for path in READABLE:
                await client.get(path)
            with pytest.raises(ApiError) as caught:
                await client.patch(NODES.path(name=other), {"metadata": {"labels": {"x": "y"}}})
            assert caught.value.code == 403
            for path in ("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
                         "/api/v1/namespaces/default/services"):  # fmt: skip
                with pytest.raises(ApiError) as caught:
                    await client.create(path, {"metadata": {"name": "x"}})
                assert caught.value.code == 403


async def ask(client: ApiClient, name: str, names: tuple[str, ...], ips: tuple[str, ...]) -> str:
    request = request_pem(Template(node=name, names=names, ips=ips), new_key())
    spec = {"signerName": SERVING_SIGNER, "usages": usages(SERVING_SIGNER),
            "request": base64.b64encode(request).decode()}  # fmt: skip
    body = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"generateName": "csr-"}, "spec": spec}  # fmt: skip
    made = await client.create(SIGNING_REQUESTS.path(), body)
    return str(made["metadata"]["name"])


async def test_serving_certificates_for_a_nodes_own_names_and_addresses(server: Cluster) -> None:
    await server.start("kubelet-serving-approving-controller")
    await with_node(server, "a", "192.0.2.1", "2001:db8::1")
    await with_node(server, "b", "192.0.2.2", "192.0.2.9")
    async with kubelet(server, "a") as a:
        good = await ask(a, "a", ("a",), ("192.0.2.1", "2001:db8:0::1"))
        found = await server.until(SIGNING_REQUESTS, lambda found: any(
            one["status"].get("certificate") for one in found))  # fmt: skip
        pem = base64.b64decode(found[0]["status"]["certificate"])
        names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(
            x509.SubjectAlternativeName).value  # fmt: skip
        assert names.get_values_for_type(x509.DNSName) == ["a"]
        bad = {
            await ask(a, "a", ("a",), ("192.0.2.2",)): "192.0.2.2 is no address of the Node a",
            await ask(a, "a", ("b",), ()): "b is no address of the Node a",
        }
        later = await ask(a, "a", ("a",), ("192.0.2.3",))
        await server.until(EVENTS, lambda found: all(
            any(text in one["message"] and one["involvedObject"]["name"] == name for one in found)
            for name, text in bad.items()))  # fmt: skip
        await tell(server, await server.get(NODES, "a"), "a", "192.0.2.1", "192.0.2.3")
        states = {one["metadata"]["name"]: one["status"] for one in await server.until(
            SIGNING_REQUESTS, lambda found: sum("certificate" in one["status"] for one in found)
            == 2)}  # fmt: skip
        assert {name for name, one in states.items() if "certificate" in one} == {good, later}
        # It is told of the other machine's address, too: whose it is cannot be known.
        await tell(server, await server.get(NODES, "a"), "a", "192.0.2.9")
        name = await ask(a, "a", (), ("192.0.2.9",))
        await server.until(EVENTS, lambda found: any(
            "192.0.2.9 is an address of the Node b, too" in one["message"]
            and one["involvedObject"]["name"] == name for one in found))  # fmt: skip


async def test_a_certificate_that_is_replaced_in_its_file_is_taken(
    server: Cluster, tmp_path: Path
) -> None:
    """As proxy and network of a node need it, which show the kubelet's own."""
    link = tmp_path / "current.pem"

    def become(name: str) -> None:
        pair = authority(server).issue(
            Subject(f"system:node:{name}", ("system:nodes",)), usages=(CLIENT_AUTH,)
        )
        file = tmp_path / f"{name}.pem"
        file.write_bytes(pair.certificate + pair.key)
        (tmp_path / "new").symlink_to(file)
        (tmp_path / "new").replace(link)

    become("first")
    access = server.client.access
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    used = Access(server=access.server, ca=access.ca, certificate_file=link, key_file=link)
    async with ApiClient(used) as client:
        for name in ("first", "second", "third"):
            become(name)
            said = await client.create(path, review)
            assert said["status"]["userInfo"]["username"] == f"system:node:{name}"
        half = tmp_path / "half"
        half.write_text("-----BEGIN CERTIFICATE-----")
        half.replace(link)
        said = await client.create(path, review)
        assert said["status"]["userInfo"]["username"] == "system:node:third"


async def test_daemons_of_the_dns_say_where_they_are(server: Cluster) -> None:
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"},
             {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]  # fmt: skip
    places = [Place("kube-system", "kube-dns", name, (address, "2001:db8::1"), 10053)
              for name, address in (("a", "192.0.2.1"), ("b", "192.0.2.2"))]  # fmt: skip
    tasks = [asyncio.create_task(Publisher(server.client, one).run()) for one in places]
    body = {"metadata": {"name": "kube-dns"}, "spec": {"ports": ports}}
    await server.create(SERVICES, body, "kube-system")

    def ours(found: list[Object]) -> list[Object]:
        return [one for one in found if one["metadata"]["namespace"] == "kube-system"]

    found = ours(await server.until(SLICES, lambda found: len(ours(found)) == 4))
    assert {one["endpoints"][0]["addresses"][0] for one in found} == {
        "192.0.2.1", "192.0.2.2", "2001:db8::1"
    }  # fmt: skip
    assert [(one["name"], one["port"], one["protocol"]) for one in found[0]["ports"]] == [
        ("dns", 10053, "UDP"), ("dns-tcp", 10053, "TCP")
    ]  # fmt: skip
    await server.client.delete(SLICES.path_of(found[0]))
    await server.until(SLICES, lambda found: len(ours(found)) == 3)
    await server.until(SLICES, lambda found: len(ours(found)) == 4)
    tasks[0].cancel()
    left = ours(await server.until(SLICES, lambda found: len(ours(found)) == 2))
    assert all("-b-" in one["metadata"]["name"] for one in left)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert ours(await server.listed(SLICES)) == []


async def test_an_address_that_the_machine_gets_is_in_the_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses: list[str] = []
    bell = asyncio.Event()

    async def follow(changed: Any) -> None:
        while True:
            await bell.wait()
            bell.clear()
            await changed()
            done.set()

    done = asyncio.Event()
    monkeypatch.setattr("controlplane.addresses.lan_addresses", lambda: list(addresses))
    monkeypatch.setattr("controlplane.auth.trust.keyring.follow_addresses", follow)
    async with cluster(tmp_path, bind_address="0.0.0.0") as server:
        addresses.append("192.0.2.77")
        bell.set()
        async with asyncio.timeout(30):
            await done.wait()
        tls = ssl.create_default_context(cadata=server.client.access.ca.decode())
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{server.client.access.server}/healthz", ssl=tls,
                        server_hostname="192.0.2.77") as answer,
        ):  # fmt: skip
            assert answer.status == 200
