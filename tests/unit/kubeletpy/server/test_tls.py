"""TLS of the kubelet's API: whom it believes, and files that change while it runs."""

from __future__ import annotations

import contextlib
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from kubeletpy.server.selfsigned import self_signed
from kubeletpy.server.tls import (
    ServingTls,
    TlsError,
    TlsOptions,
    cipher_list,
    fallback_certificate,
)
from kubeletpy_common.client_certificates import ClientCertificates
from tests.support.certificates import Certificates, write_certificates


@pytest.fixture
def files(tmp_path: Path) -> Certificates:
    return write_certificates(tmp_path)


@asynccontextmanager
async def serving(tls: ServingTls) -> AsyncIterator[str]:
    certificates = ClientCertificates(lambda named: named)

    async def who(request: web.Request) -> web.Response:
        assert request.transport is not None
        user = certificates.authenticate(request.transport.get_extra_info("ssl_object"))
        return web.Response(text=user.name if user else "nobody")

    application = web.Application()
    application.router.add_get("/", who)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def ask(url: str, ca: Path, client: tuple[Path, Path] | None = None) -> str:
    context = ssl.create_default_context(cafile=str(ca))
    if client is not None:
        context.load_cert_chain(*client)
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as answer:
        return await answer.text()


def options(files: Certificates, ca: Path | None = None) -> TlsOptions:
    return TlsOptions(lambda: (files.server, files.server_key), client_ca=ca)


async def test_certificates_of_the_authority_name_their_user(files: Certificates) -> None:
    async with serving(ServingTls(options(files, files.ca))) as url:
        assert await ask(url, files.ca, (files.client, files.client_key)) == "client"
        assert await ask(url, files.ca) == "nobody"


async def test_certificates_name_nobody_where_no_authority_is_given(files: Certificates) -> None:
    async with serving(ServingTls(options(files))) as url:
        assert await ask(url, files.ca, (files.client, files.client_key)) == "nobody"


@pytest.mark.parametrize("which", ["another authority", "a server's"])
async def test_certificates_that_are_not_believed(
    files: Certificates, tmp_path: Path, which: str
) -> None:
    client = (files.server, files.server_key)
    if which == "another authority":
        made = self_signed("client", 1)
        client = (tmp_path / "own.pem", tmp_path / "own.key")
        client[0].write_bytes(made.certificate)
        client[1].write_bytes(made.key)
    async with serving(ServingTls(options(files, files.ca))) as url:
        with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
            await ask(url, files.ca, client)


async def test_renewed_files_are_served_at_the_next_handshake(
    files: Certificates, tmp_path: Path
) -> None:
    tls = ServingTls(options(files, files.ca))
    async with serving(tls) as url:
        assert await ask(url, files.ca, (files.client, files.client_key)) == "client"
        made = self_signed("127.0.0.1", 1)
        files.server_key.write_bytes(made.key)
        # Half of it is new: what was good before goes on to be served.
        assert await ask(url, files.ca) == "nobody"
        files.server.write_bytes(made.certificate)
        assert await ask(url, files.server) == "nobody"
        with pytest.raises(aiohttp.ClientError):
            await ask(url, files.ca)


async def test_an_authority_that_was_replaced_is_believed_no_more(
    files: Certificates, tmp_path: Path
) -> None:
    authority = tmp_path / "clients.pem"
    shutil.copy(files.ca, authority)
    async with serving(ServingTls(options(files, authority))) as url:
        assert await ask(url, files.ca, (files.client, files.client_key)) == "client"
        authority.write_bytes(self_signed("other", 1).certificate)
        with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
            await ask(url, files.ca, (files.client, files.client_key))


async def test_a_certificate_that_comes_later(files: Certificates, tmp_path: Path) -> None:
    both = tmp_path / "kubelet-server-current.pem"
    async with serving(ServingTls(TlsOptions(lambda: (both, both)))) as url:
        with pytest.raises(aiohttp.ClientError):
            await ask(url, files.ca)
        both.write_bytes(files.server.read_bytes() + files.server_key.read_bytes())
        assert await ask(url, files.ca) == "nobody"


def test_versions_and_ciphers(files: Certificates) -> None:
    with pytest.raises(TlsError, match="tlsMinVersion"):
        ServingTls(TlsOptions(lambda: (files.server, files.server_key), min_version="VersionTLS9"))
    with pytest.raises(TlsError, match="TLS_RC4"):
        cipher_list(["TLS_RC4"])
    assert cipher_list(["TLS_AES_128_GCM_SHA256"]) == ""
    names = ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]
    assert cipher_list(names) == "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"
    tls = ServingTls(
        TlsOptions(
            lambda: (files.server, files.server_key),
            min_version="VersionTLS13",
            cipher_suites=tuple(names),
        )
    )
    assert tls.context.minimum_version == ssl.TLSVersion.TLSv1_3


def handshake(server: ssl.SSLContext, curve: str) -> None:
    """Let a client that knows but one group speak with a server, in memory."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_ecdh_curve(curve)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)]
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    assert ends[0].cipher() is not None


def test_one_group_is_spoken_alone(files: Certificates) -> None:
    def made(*curves: int) -> ssl.SSLContext:
        certificate = files.server, files.server_key
        return ServingTls(TlsOptions(lambda: certificate, curves=curves)).context

    handshake(made(23), "prime256v1")
    with pytest.raises(ssl.SSLError):
        handshake(made(23), "secp384r1")
    # Python cannot name several, so all that are good are spoken.
    handshake(made(29, 24), "secp384r1")
    for numbers in ((7,), (29, 7), (4588,)):
        with pytest.raises(TlsError, match="tlsCurvePreferences"):
            made(*numbers)


def test_a_group_that_this_python_cannot_set_is_told(files: Certificates) -> None:
    options = TlsOptions(lambda: (files.server, files.server_key), curves=(29,))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ecdh_curve("X25519")
    except ssl.SSLError:
        with pytest.raises(TlsError, match="cannot set X25519: name 23"):
            ServingTls(options)
    else:
        handshake(ServingTls(options).context, "X25519")


def test_a_certificate_of_its_own_is_kept_while_it_is_good(tmp_path: Path) -> None:
    directory = tmp_path / "pki"
    certificate, key = fallback_certificate(directory, "node-1")
    assert key.stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    first = certificate.read_bytes()
    assert fallback_certificate(directory, "node-1") == (certificate, key)
    assert certificate.read_bytes() == first
    ended = self_signed("node-1", 0)
    certificate.write_bytes(ended.certificate)
    key.write_bytes(ended.key)
    fallback_certificate(directory, "node-1")
    assert certificate.read_bytes() not in (first, ended.certificate)
