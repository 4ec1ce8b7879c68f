from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from kubeletpy.sources.static_pods import ManifestError, StaticPod, static_pod

SEEN = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
MANIFEST: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {"containers": [{"name": "main", "image": "web:1"}]},
}


def make(manifest: dict[str, Any], file: str = "/m/web.yaml", node: str = "Node-1") -> StaticPod:
    return static_pod(json.dumps(manifest).encode(), file=file, node_name=node, seen=SEEN)


def test_identity_of_a_static_pod() -> None:
    pod = make(MANIFEST).pod
    meta = pod.metadata
    assert meta.name == "web-node-1"
    assert meta.namespace == "default"
    assert pod.spec.node_name == "Node-1"
    assert meta.annotations == {
        "kubernetes.io/config.hash": meta.uid,
        "kubernetes.io/config.source": "file",
        "kubernetes.io/config.seen": "2026-01-02T03:04:05.678901Z",
    }
    assert len(meta.uid) == 32
    assert pod.status.phase == "Pending"
    assert pod.spec.restart_policy == "Always"
    assert [(each.operator, each.effect) for each in pod.spec.tolerations] == [
        ("Exists", "NoExecute")
    ]


def test_uid_depends_on_content_file_and_node_alone() -> None:
    uid = make(MANIFEST).pod.metadata.uid
    assert make(MANIFEST).pod.metadata.uid == uid
    reordered = dict(reversed(MANIFEST.items()))
    assert make(reordered).pod.metadata.uid == uid
    other = {**MANIFEST, "spec": {"containers": [{"name": "main", "image": "web:2"}]}}
    uids = {
        uid,
        make(other).pod.metadata.uid,
        make(MANIFEST, file="/m/other.yaml").pod.metadata.uid,
        make(MANIFEST, node="node-2").pod.metadata.uid,
    }
    assert len(uids) == 4


def test_a_given_uid_stays_and_the_hash_tells_versions_apart() -> None:
    manifest = {**MANIFEST, "metadata": {"name": "web", "uid": "my-uid"}}
    meta = make(manifest).pod.metadata
    assert meta.uid == "my-uid"
    assert meta.annotations["kubernetes.io/config.hash"] != "my-uid"


def test_what_a_cluster_says_is_not_taken_from_a_file() -> None:
    metadata = {**MANIFEST["metadata"], "deletionTimestamp": "2020-01-01T00:00:00Z"}
    manifest = {**MANIFEST, "metadata": metadata, "status": {"phase": "Succeeded"}}
    pod = make(manifest).pod
    assert pod.metadata.deletion_timestamp is None
    assert pod.status.phase == "Pending"


def test_hints() -> None:
    spec = {**MANIFEST["spec"], "priority": 7}
    assert make({**MANIFEST, "spec": spec}).hints == ("spec.priority",)
    assert make(MANIFEST).hints == ()


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ({"containers": [{"nmae": "x"}]}, ["spec.containers[0].nmae"]),
        ({"containers": [{"name": "X"}]}, ["spec.containers[0].name", "spec.containers[0].image"]),
        ({"containers": [{"name": "x", "image": "y"}], "serviceAccountName": "robot"},
         ["spec.serviceAccountName"]),
    ],
)  # fmt: skip
def test_bad_fields_are_named(spec: dict[str, Any], paths: list[str]) -> None:
    with pytest.raises(ManifestError) as caught:
        make({**MANIFEST, "spec": spec})
    assert [error.path for error in caught.value.fields] == paths
    assert all(path in str(caught.value) for path in paths)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no document"),
        (b"[]", "expected `object`"),
        (b'{"metadata": {"name": "\\ud800"}}', "surrogate"),
        (b'{"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 3}}', "replicas"),
        (b'{"apiVersion": "v1", "kind": "List"}', "kind: Unsupported value"),
    ],
)
def test_no_pod(data: bytes, reason: str) -> None:
    with pytest.raises(ManifestError, match=reason):
        static_pod(data, file="f", node_name="n", seen=SEEN)
