"""Ranges of ids for pods with a user namespace of their own."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kubeletpy.pods.user_namespaces import (
    ALL_IDS,
    IdRange,
    UserNamespaceError,
    UserNamespaces,
    available_ids,
)

UNIT = 65536
THREE = IdRange(UNIT, 3 * UNIT)


def file_of(root: Path, uid: str) -> Path:
    return root / "pods" / uid / "userns"


def test_each_pod_has_its_own_range_and_keeps_it(tmp_path: Path) -> None:
    users = UserNamespaces(tmp_path, THREE)
    assert users.ensure("u1") == users.ensure("u1") == users.of("u1") == IdRange(UNIT, UNIT)
    assert users.ensure("u2") == IdRange(2 * UNIT, UNIT)
    again = UserNamespaces(tmp_path, THREE)
    assert again.of("u1") == IdRange(UNIT, UNIT)
    assert again.ensure("u3") == IdRange(3 * UNIT, UNIT)
    with pytest.raises(UserNamespaceError, match="could not find an empty slot"):
        again.ensure("u4")
    assert not file_of(tmp_path, "u4").exists()
    again.release("u2")
    again.release("u2")
    assert again.of("u2") is None
    assert again.ensure("u4") == IdRange(2 * UNIT, UNIT)


def test_the_file_is_that_of_the_go_kubelet(tmp_path: Path) -> None:
    UserNamespaces(tmp_path, THREE).ensure("u1")
    mapping = [{"hostId": UNIT, "containerId": 0, "length": UNIT}]
    written = json.loads(file_of(tmp_path, "u1").read_bytes())
    assert written == {"uidMappings": mapping, "gidMappings": mapping}


def test_pods_made_at_once_get_different_ranges(tmp_path: Path) -> None:
    users = UserNamespaces(tmp_path, IdRange(UNIT, 40 * UNIT))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(users.ensure, (f"u{number}" for number in range(40))))
    assert len(set(found)) == 40


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"uidMappings": [], "gidMappings": []}',
        b'{"uidMappings": [{"hostId": 0, "containerId": 0, "length": 65536}], '
        b'"gidMappings": [{"hostId": 0, "containerId": 0, "length": 65536}]}',
        b'{"uidMappings": [{"hostId": 65536, "containerId": 0, "length": 65536}], '
        b'"gidMappings": [{"hostId": 131072, "containerId": 0, "length": 65536}]}',
    ],
)
def test_a_file_that_cannot_be_taken_is_set_aside(tmp_path: Path, content: bytes) -> None:
    file = file_of(tmp_path, "u1")
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    users = UserNamespaces(tmp_path, THREE)
    assert users.of("u1") is None
    assert file.with_name("userns.corrupt").read_bytes() == content


def test_a_range_that_is_written_twice_is_given_to_one(tmp_path: Path) -> None:
    UserNamespaces(tmp_path, THREE).ensure("u1")
    other = file_of(tmp_path, "u2")
    other.parent.mkdir()
    other.write_bytes(file_of(tmp_path, "u1").read_bytes())
    users = UserNamespaces(tmp_path, THREE)
    assert users.of("u1") is not None
    assert users.of("u2") is None


def subordinate(directory: Path, users: str, groups: str) -> tuple[Path, Path]:
    paths = directory / "subuid", directory / "subgid"
    for path, text in zip(paths, (users, groups), strict=True):
        if text:
            path.write_text(text)
    return paths


def test_subordinate_ids_of_the_user_kubelet(tmp_path: Path) -> None:
    line = "root:1:65536\nkubelet:131072:6553600\n"
    found = available_ids(subordinate=subordinate(tmp_path, line, line))
    assert found == IdRange(131072, 6553600)


def test_without_subordinate_ids_all_but_the_first_are_free(tmp_path: Path) -> None:
    found = available_ids(subordinate=subordinate(tmp_path, "", "other:1:2\n"))
    assert found == IdRange(UNIT, ALL_IDS - UNIT)


@pytest.mark.parametrize(
    ("users", "groups"),
    [
        ("kubelet:131072:65536\n", ""),
        ("kubelet:131072:65536\n", "kubelet:65536:65536\n"),
        ("kubelet:131072:65536\n" * 2, "kubelet:131072:65536\n" * 2),
        ("kubelet:0:65536\n", "kubelet:0:65536\n"),
        ("kubelet:65537:65536\n", "kubelet:65537:65536\n"),
        ("kubelet:65536:1\n", "kubelet:65536:1\n"),
        ("kubelet:x:1\n", "kubelet:x:1\n"),
    ],
)
def test_subordinate_ids_that_do_not_fit(tmp_path: Path, users: str, groups: str) -> None:
    with pytest.raises(UserNamespaceError):
        available_ids(subordinate=subordinate(tmp_path, users, groups))
