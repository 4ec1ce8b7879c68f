"""Keys, certificates and requests as PEM."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

NODES, NODE = "system:nodes", "system:node:"
CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING_SIGNER = "kubernetes.io/kubelet-serving"
_USAGES = {CLIENT_SIGNER: "client auth", SERVING_SIGNER: "server auth"}


class CertificateError(Exception):
    """A certificate or key that cannot be had, read or kept; the message says which and why."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """What a certificate must say.

    Attributes:
        node: name of the node.
        names, ips: what it is valid for; empty for clients.
    """

    node: str
    names: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class KeyPair:
    """A certificate with its key.

    Attributes:
        data: both, as PEM.
        not_before, not_after: when it is valid.
        common_name, organizations, names, ips: what it says.
    """

    data: bytes
    not_before: datetime
    not_after: datetime
    common_name: str
    organizations: frozenset[str]
    names: frozenset[str]
    ips: frozenset[str]

    def satisfies(self, template: Template) -> bool:
        """Return whether it says all that ``template`` asks for."""
        return (
            self.common_name == NODE + template.node
            and NODES in self.organizations
            and self.names >= set(template.names)
            and self.ips >= set(template.ips)
        )


def read_pair(data: bytes) -> KeyPair:
    """Read a certificate and its key.

    Raises:
        CertificateError: they are none, or do not fit.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509.oid import NameOID

    try:
        leaf = x509.load_pem_x509_certificates(data)[0]
        begin = data.index(b"-----BEGIN", data.rindex(b"-----END CERTIFICATE-----"))
        key = load_pem_private_key(data[begin:], password=None)
    except (ValueError, IndexError, TypeError) as error:
        raise CertificateError(f"no certificate with its key: {error}") from error
    if key.public_key() != leaf.public_key():
        raise CertificateError("key and certificate do not belong to each other")
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = alternative.get_values_for_type(x509.DNSName)
        ips = [str(one) for one in alternative.get_values_for_type(x509.IPAddress)]
    except x509.ExtensionNotFound:
        names, ips = [], []
    subject = leaf.subject
    common = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    organizations = subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return KeyPair(
        data=data, not_before=leaf.not_valid_before_utc, not_after=leaf.not_valid_after_utc,
        common_name=str(common[0].value) if common else "",
        organizations=frozenset(str(one.value) for one in organizations),
        names=frozenset(names), ips=frozenset(ips),
    )  # fmt: skip


def new_key() -> bytes:
    """Return a new key (ECDSA, P-256) as PEM."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def usages(signer: str) -> list[str]:
    """Return the usages to ask a signer for, with a key of ECDSA."""
    return ["digital signature", _USAGES[signer]]


def request_pem(template: Template, key: bytes) -> bytes:
    """Return a certificate request (PKCS #10) as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, NODES),
            x509.NameAttribute(NameOID.COMMON_NAME, NODE + template.node),
        ])
    )  # fmt: skip
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in template.names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(ip)) for ip in template.ips]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    signed = builder.sign(_private(key), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def _private(key: bytes) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    loaded = load_pem_private_key(key, password=None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise CertificateError("the key is none of an elliptic curve")
    return loaded


def digested_name(key: bytes, node: str, asked: Sequence[str]) -> str:
    """Return the name of a first request: the same for the same key, so a restart finds it."""
    from cryptography.hazmat.primitives import serialization

    public = (
        _private(key)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    digest = hashlib.new("sha512_256")
    for part in (public, (NODE + node).encode(), NODES.encode(), *(use.encode() for use in asked)):
        digest.update(base64.urlsafe_b64encode(part).rstrip(b"=") + b"|")
    return f"node-csr-{base64.urlsafe_b64encode(digest.digest()).rstrip(b'=').decode()}"
