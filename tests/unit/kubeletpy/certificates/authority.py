"""An authority for tests: signs requests for as long as a test wants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubeletpy.certificates.pairs import Template, new_key, request_pem

_KEY = ec.generate_private_key(ec.SECP256R1())
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])


def sign(request: bytes, *, begin: datetime | None = None, hours: float = 1) -> bytes:
    """Return the certificate for a request, valid from ``begin`` (now) on."""
    asked = x509.load_pem_x509_csr(request)
    begin = begin or datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(asked.subject)
        .issuer_name(_NAME)
        .public_key(asked.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(hours=hours))
    )
    for extension in asked.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(_KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def pair(template: Template, **validity: object) -> tuple[bytes, bytes]:
    """Return a certificate and its key."""
    key = new_key()
    return sign(request_pem(template, key), **validity), key  # type: ignore[arg-type]
