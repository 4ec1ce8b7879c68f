"""Which credentials fit an image."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from kubeletpy.images.keyring import (
    Credential,
    Keyring,
    Source,
    keyring_of_secrets,
    matches,
    parse_config,
)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("pattern", "repository", "expected"),
    [
        ("registry.example", "registry.example/a/b", True),
        ("registry.example/a", "registry.example/a/b", True),
        ("registry.example/b", "registry.example/a/b", False),
        ("registry.example:5000", "registry.example/a", False),
        ("registry.example:5000", "registry.example:5000/a", True),
        ("*.example", "registry.example/a", True),
        ("*.example", "a.registry.example/a", False),
        ("*.*.example", "a.registry.example/a", True),
        ("reg?stry.example", "registry.example/a", True),
        ("example", "registry.example/a", False),
    ],
)
def test_patterns(pattern: str, repository: str, expected: bool) -> None:
    assert matches(pattern, repository) is expected


def names(keyring: Keyring, repository: str) -> list[str]:
    return [one.username for one in keyring.lookup(repository)]


def test_the_most_specific_is_tried_first() -> None:
    keyring = Keyring()
    keyring.add({"https://quay.example/v1/": ("host", "")})
    keyring.add({"quay.example/team/app": ("app", ""), "quay.example/team": ("team", "")})
    keyring.add({"quay.example/team": ("other", "")})
    assert names(keyring, "quay.example/team/app") == ["app", "team", "other", "host"]
    assert names(keyring, "quay.example/else") == ["host"]
    assert names(keyring, "other.example/team") == []


def test_docker_hub_is_known_by_its_old_name() -> None:
    keyring = Keyring()
    keyring.add({"https://index.docker.io/v1/": ("me", "")})
    assert names(keyring, "docker.io/library/busybox") == ["me"]
    assert names(keyring, "registry.example/busybox") == []


def test_configurations() -> None:
    entries = {
        "a.example": {"auth": encoded("me:pass:word")},
        "b.example": {"username": "you", "password": "secret", "email": "x"},
        "c.example": {"auth": encoded("me:x").rstrip("=")},
        "d.example": {},
    }
    expected = {
        "a.example": ("me", "pass:word"),
        "b.example": ("you", "secret"),
        "c.example": ("me", "x"),
        "d.example": ("", ""),
    }
    nested = json.dumps({"auths": entries, "credsStore": "x"}).encode()
    assert parse_config(nested, nested=True) == expected
    assert parse_config(json.dumps(entries).encode(), nested=False) == expected
    assert parse_config(b"{}", nested=True) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b'{"auths": []}', b'{"auths": {"a": 1}}', b'{"auths": {"a": {"auth": "?"}}}',
        b'{"auths": {"a": {"auth": "bm9jb2xvbg=="}}}',
    ],
)  # fmt: skip
def test_configurations_that_are_none(content: bytes) -> None:
    with pytest.raises((ValueError, AttributeError)):
        parse_config(content, nested=True)


def secret(kind: str, key: str, content: Any, name: str = "s") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}"},
        "type": kind,
        "data": {key: encoded(json.dumps(content))},
    }


ENTRY = {"registry.example": {"username": "me", "password": "p"}}


def test_pull_secrets() -> None:
    keyring = keyring_of_secrets(
        [
            secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", {"auths": ENTRY}, "new"),
            secret("kubernetes.io/dockercfg", ".dockercfg", ENTRY, "old"),
            secret("Opaque", ".dockerconfigjson", {"auths": ENTRY}, "opaque"),
            secret("kubernetes.io/dockercfg", "other", ENTRY, "without"),
            {"type": "kubernetes.io/dockercfg"},
        ]
    )
    found = keyring.lookup("registry.example/web")
    assert found == [
        Credential("me", "p", Source("Secret", f"uid-{name}", "ns", name))
        for name in ("new", "old")
    ]
    assert "p'" not in repr(found)


def test_a_pull_secret_that_cannot_be_read_is_named() -> None:
    broken = secret("kubernetes.io/dockercfg", ".dockercfg", [], "broken")
    with pytest.raises(ValueError, match="pull secret broken"):
        keyring_of_secrets([broken])


def test_the_hash_is_that_of_the_go_kubelet() -> None:
    # sha256 of {"username":"me","password":"a\u0026b"}, as Go's encoding/json writes it.
    assert Credential("me", "a&b").hash == (
        "70a19f143c9a6a5be241ab59b77dba485a891c87c17fd584c569a3997cb9eea6"
    )
