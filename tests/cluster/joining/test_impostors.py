"""Servers that are not what they should be: another clock, another authority, something between."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from controlplane.auth.trust.authority import (
    SERVER_AUTH,
    Authority,
    Pair,
    Subject,
    alternative_name,
    private_pem,
)
from controlplane.builtin.cluster_info import kubeconfig
from kubeletpy.joining import JoinError, check_join, discover
from kubeletpy.joining.discovery import INFO_PATH, public_key_hashes
from kubeletpy_common.bootstrap_tokens import detached_signature

TOKEN = "abcdef.0123456789abcdef"
Content = Callable[[int, str], dict[str, str]]


def authority() -> Authority:
    """Return one that is good since long ago, so that no clock is in its way."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
        .public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=9)).not_valid_after(now + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    return Authority(made, key)


def later(of: Authority, key: ec.EllipticCurvePrivateKey) -> Pair:
    """Return a certificate of 127.0.0.1 that begins in an hour: its maker's clock is ahead."""
    now = datetime.now(UTC) + timedelta(hours=1)
    alternatives = x509.SubjectAlternativeName([alternative_name("127.0.0.1")])
    mine = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder().subject_name(Subject("late").to_x509())
        .issuer_name(of.certificate.subject).public_key(mine.public_key()).serial_number(2)
        .not_valid_before(now).not_valid_after(now + timedelta(hours=1))
        .add_extension(alternatives, critical=False).sign(key, hashes.SHA256())
    )  # fmt: skip
    return Pair(made.public_bytes(serialization.Encoding.PEM), private_pem(mine))


@contextlib.asynccontextmanager
async def server(
    directory: Path, pair: Pair, content: Content, *, ahead: float = 0.0
) -> AsyncIterator[str]:
    """Serve cluster-info by TLS within the block; gives the URL.

    Args:
        pair: certificate and key.
        content: returns the data for the number of the request, and the URL.
        ahead: seconds by which the clock is.
    """
    file = directory / "pair.pem"
    file.write_bytes(pair.certificate + pair.key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    asked = iter(range(100))

    async def answer(request: web.Request) -> web.Response:
        moment = datetime.now(UTC) + timedelta(seconds=ahead)
        headers = {"Date": format_datetime(moment, usegmt=True)}
        if request.path != INFO_PATH:
            return web.json_response({"kind": "Status"}, status=404, headers=headers)
        body = {"kind": "ConfigMap", "data": content(next(asked), url)}
        return web.json_response(body, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        yield url
    finally:
        await runner.cleanup()


def signed(of: Authority) -> Content:
    def content(_: int, url: str) -> dict[str, str]:
        text = kubeconfig(url, of.pem)
        return {
            "kubeconfig": text,
            "jws-kubeconfig-abcdef": detached_signature(text, *TOKEN.split(".")),
        }

    return content


async def failing(url: str, *hashes: str, ca_file: Path | None = None) -> JoinError:
    with pytest.raises(JoinError) as caught:
        await discover(url, TOKEN, hashes, ca_file, patience=0)
    return caught.value


async def test_a_clock_that_is_ahead_is_told_with_both_times(tmp_path: Path) -> None:
    own = authority()
    pair = own.issue(Subject("s"), usages=(SERVER_AUTH,), names=["127.0.0.1"])
    async with server(tmp_path, pair, signed(own), ahead=7200.0) as url:
        found = await discover(url, TOKEN, public_key_hashes(own.pem), patience=0)
        with pytest.raises(JoinError, match="7200 s behind it; more than 60 s") as caught:
            await check_join(found, TOKEN)
        assert caught.value.kind == "clock"


async def test_a_certificate_that_is_not_valid_yet_is_told_as_a_matter_of_clocks(
    tmp_path: Path,
) -> None:
    own = authority()
    pair = later(own, own._key)  # type: ignore[arg-type]
    file = tmp_path / "ca"
    file.write_bytes(own.pem)
    async with server(tmp_path, pair, signed(own), ahead=3700.0) as url:
        for error in (await failing(url), await failing(url, ca_file=file)):
            assert error.kind == "clock", error
            hour = (datetime.now(UTC) + timedelta(seconds=3700)).strftime("%Y-%m-%dT%H:")
            assert f"the server's {hour}" in str(error)
            assert "is good from" in str(error)
            assert "timedatectl" in str(error)


async def test_tls_that_ends_elsewhere_is_not_believed(tmp_path: Path) -> None:
    own, other = authority(), authority()
    pair = other.issue(Subject("s"), usages=(SERVER_AUTH,), names=["127.0.0.1"])
    file = tmp_path / "ca"
    file.write_bytes(own.pem)
    async with server(tmp_path, pair, signed(own)) as url:
        assert (await failing(url, *public_key_hashes(own.pem))).kind == "untrusted"
        assert (await failing(url)).kind == "untrusted"
        assert (await failing(url, ca_file=file)).kind == "untrusted"
        assert (await failing(url, *public_key_hashes(other.pem))).kind == "hash"


async def test_a_certificate_for_another_name_is_told(tmp_path: Path) -> None:
    own = authority()
    pair = own.issue(Subject("s"), usages=(SERVER_AUTH,), names=["192.0.2.1"])
    async with server(tmp_path, pair, signed(own)) as url:
        error = await failing(url)
    assert error.kind == "untrusted"
    assert "--tls-san 127.0.0.1" in str(error)


async def test_what_changes_between_the_two_questions_is_not_believed(tmp_path: Path) -> None:
    own = authority()
    pair = own.issue(Subject("s"), usages=(SERVER_AUTH,), names=["127.0.0.1"])

    def content(number: int, url: str) -> dict[str, str]:
        return signed(own)(number, url if number == 0 else "https://192.0.2.66:6443")

    async with server(tmp_path, pair, content) as url:
        error = await failing(url)
    assert error.kind == "untrusted"
    assert "was another one" in str(error)


async def test_an_address_that_only_the_server_reaches_is_replaced_by_the_one_asked(
    tmp_path: Path,
) -> None:
    own = authority()
    pair = own.issue(Subject("s"), usages=(SERVER_AUTH,), names=["127.0.0.1"])
    # Nobody listens at port 9 of this machine.
    text = kubeconfig("https://127.0.0.1:9", own.pem)
    data = {"kubeconfig": text,
            "jws-kubeconfig-abcdef": detached_signature(text, *TOKEN.split("."))}  # fmt: skip
    async with server(tmp_path, pair, lambda *_: data) as url:
        found = await discover(url, TOKEN, public_key_hashes(own.pem), patience=0)
    assert found.server == url
    assert "https://127.0.0.1:9" in found.notes[0]


async def test_a_signature_that_comes_late_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubeletpy.joining.discovery._AGAIN", 0.01)
    own = authority()
    pair = own.issue(Subject("s"), usages=(SERVER_AUTH,), names=["127.0.0.1"])

    def content(number: int, url: str) -> dict[str, str]:
        whole = signed(own)(number, url)
        return whole if number else {"kubeconfig": whole["kubeconfig"]}

    async with server(tmp_path, pair, content) as url:
        assert (await discover(url, TOKEN, patience=30)).server == url


async def test_who_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubeletpy.joining.asking.ask.__kwdefaults__", {
        "body": None, "timeout": 0.2
    })  # fmt: skip

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with silent:
        error = await failing(f"127.0.0.1:{silent.sockets[0].getsockname()[1]}")
    assert error.kind == "unreachable"
    assert "no answer in time" in str(error)
