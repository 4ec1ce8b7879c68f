from __future__ import annotations

import base64
import ssl
from pathlib import Path

import aiohttp
import pytest

from controlplane.auth.authentication.statictokens import StaticTokens
from controlplane.auth.trust import kubeconfig
from controlplane.auth.trust.authority import Subject, open_authority
from controlplane.options import OptionsError
from tests.unit.controlplane.auth.secure import client_of, secure_server

UNAUTHORIZED = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Failure",
    "message": "Unauthorized",
    "reason": "Unauthorized",
    "code": 401,
}


async def test_who_is_let_in(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text('s3cret,ann,1,"system:masters"\n')
    async with secure_server(tmp_path, token_auth_file=tokens):
        admin = tmp_path / "admin.kubeconfig"
        async with client_of(admin) as client:
            assert (await client.call("GET", "/api/v1/namespaces"))[0] == 200
        async with client_of(admin, anonymous=True) as client:
            for path in ("/healthz", "/livez", "/readyz"):
                assert (await client.call("GET", path))[0] == 200
            for path in ("/version", "/api", "/api/v1/namespaces", "/metrics", "/healthzz", "/"):
                assert await client.call("GET", path) == (401, UNAUTHORIZED), path
            assert (await client.call("GET", "/version", token="s3cret"))[0] == 200
            assert (await client.call("GET", "/version", token="s3cre"))[0] == 401
            assert (await client.call("GET", "/healthz", token="wrong"))[0] == 401
            text = base64.urlsafe_b64encode(b"s3cret").decode().rstrip("=")
            protocols = f"v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.{text}"
            headers = {"Sec-WebSocket-Protocol": protocols}
            assert (await client.call("GET", "/version", headers=headers))[0] == 200
            headers = {"X-Remote-User": "ann", "X-Remote-Group": "system:masters"}
            assert (await client.call("GET", "/version", headers=headers))[0] == 401


async def test_a_certificate_of_another_authority_is_refused(data: Path) -> None:
    async with secure_server(data) as plane:
        other = open_authority(data, "other", "kubernetes")
        url = f"https://127.0.0.1:{plane.options.secure_port}"
        stranger = data / "stranger"
        subject = Subject("kubernetes-admin", ("system:masters",))
        text = kubeconfig.with_certificate(url, other, subject)
        right = base64.b64encode((data / "pki/ca.crt").read_bytes()).decode()
        stranger.write_text(text.replace(base64.b64encode(other.pem).decode(), right))
        async with client_of(stranger) as client:
            with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionResetError)):
                await client.call("GET", "/healthz")


@pytest.mark.parametrize("line", ["a,b", ",ann,1", "a,,1"])
def test_a_token_file_that_cannot_be_read(line: str) -> None:
    with pytest.raises(OptionsError, match="line 1"):
        StaticTokens(line)
