"""Certificates of hosts: those of Secrets, and the one that is shown where there is none."""

from __future__ import annotations

import datetime
import hashlib
import os
import ssl
from collections.abc import Callable, Mapping
from typing import Final

from .model import Certificate

DEFAULT: Final = "default"
"""Name of the certificate of hosts that have none."""
_DAYS: Final = 365
_LARGEST: Final = 1024 * 1024


class PairError(ValueError):
    """A Secret holds no certificate with its key; the message says why."""


def certificate_of(
    namespace: str, name: str, secret: Callable[[str, str], Mapping[str, bytes] | None]
) -> Certificate:
    """Return the certificate of a Secret of type kubernetes.io/tls.

    Raises:
        PairError: it has none that can be used.
    """
    data = secret(namespace, name)
    if data is None:
        raise PairError(f"there is no Secret {namespace}/{name}")
    chain, key = data.get("tls.crt", b""), data.get("tls.key", b"")
    if not chain or not key:
        raise PairError(f"Secret {namespace}/{name} has no tls.crt and tls.key")
    if len(chain) + len(key) > _LARGEST:
        raise PairError(f"Secret {namespace}/{name} is too large")
    _check(chain, key, f"Secret {namespace}/{name}")
    digest = hashlib.sha256(b"%d:%b%b" % (len(chain), chain, key)).hexdigest()
    return Certificate(f"c{digest[:32]}", chain, key)


def _check(chain: bytes, key: bytes, what: str) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        own = load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        raise PairError(f"{what}: no PEM certificate and key: {error}") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if leaf.public_key().public_bytes(*form) != own.public_key().public_bytes(*form):
        raise PairError(f"{what}: the key is not that of the certificate")
    _load(chain, key, what)


def _load(chain: bytes, key: bytes, what: str) -> None:
    """Have the TLS library take them: it refuses keys that are too short, for one."""
    with os.fdopen(os.memfd_create("pair", os.MFD_CLOEXEC), "wb") as file:
        file.write(chain.rstrip() + b"\n" + key)
        file.flush()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password="")
        except (ssl.SSLError, OSError) as error:
            reason = getattr(error, "reason", None) or str(error)
            raise PairError(f"{what}: it cannot be used: {reason}") from None


def make_default() -> Certificate:
    """Return a certificate that nobody trusts: TLS needs one before the host is known."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubeletpy ingress default")])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("ingress.local")]), False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Certificate(DEFAULT, made.public_bytes(Encoding.PEM), pem)
