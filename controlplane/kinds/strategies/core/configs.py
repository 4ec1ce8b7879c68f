"""ConfigMap, Secret and ServiceAccount.

Source: Kubernetes documentation, "ConfigMaps", "Secrets"; API reference.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from controlplane.api.errors import Cause
from controlplane.api.formats import config_key_problems
from controlplane.api.metadata import forbidden, immutable, required, too_long, wrong
from controlplane.api.resource import AGE, Column, Context, Object, Strategy

MAX_BYTES: Final = 1 << 20
"""Of all values of one object."""

_ACCOUNT: Final = "kubernetes.io/service-account.name"
_NEEDED: Final = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_JSON: Final = ("kubernetes.io/dockercfg", "kubernetes.io/dockerconfigjson")
_FROZEN: Final = "field is immutable when `immutable` is set"


class ConfigMapStrategy(Strategy):
    """See the module."""

    generation = False
    has_status = False
    columns = (Column("Data", description="How many entries it has."),)

    def default(self, value: Object) -> None:
        """Drop what is empty."""
        _drop_empty(value, "data", "binaryData")

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong."""
        data, binary = value.get("data", {}), value.get("binaryData", {})
        causes = _check_frozen(value, old, ("data", "binaryData"))
        causes += _check_keys(data, "data") + _check_keys(binary, "binaryData")
        for key in data.keys() & binary.keys():
            text = "duplicate of key present in binaryData"
            causes.append(wrong(f"data[{key}]", key, text))
        size = sum(len(text.encode()) for text in data.values())
        if size + sum(_size(text) for text in binary.values()) > MAX_BYTES:
            causes.append(too_long("", MAX_BYTES))
        return causes

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        return [len(value.get("data", {})) + len(value.get("binaryData", {}))]


class SecretStrategy(Strategy):
    """See the module."""

    generation = False
    has_status = False
    selectable = frozenset({"type"})
    columns = (
        Column("Type", description="What it is for."),
        Column("Data", description="How many entries it has."),
    )

    def default(self, value: Object) -> None:
        """Put in the defaults, and plain values as kept ones: they are write-only."""
        value["type"] = value.get("type") or "Opaque"
        plain = value.pop("stringData", {})
        if plain:
            data = value.setdefault("data", {})
            data.update({k: base64.b64encode(v.encode()).decode() for k, v in plain.items()})
        _drop_empty(value, "data")

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong."""
        causes: list[Cause] = []
        if old is not None and value["type"] != old.get("type"):
            causes.append(immutable("type", value["type"]))
        data = value.get("data", {})
        causes += _check_frozen(value, old, ("data",)) + _check_keys(data, "data")
        if sum(_size(text) for text in data.values()) > MAX_BYTES:
            causes.append(too_long("data", MAX_BYTES))
        return causes + _check_content(value, data)

    def warnings(self, value: Object) -> list[str]:
        """Return what a user should hear."""
        if value["type"] != "kubernetes.io/tls":
            return []
        data = value.get("data", {})
        problem = _pair_problem(*(_decoded(data.get(key, "")) for key in ("tls.crt", "tls.key")))
        return [f"tls: {problem}"] if problem else []

    def fields(self, value: Object) -> dict[str, str]:
        """Return what field selectors can ask for."""
        return {"type": value.get("type", "")}

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        return [value.get("type", ""), len(value.get("data", {}))]


class ServiceAccountStrategy(Strategy):
    """See the module."""

    generation = False
    has_status = False
    columns = (AGE,)

    def default(self, value: Object) -> None:
        """Drop what is empty."""
        _drop_empty(value, "secrets", "imagePullSecrets")

    def prepare_create(self, value: Object, context: Context) -> None:
        """Secrets are named, and nothing more is said of them."""
        for index, secret in enumerate(value.get("secrets", [])):
            value["secrets"][index] = {"name": secret.get("name", "")}

    def prepare_update(self, value: Object, old: Object, context: Context) -> None:
        """Likewise."""
        self.prepare_create(value, context)


def _check_content(value: Object, data: dict[str, str]) -> list[Cause]:
    kind = value["type"]
    if kind == "kubernetes.io/service-account-token":
        named = value["metadata"].get("annotations", {}).get(_ACCOUNT)
        return [] if named else [required(f"metadata.annotations[{_ACCOUNT}]")]
    if kind == "kubernetes.io/basic-auth":
        keys = ("username", "password")
        missing = not any(key in data for key in keys)
        return [required(f"data[{key}]") for key in keys] if missing else []
    if kind == "kubernetes.io/ssh-auth":
        return [] if data.get("ssh-privatekey") else [required("data[ssh-privatekey]")]
    causes: list[Cause] = []
    for key in _NEEDED.get(kind, ()):
        path = f"data[{key}]"
        if key not in data:
            causes.append(required(path))
        elif kind in _JSON:
            try:
                if not isinstance(json.loads(base64.b64decode(data[key])), dict):
                    raise ValueError("it is no JSON object")
            except (ValueError, RecursionError) as error:
                causes.append(wrong(path, "<secret contents redacted>", _of_json(error)))
    return causes


def _decoded(text: str) -> bytes:
    return base64.b64decode(text)


def _pair_problem(certificate: bytes, key: bytes) -> str:
    """Say why a certificate and a key cannot be served together."""
    for content, what in ((certificate, "certificate"), (key, "key")):
        if b"-----BEGIN " not in content:
            return f"failed to find any PEM data in {what} input"
    try:
        public = x509.load_pem_x509_certificate(certificate).public_key()
        other = load_pem_private_key(key, None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        return f"failed to parse certificate or key: {error}"
    return "" if public == other else "private key does not match public key"


def _of_json(error: Exception) -> str:
    # The decoder's own words hold nothing of the content.
    return getattr(error, "msg", "") or "it is no JSON object"


def _check_frozen(value: Object, old: Object | None, keys: tuple[str, ...]) -> list[Cause]:
    if old is None or not old.get("immutable"):
        return []
    causes = [] if value.get("immutable") else [forbidden("immutable", _FROZEN)]
    return causes + [forbidden(key, _FROZEN) for key in keys if value.get(key) != old.get(key)]


def _check_keys(data: dict[str, str], path: str) -> list[Cause]:
    return [wrong(f"{path}[{key}]", key, why) for key in data for why in config_key_problems(key)]


def _size(text: str) -> int:
    """Return the bytes that base64 stands for."""
    return len(text) * 3 // 4 - text.count("=", -2)


def _drop_empty(value: Object, *keys: str) -> None:
    for key in keys:
        if key in value and not value[key]:
            del value[key]
