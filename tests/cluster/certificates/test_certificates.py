"""Approver, signer and cleaner against the API server."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from controlplane.auth.trust.authority import Subject, open_authority
from controlplane.controllers.certificates.approver import Approver
from controlplane.controllers.certificates.cleaner import Cleaner
from controlplane.controllers.certificates.signer import Signer
from controlplane.engine.controller import Context, now
from controlplane.engine.resources import SIGNING_REQUESTS, Object
from tests.support.cluster import Cluster, cluster

KUBELET = "kubernetes.io/kube-apiserver-client-kubelet"
NODE = Subject("system:node:n", ("system:nodes",))
USAGES = ["digital signature", "client auth"]


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    async def idle(_: object) -> None:
        await asyncio.Event().wait()

    # The server's own.
    monkeypatch.setattr("controlplane.auth.certificates.signer.Signer.run", idle)
    async with cluster(tmp_path) as made:
        yield made


def asked(name: str, signer: str, usages: list[str], subject: Subject = NODE) -> Object:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject.to_x509())
    made = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    pem = made.public_bytes(serialization.Encoding.PEM)
    spec = {"signerName": signer, "usages": usages, "request": base64.b64encode(pem).decode()}
    return {"metadata": {"name": name}, "spec": spec}


async def test_approved_and_signed_or_failed(server: Cluster, tmp_path: Path) -> None:
    authority = open_authority(tmp_path, "ca", "another authority")
    await server.start_parts(
        [Approver, Signer], cluster_signing_cert_file=str(tmp_path / "ca.crt"),
        cluster_signing_key_file=str(tmp_path / "ca.key"), cluster_signing_duration=3600.0,
    )  # fmt: skip
    await server.create(SIGNING_REQUESTS, asked("good", KUBELET, USAGES))
    found = await server.until(SIGNING_REQUESTS, lambda found: found and found[0]["status"].get(
        "certificate"))  # fmt: skip
    assert found[0]["status"]["conditions"][0]["reason"] == "AutoApproved"
    certificate = x509.load_pem_x509_certificate(
        base64.b64decode(found[0]["status"]["certificate"])
    )
    assert certificate.subject == NODE.to_x509()
    assert authority.signed(certificate)
    assert certificate.not_valid_after_utc <= now() + timedelta(hours=1)


async def test_what_a_signer_does_not_sign_says_why_and_others_are_left_alone(
    server: Cluster, tmp_path: Path
) -> None:
    open_authority(tmp_path, "ca", "another authority")
    await server.start_parts(
        [Approver, Signer], cluster_signing_cert_file=str(tmp_path / "ca.crt"),
        cluster_signing_key_file=str(tmp_path / "ca.key"),
    )  # fmt: skip
    approved = {"type": "Approved", "status": "True", "reason": "Test", "message": ""}
    for name, signer in (("foreign", "example.test/signer"), ("odd", KUBELET)):
        made = await server.create(SIGNING_REQUESTS, asked(name, signer, ["server auth"]))
        made["status"] = {"conditions": [approved]}
        await server.client.update(SIGNING_REQUESTS.path_of(made, "approval"), made)
    found = await server.until(SIGNING_REQUESTS, lambda found: any(
        len(one["status"].get("conditions", ())) > 1 for one in found))  # fmt: skip
    states = {one["metadata"]["name"]: one["status"] for one in found}
    assert states["odd"]["conditions"][1]["reason"] == "SignerValidationFailure"
    assert "usages did not match" in states["odd"]["conditions"][1]["message"]
    assert states["foreign"]["conditions"][0]["type"] == "Approved"
    assert not any("certificate" in one for one in states.values())


async def test_old_requests_are_deleted(server: Cluster) -> None:
    days = [0]

    def cleaner(context: Context) -> Cleaner:
        context.clock = lambda: now() + timedelta(days=days[0])
        return Cleaner(context)

    await server.create(SIGNING_REQUESTS, asked("old", "example.test/signer", USAGES))
    host = await server.start_parts([cleaner])
    await server.until(SIGNING_REQUESTS, lambda found: len(found) == 1)
    await server.stop(host)
    days[0] = 2
    await server.start_parts([cleaner])
    await server.until(SIGNING_REQUESTS, lambda found: not found)
