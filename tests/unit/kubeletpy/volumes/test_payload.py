from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.api.volumes import KeyToPath
from kubeletpy.volumes.payload import (
    PayloadError,
    ProjectedFile,
    checked,
    of_credential,
    of_keys,
    user_of,
    values_of,
)

from ..api.pods import make_pod

VALUES = {"a": b"1", "b": b"2"}
DEFAULT = 0o644


def test_values_of_a_config_map() -> None:
    found = {"data": {"text": "ä"}, "binaryData": {"raw": "AP8="}}
    assert values_of("configmap", found) == {"text": "ä".encode(), "raw": b"\0\xff"}
    assert values_of("configmap", {}) == {}


def test_values_of_a_secret() -> None:
    assert values_of("secret", {"data": {"key": "c2VjcmV0"}}) == {"key": b"secret"}
    with pytest.raises(PayloadError, match="key"):
        values_of("secret", {"data": {"key": "?"}})


@pytest.mark.parametrize(
    ("items", "optional", "expected"),
    [
        ([], False, {"a": (b"1", DEFAULT), "b": (b"2", DEFAULT)}),
        ([("a", "x/y", 0o400)], False, {"x/y": (b"1", 0o400)}),
        ([("b", "x", None)], False, {"x": (b"2", DEFAULT)}),
        ([("none", "x", None), ("a", "y", None)], True, {"y": (b"1", DEFAULT)}),
    ],
)
def test_files_of_keys(
    items: list[tuple[str, str, int | None]],
    optional: bool,
    expected: dict[str, tuple[bytes, int]],
) -> None:
    named = [KeyToPath(key=key, path=path, mode=mode) for key, path, mode in items]
    found = of_keys("configmap", VALUES, named, DEFAULT, optional=optional)
    assert {path: (file.content, file.mode) for path, file in found.items()} == expected


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("configmap", "configmap references non-existent config key: none"),
        ("secret", "references non-existent secret key: none"),
    ],
)
def test_missing_keys(kind: str, message: str) -> None:
    with pytest.raises(PayloadError, match=f"^{message}$"):
        of_keys(kind, VALUES, [KeyToPath(key="none", path="x")], DEFAULT, optional=False)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([""], "must not be empty"),
        (["/etc/passwd"], "must be relative"),
        (["a/../../b"], r"must not contain '\.\.'"),
        (["..data"], r"must not start with '\.\.'"),
        (["a" * 256], "less than or equal to 255"),
        (["a/" * 2049], "less than or equal to 4096"),
        (["a", "a/b"], "paths conflict: a is a file, so a/b cannot be"),
        (["a/b/c", "a/b"], "paths conflict: a/b is a file"),
        (["."], "not the name of a file"),
    ],
)
def test_refused_paths(paths: list[str], message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        checked({path: ProjectedFile(b"", DEFAULT) for path in paths})


def test_paths_are_made_normal() -> None:
    file = ProjectedFile(b"", DEFAULT)
    assert checked({"a//b/./c": file, "d..": file}).keys() == {
        "a/b/c",
        "d..",
    }


def container(**fields: Any) -> dict[str, Any]:
    return {"name": fields.pop("name", "main"), "image": "i", **fields}


@pytest.mark.parametrize(
    ("pod", "containers", "user"),
    [
        ({}, [{}], None),
        ({"runAsUser": 5}, [{}], 5),
        ({"runAsUser": 5}, [{"runAsUser": 6}], 6),
        ({"runAsUser": 5}, [{}, {"runAsUser": 6}], None),
        ({}, [{"runAsUser": 6}, {}], None),
    ],
)
def test_user_of_all_containers(
    pod: dict[str, int], containers: list[dict[str, int]], user: int | None
) -> None:
    made = make_pod(
        securityContext=pod,
        containers=[
            container(name=f"c{index}", securityContext=context)
            for index, context in enumerate(containers)
        ],
    )
    assert user_of(made) == user


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({}, ProjectedFile(b"t", DEFAULT, None)),
        ({"fsGroup": 7}, ProjectedFile(b"t", 0o600, None)),
        ({"runAsUser": 5}, ProjectedFile(b"t", 0o600, 5)),
    ],
)
def test_tokens_are_the_pods_alone(context: dict[str, int], expected: ProjectedFile) -> None:
    pod = make_pod(securityContext=context)
    assert of_credential(pod, "token", b"t", DEFAULT) == {"token": expected}
