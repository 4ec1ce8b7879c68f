"""Through a real nginx: long requests, WebSockets, and paths that look like directives."""

from __future__ import annotations

import asyncio
import base64
import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from yarl import URL

from controlplane.engine.resources import INGRESSES, SECRETS
from kubeletpy_common.apiclient.client import MERGE_PATCH
from tests.unit.controlplane.ingress.objects import backend, ingress, rule

from .test_ingress import Bench, bench

__all__ = ["bench"]

HOSTILE = (
    '/a"; return 200 "pwned', "/$host", "/b\\", "/c{d}", "/e#f", "/g'h", "/i j;", "/k$(l)", "/m\\n",
)  # fmt: skip


async def test_a_request_and_a_websocket_outlive_a_reload(bench: Bench) -> None:
    go = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            endpoint = web.WebSocketResponse()
            await endpoint.prepare(request)
            async for message in endpoint:
                await endpoint.send_str(f"heard {message.data}")
            return endpoint
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun ")
        await go.wait()
        await response.write(b"ended")
        return response

    await bench.backend("slow", slow)
    await bench.start()
    await bench.cluster.create(
        INGRESSES, ingress("main", rule("a.test", Prefix_="slow"), rule("b.test", Prefix_="one"))
    )
    await bench.until("b.test", "/", 200)
    url = f"http://127.0.0.1:{bench.http}/"
    headers = {"Host": "a.test"}
    async with (
        bench.session.get(url, headers=headers) as answer,
        bench.session.ws_connect(url, headers=headers) as talk,
    ):
        assert await answer.content.readexactly(6) == b"begun "
        await talk.send_str("one")
        assert (await talk.receive_str(timeout=10)) == "heard one"
        await bench.cluster.create(INGRESSES, ingress("more", rule("c.test", Prefix_="two")))
        assert (await bench.until("c.test", "/", 200))["who"] == "two"
        await talk.send_str("two")
        assert (await talk.receive_str(timeout=10)) == "heard two"
        go.set()
        async with asyncio.timeout(10):
            assert await answer.read() == b"ended"


async def test_a_path_is_a_path_whatever_it_looks_like(bench: Bench) -> None:
    """Each is reached as it is, by its own name alone, and means nothing else to nginx."""
    await bench.start()
    paths: list[dict[str, Any]] = [
        {"path": each, "pathType": "Exact", "backend": backend("one")} for each in HOSTILE
    ]
    await bench.cluster.create(
        INGRESSES, ingress("evil", {"host": "e.test", "http": {"paths": paths}})
    )
    await bench.cluster.create(INGRESSES, ingress("good", rule("g.test", Prefix_="two")))
    await bench.until("g.test", "/", 200)
    found = {}
    for each in HOSTILE:
        url = URL(f"http://127.0.0.1:{bench.http}{quote(each)}", encoded=True)
        async with bench.session.get(url, headers={"Host": "e.test"}) as answer:
            found[each] = answer.status
            if answer.status == 200:
                assert (await answer.json())["who"] == "one"
    assert (await bench.ask("e.test", "/e.test"))[0] == 404
    assert found == dict.fromkeys(HOSTILE, 200)


NGINX = """#!/bin/sh
# Takes no configuration with the host refuse.test: nginx may find fault with what we do not.
case "$*" in
*" -t "*)
    if grep -q 'server_name refuse' "$2"/tried.conf; then
        echo "no refuse.test here" >&2
        exit 1
    fi ;;
esac
exec nginx "$@"
"""


async def test_one_that_nginx_refuses_keeps_no_other_from_being_served(
    bench: Bench, tmp_path: Path
) -> None:
    """Not even when it is there before anything was ever served; changed, it is served itself."""
    program = tmp_path / "picky"
    program.write_text(NGINX)
    program.chmod(0o755)
    names = [f"h{each}" for each in range(5)]
    for name in (*names[:3], "refuse", *names[3:]):
        await bench.cluster.create(INGRESSES, ingress(name, rule(f"{name}.test", Prefix_="one")))
    await bench.start(ingress_nginx=str(program))
    for name in names:
        await bench.until(f"{name}.test", "/", 200)
    assert (await bench.ask("refuse.test"))[0] == 404
    await bench.cluster.create(INGRESSES, ingress("late", rule("late.test", Prefix_="two")))
    await bench.until("late.test", "/", 200)
    reasons = await told(bench, "Rejected")
    assert reasons.keys() == {"refuse"}
    assert "no refuse.test here" in reasons["refuse"]
    changed = {"spec": {"rules": [rule("fine.test", Prefix_="one")]}}
    path = INGRESSES.path("default", "refuse")
    await bench.cluster.client.patch(path, changed, kind=MERGE_PATCH)
    await bench.until("fine.test", "/", 200)


async def test_a_certificate_that_is_too_weak_is_told_of_and_not_used(bench: Bench) -> None:
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "weak.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    await bench.cluster.create(SECRETS, {
        "metadata": {"name": "weak"}, "type": "kubernetes.io/tls",
        "data": {"tls.crt": base64.b64encode(made.public_bytes(Encoding.PEM)).decode(),
                 "tls.key": base64.b64encode(private).decode()},
    })  # fmt: skip
    await bench.cluster.create(INGRESSES, ingress(
        "weak", rule("weak.test", Prefix_="one"),
        tls=[{"hosts": ["weak.test"], "secretName": "weak"}]))  # fmt: skip
    await bench.start()
    await bench.until("weak.test", "/", 200, tls=True)
    assert "KEY_TOO_SMALL" in (await told(bench, "Certificate"))["weak"]


async def told(bench: Bench, reason: str) -> dict[str, str]:
    """Return what events of a reason say, by the object that they are about, once there is one."""
    async with asyncio.timeout(10):
        while True:
            events = (await bench.cluster.client.get("/api/v1/namespaces/default/events"))["items"]
            found = {
                one["involvedObject"]["name"]: one["message"]
                for one in events
                if one["reason"] == reason
            }
            if found:
                return found
            await asyncio.sleep(0.05)
