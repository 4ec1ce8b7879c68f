"""Who asks, and what is wanted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from multidict import CIMultiDict

from controlplane.api.selectors import parse_labels
from controlplane.metrics_server.access import (
    Action,
    Trust,
    User,
    access_spec,
    is_issued,
    user_of_headers,
)
from controlplane.metrics_server.registration import is_part
from controlplane.metrics_server.serving import action_of, object_of

DATA = {
    "client-ca-file": "A", "requestheader-client-ca-file": "B",
    "requestheader-allowed-names": json.dumps(["front-proxy-client"]),
    "requestheader-username-headers": json.dumps(["X-Remote-User"]),
    "requestheader-uid-headers": json.dumps(["X-Remote-Uid"]),
    "requestheader-group-headers": json.dumps(["X-Remote-Group"]),
    "requestheader-extra-headers-prefix": json.dumps(["X-Remote-Extra-"]),
}  # fmt: skip


def test_the_configmap_says_whose_word_is_taken() -> None:
    trust = Trust.of({"data": DATA})
    assert (trust.clients, trust.proxies, trust.names) == ("A", "B", ("front-proxy-client",))
    headers = CIMultiDict([
        ("x-remote-user", "me"), ("X-Remote-Uid", "1"), ("X-Remote-Group", "a"),
        ("X-Remote-Group", "b"), ("X-Remote-Extra-Example.com%2Fscope", "x"),
        ("X-Remote-Extra-example.com%2fscope", "y"),
    ])  # fmt: skip
    wanted = User("me", "1", ("a", "b"), (("example.com/scope", ("x", "y")),))
    assert user_of_headers(headers, trust) == wanted
    assert user_of_headers(CIMultiDict(), trust) is None


@pytest.mark.parametrize("value", [None, {}, {"data": {"requestheader-allowed-names": "{"}}])
def test_without_it_nobody_is(value: Any) -> None:
    trust = Trust.of(value)
    assert (trust.clients, trust.proxies) == ("", "")
    assert not is_issued(b"x", trust.proxies)


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("GET", "/apis/metrics.k8s.io/v1beta1/nodes",
         Action("list", "", "metrics.k8s.io", "v1beta1", "nodes")),
        ("GET", "/apis/metrics.k8s.io/v1beta1/namespaces/n/pods/p",
         Action("get", "", "metrics.k8s.io", "v1beta1", "pods", "", "n", "p")),
        ("GET", "/apis/custom.metrics.k8s.io/v1beta2/namespaces/n/pods/*/rps",
         Action("get", "", "custom.metrics.k8s.io", "v1beta2", "pods", "rps", "n", "*")),
        ("GET", "/apis/external.metrics.k8s.io/v1beta1/namespaces/n/queue",
         Action("list", "", "external.metrics.k8s.io", "v1beta1", "queue", "", "n")),
        ("DELETE", "/apis/metrics.k8s.io/v1beta1/nodes/x",
         Action("delete", "", "metrics.k8s.io", "v1beta1", "nodes", "", "", "x")),
        ("GET", "/apis/metrics.k8s.io/v1beta1", Action("get", "/apis/metrics.k8s.io/v1beta1")),
        ("GET", "/", Action("get", "/")),
    ],
)  # fmt: skip
def test_what_is_wanted(method: str, path: str, wanted: Action) -> None:
    assert action_of(method, path, [part for part in path.split("/") if part]) == wanted


def test_a_review_says_all_of_it() -> None:
    user = User("me", "1", ("a",), (("k", ("v",)),))
    spec = access_spec(user, Action("list", "", "g", "v1", "pods", "", "n"))
    assert spec == {"user": "me", "uid": "1", "groups": ["a"], "extra": {"k": ["v"]},
                    "resourceAttributes": {"verb": "list", "group": "g", "version": "v1",
                                           "resource": "pods", "namespace": "n"}}  # fmt: skip
    spec = access_spec(User("me"), Action("get", "/apis"))
    assert spec["nonResourceAttributes"] == {"path": "/apis", "verb": "get"}


def test_a_selector_is_told_back() -> None:
    assert object_of(parse_labels("a=b,c in (d,e),!f")) == {
        "matchLabels": {"a": "b"},
        "matchExpressions": [{"key": "c", "operator": "In", "values": ["d", "e"]},
                             {"key": "f", "operator": "DoesNotExist"}]}  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "known", "same"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": [{"x": 1}]}, {"a": [{"x": 1, "y": 2}]}, True),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"a": False}, {}, True),
        ({"a": {"b": 1}}, {}, False),
    ],
)
def test_what_is_there_already(wanted: Any, known: Any, same: bool) -> None:
    assert is_part(wanted, known) is same
