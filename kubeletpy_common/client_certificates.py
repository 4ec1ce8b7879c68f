"""Client certificates: the common name is the user, organizations are the groups.

Source: Kubernetes documentation, "Authenticating", "X509 client certificates".
"""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from weakref import WeakKeyDictionary

CREDENTIAL: Final = "authentication.kubernetes.io/credential-id"
"""What else is known of a user: by what credential it was known."""
User = TypeVar("User")


@dataclass(frozen=True, slots=True)
class Named:
    """Whom a certificate names.

    Attributes:
        name: of the user.
        groups: that the user is in.
        extra: names the certificate, by `CREDENTIAL`.
    """

    name: str
    groups: tuple[str, ...]
    extra: Mapping[str, tuple[str, ...]]


class ClientCertificates(Generic[User]):
    """Reads the certificate of a connection once; the TLS library has verified it.

    Its end is looked at with each request: connections live longer than certificates may.

    Args:
        make: turns whom a certificate names into a user.
    """

    def __init__(self, make: Callable[[Named], User]) -> None:
        self._make = make
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

    def _read(self, connection: ssl.SSLObject) -> tuple[User | None, float]:
        verified = connection.getpeercert()
        if not verified:
            return None, float("inf")
        content = connection.getpeercert(True) or b""
        end = ssl.cert_time_to_seconds(str(verified["notAfter"]))
        named = named_by(verified, hashlib.sha256(content).hexdigest())
        return (self._make(named) if named is not None else None), end


def named_by(certificate: Mapping[str, Any], digest: str) -> Named | None:
    """Return whom a certificate names; None: nobody (pure).

    Args:
        certificate: as ``ssl.SSLSocket.getpeercert()`` returns it.
        digest: SHA-256 of it, in hexadecimal.
    """
    parts = [pair for name in certificate.get("subject", ()) for pair in name]
    names = [value for key, value in parts if key == "commonName"]
    if not names or not names[-1]:
        return None
    groups = tuple(value for key, value in parts if key == "organizationName")
    return Named(names[-1], groups, {CREDENTIAL: (f"X509SHA256={digest}",)})
