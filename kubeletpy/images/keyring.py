"""Which credentials fit an image (pure): those of pull secrets, of the node, and of plugins.

https://kubernetes.io/docs/concepts/containers/images/#config-json : an entry is a registry with an
optional path; parts of the host may be globs; the more specific entries are tried first.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

DOCKER_CONFIG_JSON = "kubernetes.io/dockerconfigjson"
DOCKER_CONFIG = "kubernetes.io/dockercfg"
_HUB = "index.docker.io"
_HUB_HOSTS = ("docker.io", _HUB)


@dataclass(frozen=True, slots=True)
class Source:
    """The Secret or ServiceAccount that credentials come from; ``kind`` is its kind."""

    kind: str
    uid: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Credential:
    """A user name and password; ``source`` None: any pod of the node may use it."""

    username: str
    password: str = field(repr=False)
    source: Source | None = None

    @property
    def hash(self) -> str:
        """A hash that tells credentials apart, as the Go kubelet makes it."""
        content = {"username": self.username, "password": self.password}
        plain = json.dumps({key: value for key, value in content.items() if value},
                           separators=(",", ":"), ensure_ascii=False)  # fmt: skip
        # Go's encoder escapes these, so that JSON can stand in HTML.
        for character, escape in (("&", "\\u0026"), ("<", "\\u003c"), (">", "\\u003e")):
            plain = plain.replace(character, escape)
        return hashlib.sha256(plain.encode()).hexdigest()


class Keyring:
    """Credentials by what they are for."""

    def __init__(self) -> None:
        self._entries: dict[str, list[Credential]] = {}

    def add(self, entries: Mapping[str, tuple[str, str]], source: Source | None = None) -> None:
        """Add user names and passwords by registry."""
        for location, (username, password) in entries.items():
            key = _key(location)
            if key:
                credential = Credential(username, password, source)
                self._entries.setdefault(key, []).append(credential)

    def lookup(self, repository: str) -> list[Credential]:
        """Return the credentials for a repository (with its host), best first."""
        found = [
            credential
            for key in sorted(self._entries, reverse=True)
            if matches(key, repository)
            for credential in self._entries[key]
        ]
        if not found and repository.partition("/")[0] in _HUB_HOSTS:
            return list(self._entries.get(_HUB, []))
        return found


def _key(location: str) -> str:
    text = location if location.startswith(("https://", "http://")) else f"https://{location}"
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    path = parts.path
    if path.startswith(("/v1/", "/v2/")):
        path = path[3:]
    return parts.netloc + ("" if path == "/" else path)


def matches(pattern: str, repository: str) -> bool:
    """Whether a pattern (host with globs, port, path) is for a repository."""
    pattern_host, _, pattern_path = pattern.partition("/")
    host, _, path = repository.partition("/")
    if not f"/{path}".startswith(f"/{pattern_path}"):
        return False
    pattern_name, _, pattern_port = pattern_host.partition(":")
    name, _, port = host.partition(":")
    globs, labels = pattern_name.split("."), name.split(".")
    return (
        pattern_port == port
        and len(globs) == len(labels)
        and all(fnmatch.fnmatchcase(one, glob) for one, glob in zip(labels, globs, strict=True))
    )


def parse_config(content: bytes, *, nested: bool) -> dict[str, tuple[str, str]]:
    """Read a docker configuration.

    Args:
        content: JSON.
        nested: whether the entries are below ``auths`` (config.json), else at the top (.dockercfg).

    Raises:
        ValueError: it is none.
    """
    document = json.loads(content)
    entries = document.get("auths") if nested and isinstance(document, dict) else document
    if entries is None:
        return {}
    if not isinstance(entries, dict):
        raise ValueError("no object of registries")
    return {location: _entry(location, entry) for location, entry in entries.items()}


def _entry(location: str, entry: Any) -> tuple[str, str]:
    if not isinstance(entry, dict):
        raise ValueError(f"entry {location!r} is no object")
    encoded = entry.get("auth")
    if not encoded:
        return str(entry.get("username") or ""), str(entry.get("password") or "")
    text = str(encoded).strip()
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(f"auth of {location!r} is no base64 text: {error}") from None
    username, colon, password = decoded.partition(":")
    if not colon:
        raise ValueError(f"auth of {location!r} must be formatted as base64(username:password)")
    return username, password


def keyring_of_secrets(secrets: Iterable[Mapping[str, Any]]) -> Keyring:
    """Return the credentials of pull secrets (objects of the API).

    Raises:
        ValueError: one of them is of a fitting type, and cannot be read.
    """
    keyring = Keyring()
    for secret in secrets:
        data, kind = secret.get("data") or {}, secret.get("type")
        for wanted, key, nested in (
            (DOCKER_CONFIG_JSON, ".dockerconfigjson", True),
            (DOCKER_CONFIG, ".dockercfg", False),
        ):
            if kind != wanted or not data.get(key):
                continue
            meta = secret.get("metadata") or {}
            source = Source(
                "Secret", str(meta.get("uid", "")), str(meta.get("namespace", "")),
                str(meta.get("name", "")),
            )  # fmt: skip
            try:
                keyring.add(parse_config(base64.b64decode(data[key]), nested=nested), source)
            except ValueError as error:
                raise ValueError(f"pull secret {source.name}: {error}") from error
    return keyring
