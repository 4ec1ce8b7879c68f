"""Tokens that Secrets hold: what is in them, and how tokens are signed (pure).

Source: Kubernetes documentation, "Managing Service Accounts", "Manually create a long-lived API
token for a ServiceAccount".
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

TYPE: Final = "kubernetes.io/service-account-token"
ACCOUNT: Final = "kubernetes.io/service-account.name"
ACCOUNT_UID: Final = "kubernetes.io/service-account.uid"
LEGACY_ISSUER: Final = "kubernetes/serviceaccount"
CLAIM: Final = "kubernetes.io/serviceaccount/"


class TokenSigner:
    """Signs tokens (RFC 7515, 7519).

    Args:
        key: RSA with SHA-256, or ECDSA on P-256.

    Attributes:
        public: its public key.
        algorithm: as RFC 7518 names it.
        key_id: of the public key, as kube-apiserver makes it.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
        self._key = key
        self.public = key.public_key()
        self.algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
        der = self.public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        digest = hashlib.sha256(der).digest()
        self.key_id = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def sign(self, claims: dict[str, Any]) -> str:
        """Return a token."""
        return jwt.encode(claims, self._key, self.algorithm, headers={"kid": self.key_id})


def legacy_data(token: str, namespace: str, authority: bytes) -> dict[str, str]:
    """Return what the Secret of a token holds."""
    entries = {"ca.crt": authority, "namespace": namespace.encode(), "token": token.encode()}
    return {key: base64.b64encode(value).decode() for key, value in entries.items()}


def legacy_claims(secret: Mapping[str, Any], account: Mapping[str, Any]) -> dict[str, Any]:
    """Return the claims of the token of a Secret, by the metadata of both."""
    namespace, name = account["namespace"], account["name"]
    return {
        "iss": LEGACY_ISSUER,
        "sub": f"system:serviceaccount:{namespace}:{name}",
        f"{CLAIM}namespace": namespace,
        f"{CLAIM}secret.name": secret["name"],
        f"{CLAIM}service-account.name": name,
        f"{CLAIM}service-account.uid": account["uid"],
    }


def is_full(secret: Mapping[str, Any], namespace: str, authority: bytes) -> bool:
    """Whether a Secret holds all that it is to hold."""
    data, wanted = secret.get("data") or {}, legacy_data("", namespace, authority)
    return bool(data.get("token")) and all(
        data.get(key) == wanted[key] for key in ("ca.crt", "namespace")
    )


def filled(
    secret: dict[str, Any], account: Mapping[str, Any], signer: TokenSigner, authority: bytes
) -> dict[str, Any]:
    """Return a Secret with the token of an account; one that it has already stays.

    Args:
        secret: is changed.
        account: its metadata.
        signer: of the token.
        authority: the cluster's, PEM.
    """
    meta = secret["metadata"]
    meta["annotations"] = {**(meta.get("annotations") or {}), ACCOUNT_UID: account["uid"]}
    data = legacy_data(signer.sign(legacy_claims(meta, account)), meta["namespace"], authority)
    held = secret.get("data") or {}
    if held.get("token"):
        data["token"] = held["token"]
    secret["data"] = {**held, **data}
    return secret
