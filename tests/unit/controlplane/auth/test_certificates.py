from __future__ import annotations

import asyncio
import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from controlplane.auth.trust.authority import Subject
from controlplane.controllers.certificates.requests import (
    CLIENT,
    KUBELET,
    SERVING,
    RequestError,
    check_request,
    life,
)
from tests.unit.controlplane.auth.secure import Client, client_of, secure_server

PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
NODE = Subject("system:node:edge-7", ("system:nodes",))
CLIENT_USAGES = ["digital signature", "key encipherment", "client auth"]
SERVER_USAGES = ["digital signature", "server auth"]


def csr(subject: Subject, *names: x509.GeneralName) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject.to_x509())
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())


@pytest.mark.parametrize(
    ("signer", "subject", "names", "usages", "why"),
    [
        (KUBELET, NODE, (), CLIENT_USAGES, ""),
        (KUBELET, NODE, (), CLIENT_USAGES[::2], ""),
        (KUBELET, NODE, (), SERVER_USAGES, "usages did not match"),
        (KUBELET, NODE, (x509.DNSName("a"),), CLIENT_USAGES, "subjectAltNames are not allowed"),
        (KUBELET, Subject("ann", ("system:nodes",)), (), CLIENT_USAGES, "common name"),
        (KUBELET, Subject(NODE.name, ("system:masters",)), (), CLIENT_USAGES, "organization"),
        (KUBELET, Subject(NODE.name, ("system:nodes", "system:masters")), (), CLIENT_USAGES,
         "organization"),
        (SERVING, NODE, (x509.DNSName("edge-7"),), SERVER_USAGES, ""),
        (SERVING, NODE, (), SERVER_USAGES, "DNS or IP subjectAltName is required"),
        (SERVING, NODE, (x509.DNSName("a"), x509.RFC822Name("a@b.c")), SERVER_USAGES, "Email"),
        (CLIENT, Subject("ann"), (), ["client auth"], ""),
        (CLIENT, Subject("ann"), (), ["client auth", "server auth"], "invalid usage"),
        (CLIENT, Subject("ann"), (), ["digital signature"], "missing required usage"),
    ],
)  # fmt: skip
def test_what_a_signer_accepts(
    signer: str, subject: Subject, names: Any, usages: list[str], why: str
) -> None:
    request = csr(subject, *names)
    if not why:
        check_request(signer, request, set(usages))
        return
    with pytest.raises(RequestError, match=why):
        check_request(signer, request, set(usages))


def test_how_long_a_certificate_is_good() -> None:
    year, short = timedelta(days=365), timedelta(seconds=9)
    lives = [life({}, year), life({"expirationSeconds": 1}, year),
             life({"expirationSeconds": 3600}, year), life({"expirationSeconds": 10**9}, year),
             life({}, short)]  # fmt: skip
    assert lives == [year, timedelta(minutes=10), timedelta(hours=1), year, short]


def body(name: str, signer: str, request: Any, usages: list[str], **more: Any) -> dict[str, Any]:
    pem = request.public_bytes(serialization.Encoding.PEM)
    spec = {"signerName": signer, "request": base64.b64encode(pem).decode(), "usages": usages}
    return {"metadata": {"name": name}, "spec": {**spec, **more}}


async def issued(client: Client, name: str) -> dict[str, Any]:
    """Return a request once it has its certificate, or has failed."""
    watch = f"{client.url}{PATH}?watch=1&fieldSelector=metadata.name%3D{name}"
    async with asyncio.timeout(10), client.session.get(watch) as answer:
        async for line in answer.content:
            value: dict[str, Any] = json.loads(line)["object"]
            status = value.get("status", {})
            kinds = {one["type"] for one in status.get("conditions", [])}
            if status.get("certificate") or "Failed" in kinds:
                return value
    raise AssertionError("the watch ended")


