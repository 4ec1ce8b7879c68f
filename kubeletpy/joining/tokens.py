"""Bootstrap tokens as people see them, and the Secrets that they are (pure).

Source: Kubernetes documentation, "Authenticating with Bootstrap Tokens"; kubeadm token.
"""

from __future__ import annotations

import base64
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from kubeletpy_common.bootstrap_tokens import (
    GROUP,
    NAME_PREFIX,
    NAMESPACE,
    SECRET_TYPE,
    TOKEN,
    USAGE_PREFIX,
    USAGES,
    expiration,
    texts,
    utc_text,
)

DEFAULT_GROUP: Final = "system:bootstrappers:kubeadm:default-node-token"
"""kubeadm's role bindings name it; ours name ``system:bootstrappers``, which all tokens have."""
_LETTERS: Final = string.ascii_lowercase + string.digits


@dataclass(frozen=True, kw_only=True)
class BootstrapToken:
    """A token.

    Attributes:
        token: both parts.
        description: for people.
        expires: when it ends; None: never.
        usages: ``signing``, ``authentication``.
        groups: besides ``system:bootstrappers``.
    """

    token: str = field(repr=False)
    description: str = ""
    expires: datetime | None = None
    usages: tuple[str, ...] = USAGES
    groups: tuple[str, ...] = (DEFAULT_GROUP,)

    @property
    def identifier(self) -> str:
        """The part that is no secret."""
        return self.token.partition(".")[0]

    def check(self) -> None:
        """Look whether it can be one.

        Raises:
            ValueError: it cannot; the text says why.
        """
        if not TOKEN.fullmatch(self.token):
            raise ValueError("the token is not of the form [a-z0-9]{6}.[a-z0-9]{16}")
        unknown = [usage for usage in self.usages if usage not in USAGES]
        if unknown:
            raise ValueError(f"usage {', '.join(unknown)} is none of {', '.join(USAGES)}")
        bad = [group for group in self.groups if not GROUP.fullmatch(group)]
        if bad:
            raise ValueError(f"group {', '.join(bad)} is not of the form {GROUP.pattern}")
        if self.groups and "authentication" not in self.usages:
            raise ValueError("groups are for tokens with the usage authentication")


def generate() -> str:
    """Return a new token, of the system's randomness."""
    parts = ("".join(secrets.choice(_LETTERS) for _ in range(count)) for count in (6, 16))
    return ".".join(parts)


def secret_name(identifier: str) -> str:
    """Return the name of the Secret of a token."""
    return NAME_PREFIX + identifier


def to_secret(token: BootstrapToken) -> dict[str, Any]:
    """Return the Secret of a token."""
    identifier, _, key = token.token.partition(".")
    data = {"token-id": identifier, "token-secret": key}
    if token.description:
        data["description"] = token.description
    if token.expires is not None:
        data["expiration"] = utc_text(token.expires)
    data |= {USAGE_PREFIX + usage: "true" for usage in token.usages}
    if token.groups:
        data["auth-extra-groups"] = ",".join(token.groups)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name(identifier), "namespace": NAMESPACE},
        "type": SECRET_TYPE,
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
    }


def of_secret(secret: Mapping[str, Any]) -> BootstrapToken:
    """Return the token that a Secret holds.

    Raises:
        ValueError: it holds none; the text says why.
    """
    name, data = str(secret["metadata"]["name"]), texts(secret)
    identifier, key = data.get("token-id", ""), data.get("token-secret", "")
    if name != secret_name(identifier) or not TOKEN.fullmatch(f"{identifier}.{key}"):
        raise ValueError(f"the Secret {name} holds no token: its token-id and token-secret do not "
                         "fit its name and their form")  # fmt: skip
    try:
        expires = expiration(data)
    except ValueError:
        raise ValueError(f"the Secret {name} has an expiration that cannot be read") from None
    usages = sorted(
        key.removeprefix(USAGE_PREFIX)
        for key, text in data.items()
        if key.startswith(USAGE_PREFIX) and text == "true"
    )
    groups = tuple(one for one in data.get("auth-extra-groups", "").split(",") if one)
    return BootstrapToken(
        token=f"{identifier}.{key}", description=data.get("description", ""), expires=expires,
        usages=tuple(usages), groups=groups,
    )  # fmt: skip


def as_row(token: BootstrapToken, now: datetime) -> tuple[str, ...]:
    """Return what ``kubeletpy token list`` shows of a token, as kubeadm does."""
    left, end = "<forever>", "<never>"
    if token.expires is not None:
        left, end = _short((token.expires - now).total_seconds()), utc_text(token.expires)
    return (
        token.token, left, end, ",".join(token.usages) or "<none>",
        token.description or "<none>", ",".join(token.groups) or "<none>",
    )  # fmt: skip


def as_document(token: BootstrapToken) -> dict[str, Any]:
    """Return a token as JSON has it."""
    return {
        "token": token.token,
        "description": token.description,
        "expires": utc_text(token.expires.astimezone(UTC)) if token.expires else None,
        "usages": list(token.usages),
        "groups": list(token.groups),
    }


def _short(seconds: float) -> str:
    if seconds <= 0:
        return "<invalid>"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"
