"""Client certificates: the common name is the user, organizations are the groups.

Source: Kubernetes documentation, "Authenticating", "X509 client certificates".
"""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from .identity import CREDENTIAL, User


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
            found = _read(connection)
            self._known[connection] = found
        user, end = found
        return user if end > time.time() else None


def _read(connection: ssl.SSLObject) -> tuple[User | None, float]:
    verified = connection.getpeercert()
    if not verified:
        return None, float("inf")
    content = connection.getpeercert(True) or b""
    end = ssl.cert_time_to_seconds(str(verified["notAfter"]))
    return user_of(verified, hashlib.sha256(content).hexdigest()), end


def user_of(certificate: Mapping[str, Any], digest: str) -> User | None:
    """Return the user that a certificate names; None: it names none (pure).

    Args:
        certificate: as ``ssl.SSLSocket.getpeercert()`` returns it.
        digest: SHA-256 of it, in hexadecimal.
    """
    parts = [pair for name in certificate.get("subject", ()) for pair in name]
    names = [value for key, value in parts if key == "commonName"]
    if not names or not names[-1]:
        return None
    groups = tuple(value for key, value in parts if key == "organizationName")
    return User(names[-1], "", groups, {CREDENTIAL: (f"X509SHA256={digest}",)})