async def test_a_node_joins_by_a_bootstrap_token(data: Path) -> None:
    fields = {"token-id": "abcdef", "token-secret": "0123456789abcdef",
              "usage-bootstrap-authentication": "true"}  # fmt: skip
    secret = {
        "metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token",
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in fields.items()},
    }  # fmt: skip
    token = "abcdef.0123456789abcdef"
    async with (
        secure_server(data),
        client_of(data / "admin.kubeconfig") as admin,
        client_of(data / "admin.kubeconfig", anonymous=True) as joining,
    ):
        path = "/api/v1/namespaces/kube-system/secrets"
        assert (await admin.call("POST", path, secret))[0] == 201
        request = csr(NODE)
        lie = {"username": "system:node:edge-7", "groups": ["system:nodes"]}
        wanted = body("join", KUBELET, request, CLIENT_USAGES, expirationSeconds=3600, **lie)
        assert (await joining.call("POST", PATH, wanted, token))[0] == 201
        value = await issued(admin, "join")
        assert value["status"]["conditions"][0]["reason"] == "AutoApproved"
        assert value["spec"]["username"] == "system:bootstrap:abcdef", "what the server knows"
        assert value["spec"]["groups"] == ["system:bootstrappers", "system:authenticated"]
        certificate = x509.load_pem_x509_certificate(
            base64.b64decode(value["status"]["certificate"])
        )
        assert certificate.subject == NODE.to_x509()
        assert certificate.public_key() == request.public_key()
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
        good = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        assert good == timedelta(hours=1, minutes=5)
        # What serves as a kubelet is approved by people only, and asked for by none but nodes.
        assert (await joining.call("GET", "/api/v1/nodes", token=token))[0] == 403


async def test_approval_is_for_who_may(data: Path) -> None:
    tokens = data / "tokens"
    tokens.write_text("ann,ann,1\n")
    async with (
        secure_server(data, token_auth_file=tokens),
        client_of(data / "admin.kubeconfig") as admin,
        client_of(data / "admin.kubeconfig", anonymous=True) as other,
    ):
        rules = [{"apiGroups": ["certificates.k8s.io"], "verbs": ["*"],
                  "resources": ["certificatesigningrequests",
                                "certificatesigningrequests/approval"]}]  # fmt: skip
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        role = {"metadata": {"name": "csr"}, "rules": rules}
        assert (await admin.call("POST", rbac + "/clusterroles", role))[0] == 201
        binding = {
            "metadata": {"name": "csr"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                        "name": "csr"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}],
        }  # fmt: skip
        assert (await admin.call("POST", rbac + "/clusterrolebindings", binding))[0] == 201
        wanted = body("bob", CLIENT, csr(Subject("bob")), ["client auth"])
        assert (await other.call("POST", PATH, wanted, "ann"))[0] == 201
        bad = body("bad", CLIENT, csr(Subject("eve")), ["server auth"])
        assert (await other.call("POST", PATH, bad, "ann"))[0] == 201
        master = body("master", CLIENT, csr(Subject("eve", ("system:masters",))), ["client auth"])
        status, error = await other.call("POST", PATH, master, "ann")
        assert (status, "system:masters group is not allowed" in error["message"]) == (403, True)
        approval = {"status": {"conditions": [
            {"type": "Approved", "status": "True", "reason": "x", "message": "y"}]}}  # fmt: skip
        merge = {"Content-Type": "application/merge-patch+json"}
        status, error = await other.call(
            "PATCH", f"{PATH}/bob/approval", approval, "ann", headers=merge
        )
        assert (status, error["message"]) == (
            403,
            'certificatesigningrequests.certificates.k8s.io "bob" is forbidden: user not permitted '
            f'to approve requests with signerName "{CLIENT}"',
        )
        for name in ("bob", "bad"):
            status, value = await admin.call(
                "PATCH", f"{PATH}/{name}/approval", approval, headers=merge
            )
            assert status == 200, value
        assert (await issued(admin, "bob"))["status"]["certificate"]
        failed = (await issued(admin, "bad"))["status"]["conditions"][-1]
        assert (failed["type"], failed["reason"]) == ("Failed", "SignerValidationFailure")
