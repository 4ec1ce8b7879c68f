"""What is decided about a cluster, a token and a machine, without any of them."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kubeletpy.joining import tokens
from kubeletpy.joining.asking import Answer, skew_of, unreachable
from kubeletpy.joining.checks import Identity, check_name, check_skew, check_version, is_same
from kubeletpy.joining.connection import administrator, is_loopback
from kubeletpy.joining.discovery import clock_text, cluster_of, discover, server_url
from kubeletpy.joining.errors import JoinError
from kubeletpy.joining.kubeconfigs import kubeconfig
from kubeletpy.joining.tokens import BootstrapToken
from tests.support.certificates import CA_PEM

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SERVER = "https://192.0.2.1:6443"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("192.0.2.1", SERVER),
        ("192.0.2.1:6443", SERVER),
        ("https://192.0.2.1:6443/", SERVER),
        ("https://api.example.test", "https://api.example.test:443"),
        ("api.example.test", "https://api.example.test:6443"),
        ("2001:db8::1", "https://[2001:db8::1]:6443"),
        ("[2001:db8::1]:7", "https://[2001:db8::1]:7"),
        ("", None),
        ("http://192.0.2.1", None),
        ("https://u:p@192.0.2.1", None),
        ("https://192.0.2.1/x", None),
        ("192.0.2.1:x", None),
        ("[", None),
    ],
)
def test_servers(text: str, url: str | None) -> None:
    if url is not None:
        assert server_url(text) == url
        return
    with pytest.raises(JoinError) as caught:
        server_url(text)
    assert caught.value.kind == "input"


def _connection(error: OSError) -> aiohttp.ClientConnectorError:
    key = ConnectionKey("h", 1, True, True, None, None, None)
    return aiohttp.ClientConnectorError(key, error)


def _unverified(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "why"
    return error


@pytest.mark.parametrize(
    ("error", "kind", "word"),
    [
        (_connection(ConnectionRefusedError(errno.ECONNREFUSED, "x")), "refused", "--bind-address"),
        (_connection(OSError(errno.EHOSTUNREACH, "No route to host")), "unreachable", "ip route"),
        (_connection(socket.gaierror(-2, "unknown")), "unreachable", "192.0.2.1 has no address"),
        (TimeoutError(), "unreachable", "firewalls"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]"), "not-tls", "something else"),
        (_unverified(9), "clock", "not valid yet"),
        (_unverified(10), "clock", "is over"),
        (_unverified(64), "untrusted", "--tls-san 192.0.2.1"),
        (_unverified(20), "untrusted", "somebody between"),
        (aiohttp.ServerDisconnectedError(), "unreachable", "log"),
        (aiohttp.ClientPayloadError("x"), "not-kubernetes", "something else"),
        (OSError(), "unreachable", "OSError"),
    ],
)
def test_why_there_is_no_answer(error: BaseException, kind: str, word: str) -> None:
    found = unreachable("GET x", SERVER, error)
    assert found.kind == kind
    assert word in str(found)
    assert str(found).startswith("GET x: ")


@pytest.mark.parametrize(
    ("skew", "kind"),
    [(None, "well"), (3.0, "well"), (-4.0, "well"), (30.0, "told"), (-59.0, "told"),
     (61.0, "refused"), (-7200.0, "refused")],
)  # fmt: skip
def test_clocks(skew: float | None, kind: str) -> None:
    if kind == "refused":
        with pytest.raises(JoinError) as caught:
            check_skew(skew, SERVER, 60.0, NOW)
        text = str(caught.value)
        assert "2026-01-02T03:04:05Z" in text
        assert caught.value.kind == "clock"
        return
    assert bool(check_skew(skew, SERVER, 60.0, NOW)) is (kind == "told")


def test_the_date_of_an_answer() -> None:
    assert skew_of("Fri, 02 Jan 2026 03:04:05 GMT", NOW.timestamp() + 0.5) == 0
    assert skew_of("Fri, 02 Jan 2026 04:04:05 GMT", NOW.timestamp() + 0.5) == 3600
    assert skew_of("", 0) is None
    assert skew_of("yesterday", 0) is None


def test_what_a_certificate_says_of_clocks() -> None:
    der = x509.load_pem_x509_certificate(CA_PEM.encode()).public_bytes(Encoding.DER)
    text = clock_text(der, 3600.0, NOW)
    assert "2026-01-02T03:04:05Z, the server's 2026-01-02T04:04:05Z" in text


@pytest.mark.parametrize(
    ("version", "well"),
    [("v1.36.2", True), ("v1.39.0", True), ("v1.40.0", False), ("v1.35.9", False),
     ("v2.36.0", False), ("1.36+k", True)],
)  # fmt: skip
def test_versions(version: str, well: bool) -> None:
    if well:
        assert check_version({"gitVersion": version}, SERVER, (1, 36)) == []
        return
    with pytest.raises(JoinError) as caught:
        check_version({"gitVersion": version}, SERVER, (1, 36))
    assert caught.value.kind == "version"


def test_a_server_without_a_version_is_told() -> None:
    assert check_version(None, SERVER, (1, 36))
    assert check_version({"gitVersion": ["x"]}, SERVER, (1, 36))


def _node(ready: str, boot: str = "other") -> Answer:
    status = {
        "conditions": [{"type": "Ready", "status": ready}],
        "addresses": [{"type": "InternalIP", "address": "192.0.2.7"}],
        "nodeInfo": {"bootID": boot, "machineID": "m", "systemUUID": "s"},
    }
    return Answer(status=200, body={"kind": "Node", "status": status})


def test_names() -> None:
    own = Identity("m", "t", "b")
    assert check_name(Answer(status=404, body=None), "n", own) == []
    assert "could not be looked at (403)" in check_name(Answer(status=403, body=None), "n", own)[0]
    assert "was this machine" in check_name(_node("True", "b"), "n", own)[0]
    assert "is replaced" in check_name(_node("Unknown"), "n", own)[0]
    for ready in ("True", "False"):
        with pytest.raises(JoinError, match=r"192\.0\.2\.7") as caught:
            check_name(_node(ready), "n", own)
        assert caught.value.kind == "name-taken"


@pytest.mark.parametrize(
    ("own", "told", "same"),
    [
        (Identity("m", "s", "b"), {"bootID": "b"}, True),
        (Identity("m", "S", "c"), {"bootID": "b", "machineID": "m", "systemUUID": "s"}, True),
        # Copies of one disk.
        (Identity("m", "t", "c"), {"bootID": "b", "machineID": "m", "systemUUID": "s"}, False),
        (Identity(), {"bootID": "", "machineID": "", "systemUUID": ""}, False),
    ],
)
def test_which_machine_it_is(own: Identity, told: dict[str, Any], same: bool) -> None:
    assert is_same(own, told) is same


@pytest.mark.parametrize(
    "content", ["", "[]", "clusters: 1", "clusters: []", "a: &x [*x]", "clusters: [{name: a}]",
                "clusters: [{cluster: {server: 'https://x', certificate-authority-data: '%'}}]"],
)  # fmt: skip
def test_what_is_no_kubeconfig(content: str) -> None:
    with pytest.raises(JoinError) as caught:
        cluster_of(content, "what")
    assert caught.value.kind == "no-cluster-info"


def test_the_cluster_of_a_kubeconfig() -> None:
    text = kubeconfig(SERVER, b"authority", "u", {"token": "t"})
    assert cluster_of(text, "what") == (SERVER, b"authority")


async def test_an_authority_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(JoinError, match="cannot be read"):
        await discover(SERVER, tokens.generate(), (), tmp_path / "none")
    (tmp_path / "ca").write_text("x")
    with pytest.raises(JoinError, match="is no certificate"):
        await discover(SERVER, tokens.generate(), (), tmp_path / "ca")


async def test_what_listens_there_and_is_no_api_server() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-other\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(JoinError) as caught:
            await discover(f"127.0.0.1:{port}", tokens.generate(), patience=0)
    assert caught.value.kind == "not-tls"
    with pytest.raises(JoinError) as caught:
        await discover(f"127.0.0.1:{port}", tokens.generate(), patience=0)
    assert caught.value.kind == "refused"


def test_tokens_there_and_back() -> None:
    made = BootstrapToken(token=tokens.generate(), description="ä", expires=NOW, groups=(
        "system:bootstrappers:a",))  # fmt: skip
    made.check()
    found = tokens.of_secret(tokens.to_secret(made))
    assert found.token == made.token
    assert found.expires == NOW
    assert set(found.usages) == set(made.usages)
    assert tokens.as_row(found, NOW - timedelta(hours=23, seconds=5))[1:3] == (
        "23h", "2026-01-02T03:04:05Z"
    )  # fmt: skip
    assert tokens.as_row(found, NOW)[1] == "<invalid>"
    assert made.token not in repr(made)
    assert tokens.as_document(found)["groups"] == ["system:bootstrappers:a"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"token": "x"}, "form"),
        ({"usages": ("signing", "other")}, "usage other"),
        ({"groups": ("system:masters",)}, "group system:masters"),
        ({"usages": ("signing",)}, "groups are for"),
    ],
)
def test_what_is_no_token(more: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        BootstrapToken(**{"token": "abcdef.0123456789abcdef", **more}).check()


def test_secrets_that_hold_none() -> None:
    for change in ({"token-id": "b3RoZXI="}, {"token-secret": "eA=="}, {"expiration": "eA=="}):
        value = tokens.to_secret(BootstrapToken(token="abcdef.0123456789abcdef"))
        value["data"] |= change
        with pytest.raises(ValueError, match="bootstrap-token-abcdef"):
            tokens.of_secret(value)


def test_which_kubeconfig_is_an_administrators(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.touch()
    assert administrator(str(there), {}) == there
    assert administrator("", {"KUBECONFIG": f"{tmp_path / 'none'}:{there}"}) == there
    with pytest.raises(Exception, match="is not there"):
        administrator(str(tmp_path / "none"), {})


def test_loopback() -> None:
    assert [is_loopback(f"https://{host}:1") for host in (
        "127.0.0.1", "[::1]", "localhost", "192.0.2.1", "a.test"
    )] == [True, True, True, False, False]  # fmt: skip
