"""What users do about rights, with real kubectl."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.kubectl import Kubectl

pytestmark = pytest.mark.root


def test_rights_come_and_go(kubectl: Kubectl, namespace: str) -> None:
    account = f"system:serviceaccount:{namespace}:robot"
    kubectl("create", "serviceaccount", "robot")
    can_list = ("auth", "can-i", "list", "pods", "--as", account)
    assert kubectl(*can_list, code=1).startswith("no")
    refused = kubectl("get", "pods", "--as", account, code=1)
    assert (
        f'pods is forbidden: User "{account}" cannot list resource "pods" in API group "" in the '
        f'namespace "{namespace}"'
    ) in refused
    kubectl("create", "rolebinding", "view", "--clusterrole=view",
            f"--serviceaccount={namespace}:robot")  # fmt: skip
    assert kubectl(*can_list).strip() == "yes"
    assert kubectl("auth", "can-i", "get", "secrets", "--as", account, code=1).startswith("no")
    kubectl("get", "pods", "--as", account)
    listed = kubectl("auth", "can-i", "--list", "--as", account)
    assert "configmaps" in listed
    assert "secrets" not in listed
    kubectl("delete", "rolebinding", "view")
    assert kubectl(*can_list, code=1).startswith("no")
    assert kubectl("auth", "can-i", "*", "*").strip() == "yes"


def test_a_certificate_is_approved_and_signed(admin: Kubectl, namespace: str) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ann")])
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    pem = request.public_bytes(serialization.Encoding.PEM)
    value = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": namespace},
        "spec": {
            "request": base64.b64encode(pem).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
        },
    }
    admin("create", "-f", "-", stdin=json.dumps(value))
    try:
        admin("certificate", "approve", namespace)
        path = '-o=jsonpath={.status.certificate}{"\\n"}'
        with admin.running("get", "csr", namespace, path, "--watch") as watching:
            encoded = watching.until("LS0t")[-1]
        certificate = x509.load_pem_x509_certificate(base64.b64decode(encoded))
        assert certificate.subject == name
        assert certificate.public_key() == key.public_key()
    finally:
        admin("delete", "csr", namespace)
