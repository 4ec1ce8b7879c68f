"""From an address and a token to a cluster that is believed, with the API server and its signer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from click.testing import CliRunner, Result

from controlplane.engine.resources import CONFIG_MAPS, NODES, SECRETS
from kubeletpy.certificates.pairs import CLIENT_SIGNER, Template, new_key, request_pem
from kubeletpy.certificates.signing import signed
from kubeletpy.cli import main
from kubeletpy.joining import JoinError, check_join, discover, write_bootstrap_kubeconfig
from kubeletpy.joining.checks import Identity
from kubeletpy.joining.discovery import INFO_PATH, public_key_hashes
from kubeletpy.joining.tokens import BootstrapToken, generate, secret_name, to_secret
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.apiclient.kubeconfig import read_kubeconfig
from tests.support.cluster import Cluster, cluster
from tests.support.hollow import node

pytestmark = pytest.mark.asyncio(loop_scope="module")
SIGNER, CLEANER = "bootstrap-signer-controller", "token-cleaner-controller"
OWN = Identity("machine", "system", "boot")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path_factory.mktemp("discovery")) as made:
        await made.start(SIGNER, CLEANER)
        yield made


def url(server: Cluster) -> str:
    return server.client.access.server


async def made(server: Cluster, token: BootstrapToken | None = None) -> str:
    """Make a token, and wait until cluster-info is signed by it."""
    wanted = token or BootstrapToken(token=generate())
    await server.create(SECRETS, to_secret(wanted), "kube-system")
    if "signing" in wanted.usages:
        key = f"jws-kubeconfig-{wanted.identifier}"
        await server.until(CONFIG_MAPS, lambda found: any(key in one.get("data", {})
                                                          for one in found))  # fmt: skip
    return wanted.token


async def failing(kind: str, server: str, token: str, *hashes: str, **more: object) -> str:
    with pytest.raises(JoinError) as caught:
        await discover(server, token, hashes, patience=0, **more)  # type: ignore[arg-type]
    assert caught.value.kind == kind, caught.value
    return str(caught.value)


async def test_a_machine_joins_by_token_and_hash(server: Cluster, tmp_path: Path) -> None:
    token = await made(server)
    [pin] = public_key_hashes(server.client.access.ca)
    found = await discover(url(server), token, [pin.replace("sha256", "SHA256").upper().replace(
        "SHA256", "sha256")])  # fmt: skip
    assert (found.server, found.ca, found.ca_hash) == (url(server), server.client.access.ca, pin)
    assert found.pinned
    assert found.notes == ()
    assert found.skew is not None
    assert abs(found.skew) < 30
    assert await check_join(found, token, node="n", identity=OWN) == ()
    path = tmp_path / "etc" / "bootstrap.kubeconfig"
    write_bootstrap_kubeconfig(path, found, token)
    assert path.stat().st_mode & 0o777 == 0o600
    async with ApiClient(read_kubeconfig(path)) as client:
        request = request_pem(Template(node="n"), new_key())
        assert b"BEGIN CERTIFICATE" in await signed(client, request, CLIENT_SIGNER, timeout=30)
        with pytest.raises(ApiError) as caught:
            await client.get("/api/v1/namespaces/kube-system/secrets")
        assert caught.value.code == 403


async def test_without_a_hash_it_is_told_and_with_a_file_no_token_need_sign(
    server: Cluster, tmp_path: Path
) -> None:
    token = await made(server)
    found = await discover(url(server).removeprefix("https://"), token)
    assert not found.pinned
    assert "--ca-cert-hash sha256:" in found.notes[0]
    file = tmp_path / "ca.crt"
    file.write_bytes(server.client.access.ca)
    silent = await made(server, BootstrapToken(token=generate(), usages=("authentication",)))
    found = await discover(url(server), silent, (), file, patience=0)
    assert found.pinned
    assert "the authority is known by its file" in found.notes[0]
    await check_join(found, silent)


async def test_what_is_wrong_with_a_token_is_named(server: Cluster, tmp_path: Path) -> None:
    token = await made(server)
    identifier = token.partition(".")[0]
    assert "kubeletpy token list" in await failing("token-unknown", url(server), generate())
    wrong = await failing("token-secret", url(server), f"{identifier}.{'0' * 16}")
    assert "0" * 16 not in wrong
    assert "copied whole" in await failing("input", url(server), token[:-1])
    assert token[:-1] not in await failing("input", url(server), token[:-1])
    assert "another server may answer" in await failing(
        "hash", url(server), token, f"sha256:{'0' * 64}"
    )
    await failing("input", url(server), token, "sha256:12")
    found = await discover(url(server), token)
    for bad in (f"{identifier}.{'0' * 16}", generate()):
        with pytest.raises(JoinError, match="401 Unauthorized") as caught:
            await check_join(found, bad)
        assert caught.value.kind == "token-refused"
        assert bad.partition(".")[2] not in str(caught.value)
    signs = await made(server, BootstrapToken(token=generate(), usages=("signing",), groups=()))
    with pytest.raises(JoinError, match="is not for authentication"):
        await check_join(await discover(url(server), signs), signs)


async def test_a_token_that_is_over_is_deleted_and_signs_no_more(server: Cluster) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=2)
    token = await made(server, BootstrapToken(token=generate(), expires=soon))
    stays = await made(server)
    name = secret_name(token.partition(".")[0])
    await server.until(SECRETS, lambda found: name not in [one["metadata"]["name"] for one in
                                                           found])  # fmt: skip
    key, gone = (f"jws-kubeconfig-{one.partition('.')[0]}" for one in (stays, token))
    await server.until(CONFIG_MAPS, lambda found: any(
        key in one.get("data", ()) and gone not in one["data"] for one in found))  # fmt: skip
    await failing("token-unknown", url(server), token)


async def test_a_name_that_another_machine_has_is_refused(server: Cluster) -> None:
    token = await made(server)
    found = await discover(url(server), token)
    taken = await server.create(NODES, node("taken"))
    taken["status"] = {**node("taken")["status"], "nodeInfo": _info("other")}
    await server.client.update(NODES.path_of(taken, "status"), taken)
    with pytest.raises(JoinError, match="kubectl delete node taken") as caught:
        await check_join(found, token, node="taken", identity=OWN)
    assert caught.value.kind == "name-taken"
    [note] = (await check_join(found, token, node="taken", identity=Identity(
        "other", "other", "b")))[-1:]  # fmt: skip
    assert "was this machine" in note


def _info(name: str) -> dict[str, str]:
    empty = ("kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion",
             "kubeProxyVersion", "operatingSystem", "architecture")  # fmt: skip
    return {"machineID": name, "systemUUID": name, "bootID": name, **dict.fromkeys(empty, "x")}


async def test_clocks_that_differ_are_named_with_both_times(server: Cluster) -> None:
    token = await made(server)
    found = replace(await discover(url(server), token), skew=3600.0)
    with pytest.raises(JoinError, match="3600 s behind it") as caught:
        await check_join(found, token)
    assert caught.value.kind == "clock"
    assert "timedatectl" in str(caught.value)
    [*_, note] = await check_join(replace(found, skew=-30.0), token)
    assert "30 s ahead of it" in note


async def test_anybody_may_read_cluster_info_and_nothing_else(server: Cluster) -> None:
    context = ssl.create_default_context(cadata=server.client.access.ca.decode())
    paths = {
        INFO_PATH: 200,
        "/api/v1/namespaces/kube-public/configmaps": 401,
        "/api/v1/namespaces/kube-public/configmaps/kube-root-ca.crt": 401,
        "/api/v1/namespaces/default/configmaps/cluster-info": 401,
        "/version": 401,
        "/healthz": 200,
    }
    async with aiohttp.ClientSession() as session:
        for path, status in paths.items():
            async with session.get(url(server) + path, ssl=context) as answer:
                assert (path, answer.status) == (path, status)
        async with session.delete(url(server) + INFO_PATH, ssl=context) as answer:
            assert answer.status == 401
        headers = {"Authorization": f"Bearer {generate()}"}
        async with session.get(url(server) + INFO_PATH, ssl=context, headers=headers) as answer:
            assert answer.status == 401


async def run(server: Cluster, *words: str, code: int = 0) -> Result:
    environment = {"KUBECONFIG": str(server.kubeconfig)}
    done = await asyncio.to_thread(CliRunner().invoke, main, list(words), env=environment)
    assert done.exit_code == code, done.output
    return done


async def test_tokens_by_the_command_line(server: Cluster, tmp_path: Path) -> None:
    token = (await run(server, "token", "create", "--ttl", "1h")).stdout.strip()
    assert token in (await run(server, "token", "list")).stdout
    text = (await run(server, "token", "list", "-o", "json")).stdout
    assert '"system:bootstrappers:kubeadm:default-node-token"' in text
    identifier = token.partition(".")[0]
    done = await run(server, "token", "create", token, code=1)
    assert "exists" in done.output
    assert token not in done.output
    assert identifier in (await run(server, "token", "delete", token)).stdout
    assert "no token" in (await run(server, "token", "delete", identifier, code=1)).output
    # The server of these tests is bound to loopback.
    done = await run(server, "token", "create", "--print-join-command", code=1)
    assert "--advertise-address" in done.output
    assert "usage" in (await run(server, "token", "create", "--usages", "x", code=2)).output


async def test_kubeconfigs_by_the_command_line(server: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "admin"
    await run(server, "kubeconfig", "-o", str(path), "--server", url(server))
    async with ApiClient(read_kubeconfig(path)) as client:
        await client.get("/api/v1/nodes")
    path.write_text((await run(server, "kubeconfig", "--user", "ann", "--group", "g",
                               "--ttl", "1h")).stdout)  # fmt: skip
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    async with ApiClient(read_kubeconfig(path)) as client:
        with pytest.raises(ApiError, match="ann"):
            await client.get("/api/v1/nodes")
        said = await client.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
        assert said["status"]["userInfo"]["groups"] == ["g", "system:authenticated"]
