"""Objects of newer API servers."""

from __future__ import annotations

import pytest

from kubeletpy.api.codec import DecodeError, decode
from kubeletpy.api.lenient import decode_lenient
from kubeletpy.api.pod import Pod

PLAIN = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "labels": {"a": "b"}},
    "spec": {
        "containers": [
            {"name": "a", "image": "i", "resources": {"limits": {"cpu": "1"}}},
            {"name": "b", "image": "i", "readinessProbe": {"httpGet": {"port": "web"}}},
        ]
    },
    "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
}
NEWER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "labels": {"a": "b"}, "shard": 3},
    "novelty": {"a": [1]},
    "spec": {
        "fresh": True,
        "containers": [
            {"name": "a", "image": "i", "resources": {"limits": {"cpu": "1"}, "weights": []}},
            {
                "name": "b",
                "image": "i",
                "readinessProbe": {"httpGet": {"port": "web", "version": 3}, "udp": {}},
            },
        ],
    },
    "status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "weight": 1.5}],
        "story": "long",
    },
}


def test_what_a_newer_server_knows_is_left_out() -> None:
    assert decode_lenient(NEWER, Pod) == decode(PLAIN, Pod) == decode_lenient(PLAIN, Pod)


def test_manifests_stay_strict() -> None:
    with pytest.raises(DecodeError, match="unknown field"):
        decode(NEWER, Pod)


def test_a_wrong_type_is_an_error_all_the_same() -> None:
    document = {**NEWER, "spec": {"containers": [{"name": 3}], "fresh": 1}}
    with pytest.raises(DecodeError) as caught:
        decode_lenient(document, Pod)
    assert caught.value.path == "spec.containers[0].name"
