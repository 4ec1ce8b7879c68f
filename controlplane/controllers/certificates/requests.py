"""What a signer of Kubernetes accepts (pure).

Source: Kubernetes documentation, "Certificates and Certificate Signing Requests", "Kubernetes
signers"; certificates.k8s.io/v1.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from controlplane.engine.resources import Object

CLIENT: Final = "kubernetes.io/kube-apiserver-client"
KUBELET: Final = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING: Final = "kubernetes.io/kubelet-serving"
SIGNERS: Final = (CLIENT, KUBELET, SERVING)

_NODES: Final = "system:nodes"
_NODE: Final = "system:node:"
_SHORTEST: Final = timedelta(minutes=10)
_PLAIN: Final = ("digital signature", "key encipherment")
_EXTENDED: Final[dict[str, ObjectIdentifier]] = {
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
}


class RequestError(ValueError):
    """A request is not one that its signer signs; the text says why."""


def parse_request(value: Object) -> x509.CertificateSigningRequest:
    """Return what a CertificateSigningRequest holds.

    Raises:
        RequestError: it cannot be read, or is not signed by its own key.
    """
    try:
        request = x509.load_pem_x509_csr(base64.b64decode(value["spec"].get("request", "")))
        if not request.is_signature_valid:
            raise RequestError("the request is not signed by its own key")
        return request
    except (binascii.Error, ValueError, TypeError) as error:
        raise RequestError(f"unable to parse the request: {error}") from error


def check_request(signer: str, request: x509.CertificateSigningRequest, usages: set[str]) -> None:
    """Look whether a signer signs a request.

    Args:
        signer: one of :data:`SIGNERS`.
        request: of the client.
        usages: asked for beside it.

    Raises:
        RequestError: it does not.
    """
    if signer == CLIENT:
        other = usages - {*_PLAIN, "client auth"}
        if other:
            text = ", ".join(sorted(other))
            raise RequestError(f"invalid usage for client certificate: {text}")
        if "client auth" not in usages:
            raise RequestError("missing required usage for client certificate: client auth")
        return
    names = alternatives(request)
    if organizations(request) != [_NODES]:
        raise RequestError("subject organization is not system:nodes")
    if not common_name(request).startswith(_NODE):
        raise RequestError("subject common name does not begin with system:node:")
    for kind, what in ((x509.RFC822Name, "Email"), (x509.UniformResourceIdentifier, "URI")):
        if any(isinstance(name, kind) for name in names):
            raise RequestError(f"{what} subjectAltNames are not allowed")
    addressed = any(isinstance(name, x509.DNSName | x509.IPAddress) for name in names)
    if signer == KUBELET and addressed:
        raise RequestError("DNS and IP subjectAltNames are not allowed")
    if signer == SERVING and not addressed:
        raise RequestError("DNS or IP subjectAltName is required")
    purpose = "client auth" if signer == KUBELET else "server auth"
    if usages not in ({*_PLAIN, purpose}, {"digital signature", purpose}):
        listed = " ".join(sorted((*_PLAIN, purpose)))
        raise RequestError(f"usages did not match [{listed}]")


def is_kubelet_client(value: Object, request: x509.CertificateSigningRequest) -> bool:
    """Say whether a request is for the client certificate of a kubelet."""
    if value["spec"].get("signerName") != KUBELET:
        return False
    try:
        check_request(KUBELET, request, set(value["spec"].get("usages") or ()))
    except RequestError:
        return False
    return True


def life(spec: dict[str, Any], longest: timedelta) -> timedelta:
    """Return for how long a certificate is signed: ``longest``, unless less is asked for."""
    seconds = spec.get("expirationSeconds")
    if seconds is None:
        return longest
    return max(_SHORTEST, min(longest, timedelta(seconds=seconds)))


def extended_usages(usages: Iterable[str]) -> list[ObjectIdentifier]:
    """Return the extended key usages among usages, as in certificates."""
    return [_EXTENDED[usage] for usage in sorted(usages) if usage in _EXTENDED]


def common_name(request: x509.CertificateSigningRequest) -> str:
    """Return the common name; "" for none."""
    found = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[-1].value) if found else ""


def organizations(request: x509.CertificateSigningRequest) -> list[str]:
    """Return the organizations, which are groups."""
    found = request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return [str(one.value) for one in found]


def alternatives(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    """Return the subject alternative names."""
    try:
        found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return list(found.value)
