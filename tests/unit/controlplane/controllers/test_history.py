"""Revisions: their data, names and order."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.controllers import history
from controlplane.controllers.backoff import Backoff
from controlplane.engine.resources import Object

OWNER: Object = {"spec": {"template": {
    "metadata": {"labels": {"b": "<2>", "a": "1"}, "creationTimestamp": None},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}}}  # fmt: skip


def test_data_are_a_patch_in_the_order_of_go() -> None:
    data = history.data_of(OWNER)
    assert history.encoded(data) == (
        b'{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"a":"1",'
        b'"b":"\\u003c2\\u003e"}},"spec":{"containers":[{"image":"i","name":"c"}]}}}}'
    )
    assert list(data["spec"]["template"]) == ["$patch", "metadata", "spec"]
    assert history.template_of({"data": data}) == {
        "metadata": {"labels": {"a": "1", "b": "<2>"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }


@pytest.mark.parametrize(("value", "digest"), [("plain", "76fb6b64c6"), ("<a>&", "8547c57648")])
def test_hashes_are_those_of_go(value: str, digest: str) -> None:
    """Names that kube-controller-manager 1.36 gave the first revision of such a StatefulSet."""
    container = {
        "name": "main", "image": "example.test/app:1", "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "X", "value": value}], "resources": {},
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
    }  # fmt: skip
    spec = {
        "containers": [container], "nodeName": "a", "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always", "schedulerName": "default-scheduler", "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    }  # fmt: skip
    template = {"metadata": {"labels": {"app": "web"}, "creationTimestamp": None}, "spec": spec}
    assert history.hash_of(history.data_of({"spec": {"template": template}}), 0) == digest


def test_hashes_differ_by_data_and_collisions() -> None:
    data = history.data_of(OWNER)
    other = {"spec": {"template": {"$patch": "replace"}}}
    found = {history.hash_of(one, number) for one in (data, other) for number in range(3)}
    assert len(found) == 6
    assert all(set(one) <= set("bcdfghjklmnpqrstvwxz2456789") for one in found)


def test_same_content_is_the_same_whatever_is_null() -> None:
    data = history.data_of(OWNER)
    older = {"spec": {"template": {**OWNER["spec"]["template"], "$patch": "replace"}}}
    assert data != older
    assert history.is_same(data, older)
    assert not history.is_same(data, {"spec": {"template": {"$patch": "replace"}}})


def _revision(name: str, number: int, created: str = "") -> Object:
    return {"metadata": {"name": name, "creationTimestamp": created}, "revision": number}


def test_order_is_by_number_then_age_then_name() -> None:
    made = [_revision("c", 2), _revision("b", 1, "t2"), _revision("a", 1, "t2"),
            _revision("z", 1, "t1")]  # fmt: skip
    assert [one["metadata"]["name"] for one in history.ordered(made)] == ["z", "a", "b", "c"]


@pytest.mark.parametrize(("limit", "gone"), [(0, "ac"), (1, "a"), (2, ""), (-1, "")])
def test_history_beyond_the_limit_goes(limit: int, gone: str) -> None:
    made = [_revision(name, number) for number, name in enumerate("abcd")]
    live = {"b", "d"}
    found = history.beyond(made, lambda one: one["metadata"]["name"] in live, limit)
    assert "".join(one["metadata"]["name"] for one in found) == gone


def test_pauses_grow_and_are_forgotten() -> None:
    pauses = Backoff(1.0, 4.0)
    seen: list[Any] = []
    now = 0.0
    for _ in range(4):
        assert pauses.wait("a", now) == 0.0
        pauses.attempt("a", now)
        seen.append(pauses.wait("a", now))
        now += seen[-1]
    assert seen == [1.0, 2.0, 4.0, 4.0]
    assert pauses.wait("b", now) == 0.0
    pauses.attempt("a", now)
    assert pauses.wait("a", now + 1.0) == 3.0
    assert pauses.wait("a", now + 9.0) == 0.0
    pauses.attempt("a", now + 9.0)
    assert pauses.wait("a", now + 9.0) == 1.0
