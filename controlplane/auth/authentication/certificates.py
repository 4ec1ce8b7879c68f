"""Client certificates: the common name is the user, organizations are the groups.

Source: Kubernetes documentation, "Authenticating", "X509 client certificates".
"""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Mapping
from weakref import WeakKeyDictionary

from cryptography import x509
from cryptography.x509.oid import NameOID

from controlplane.api.identity import User

CREDENTIAL = "authentication.kubernetes.io/credential-id"


class ClientCertificates:
    """Reads the certificate of a connection once; the TLS library has verified it.

    Its end is looked at with each request: connections live longer than certificates may.
    """

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[ssl.SSLObject, tuple[User | None, float]] = (
            WeakKeyDictionary()
        )

    def authenticate(self, connection: ssl.SSLObject | None) -> User | None:
        """Return who is at the other end; None: nobody that showed a certificate."""
        if connection is None:
            return None
        found = self._known.get(connection)
        if found is None:
            found = self._read(connection)
            self._known[connection] = found
        user, end = found
        return user if end > time.time() else None

    @staticmethod
    def _read(connection: ssl.SSLObject) -> tuple[User | None, float]:
        content = connection.getpeercert(True)
        if not content:
            return None, float("inf")
        certificate = x509.load_der_x509_certificate(content)
        return user_of(certificate, content), certificate.not_valid_after_utc.timestamp()


def user_of(certificate: x509.Certificate, content: bytes) -> User | None:
    """Return the user that a certificate names; None: it names none (pure).

    Args:
        certificate: of the client.
        content: the same, DER.
    """
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not names or not names[-1].value:
        return None
    groups = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    digest = hashlib.sha256(content).hexdigest()
    extra: Mapping[str, tuple[str, ...]] = {CREDENTIAL: (f"X509SHA256={digest}",)}
    return User(str(names[-1].value), "", tuple(str(group.value) for group in groups), extra)
