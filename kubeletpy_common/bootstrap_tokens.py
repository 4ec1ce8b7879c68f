"""Bootstrap tokens: what a new node knows of a cluster (pure).

A token ``abcdef.0123456789abcdef`` is an id, which is no secret, and a secret. It proves the node
to the cluster (as a bearer token) and the cluster to the node: the ConfigMap
``kube-public/cluster-info`` holds a kubeconfig and, for each token, a signature of it.

Source: Kubernetes documentation, "Authenticating with Bootstrap Tokens"; RFC 7515 (JWS), detached
content (appendix F).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

SECRET_TYPE: Final = "bootstrap.kubernetes.io/token"
NAMESPACE: Final = "kube-system"
"""Of the Secrets that hold tokens."""
NAME_PREFIX: Final = "bootstrap-token-"
INFO_NAMESPACE: Final = "kube-public"
INFO_NAME: Final = "cluster-info"
KUBECONFIG_KEY: Final = "kubeconfig"
"""Of the ConfigMap's data: what is signed."""
SIGNATURE_PREFIX: Final = "jws-kubeconfig-"
"""Of the ConfigMap's data: before the id of the token that a signature is by."""
USAGE_PREFIX: Final = "usage-bootstrap-"
USAGES: Final = ("signing", "authentication")
BOOTSTRAPPERS: Final = "system:bootstrappers"
GROUP: Final = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]", re.ASCII)
"""What groups of a token must be like."""
TOKEN: Final = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})", re.ASCII)
_SECRET_NAME: Final = re.compile(NAME_PREFIX + r"([a-z0-9]{6})", re.ASCII)


def detached_signature(content: str, identifier: str, key: str) -> str:
    """Return the JWS (HS256) of a text, its payload left out.

    Args:
        content: that is signed.
        identifier: id of the token, which the header names.
        key: secret of the token.
    """
    header = _encode(
        json.dumps({"alg": "HS256", "kid": identifier}, separators=(",", ":")).encode()
    )
    signing = f"{header}.{_encode(content.encode())}".encode()
    return f"{header}..{_encode(hmac.digest(key.encode(), signing, 'sha256'))}"


def signature_holds(signature: str, content: str, identifier: str, key: str) -> bool:
    """Say whether a detached signature is the one of a text by a token; in constant time."""
    wanted = detached_signature(content, identifier, key)
    return hmac.compare_digest(signature.encode(errors="replace"), wanted.encode())


def texts(secret: Mapping[str, Any]) -> dict[str, str]:
    """Return the data of a Secret as text; what is none is left out."""
    found: dict[str, str] = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(value).decode()
        except (binascii.Error, ValueError, TypeError):
            continue
    return found


def expiration(data: Mapping[str, str]) -> datetime | None:
    """Return when a token ends; None: never.

    Raises:
        ValueError: its end cannot be read; then it is over.
    """
    text = data.get("expiration", "")
    if not text:
        return None
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if found.tzinfo is None:
        raise ValueError(f"{text!r} is no time as RFC 3339 has it")
    return found


def is_expired(data: Mapping[str, str], now: datetime) -> bool:
    """Say whether a token is at its end; one whose end cannot be read is."""
    try:
        end = expiration(data)
    except ValueError:
        return True
    return end is not None and end <= now


def signing_token(secret: Mapping[str, Any], now: datetime) -> tuple[str, str] | None:
    """Return id and secret of a token that signs cluster-info; None: this Secret is none.

    Args:
        secret: of any type.
        now: the time.
    """
    meta = secret["metadata"]
    if secret.get("type") != SECRET_TYPE or meta.get("namespace") != NAMESPACE:
        return None
    named = _SECRET_NAME.fullmatch(meta["name"])
    data = texts(secret)
    key = data.get("token-secret", "")
    if named is None or data.get("token-id") != named[1] or not key or is_expired(data, now):
        return None
    return (named[1], key) if data.get(USAGE_PREFIX + "signing") == "true" else None


def signed_data(data: Mapping[str, str], tokens: Mapping[str, str]) -> dict[str, str] | None:
    """Return the data of cluster-info with the signatures that it shall have; None: it has them.

    Args:
        data: as it is.
        tokens: secrets by id.
    """
    content = data.get(KUBECONFIG_KEY)
    if content is None:
        return None
    wanted = {key: text for key, text in data.items() if not key.startswith(SIGNATURE_PREFIX)}
    for identifier, key in tokens.items():
        wanted[SIGNATURE_PREFIX + identifier] = detached_signature(content, identifier, key)
    return None if wanted == data else wanted


def utc_text(moment: datetime) -> str:
    """Return a time as RFC 3339 has it, in UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
