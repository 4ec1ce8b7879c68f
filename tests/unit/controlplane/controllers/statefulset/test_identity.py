"""Names, labels, volumes and claims of the pods of a StatefulSet."""

from __future__ import annotations

import copy

import pytest

from controlplane.controllers.statefulset import identity
from controlplane.engine.resources import Object

SET: Object = {
    "metadata": {"name": "web", "namespace": "prod", "uid": "u"},
    "spec": {
        "serviceName": "nginx",
        "selector": {"matchLabels": {"app": "web"}},
        "template": {},
        "volumeClaimTemplates": [
            {"metadata": {"name": "data", "labels": {"tier": "x", "app": "y"}},
             "spec": {"accessModes": ["ReadWriteOnce"]}, "status": {"phase": "Pending"}},
        ],
    },
}  # fmt: skip
TEMPLATE: Object = {
    "metadata": {"labels": {"app": "web"}, "annotations": {"a": "b"}, "finalizers": ["x/y"]},
    "spec": {
        "hostname": "mine", "containers": [{"name": "c"}],
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
    },
}  # fmt: skip


def test_a_pod_says_who_it_is() -> None:
    before = copy.deepcopy(TEMPLATE)
    pod = identity.new_pod(SET, TEMPLATE, "web-5d8", 12)
    assert before == TEMPLATE
    assert pod["metadata"] == {
        "namespace": "prod", "name": "web-12", "generateName": "web-",
        "labels": {
            "app": "web", "statefulset.kubernetes.io/pod-name": "web-12",
            "apps.kubernetes.io/pod-index": "12", "controller-revision-hash": "web-5d8",
        },
        "annotations": {"a": "b"}, "finalizers": ["x/y"],
        "ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "u",
            "controller": True, "blockOwnerDeletion": True,
        }],
    }  # fmt: skip
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("web-12", "nginx")
    assert pod["spec"]["volumes"] == [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-12"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    assert identity.identity_fits(SET, pod)
    assert identity.storage_fits(SET, pod)
    assert identity.put_right(SET, pod) is None


def test_claims_are_made_of_templates() -> None:
    [claim] = identity.claims_of(SET, 3)
    assert claim == {
        "metadata": {"name": "data-web-3", "namespace": "prod",
                     "labels": {"tier": "x", "app": "web"}},
        "spec": {"accessModes": ["ReadWriteOnce"]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "member", "ordinal"),
    [
        ("web-0", True, 0), ("web-10", True, 10), ("web-01", False, 1), ("web", False, -1),
        ("web-", False, -1), ("other-1", False, 1), ("a-web-1", False, 1), ("web-x", False, -1),
        ("web-1-2", False, 2), ("web-4294967296", False, -1), ("web-٣", False, -1),
    ],
)  # fmt: skip
def test_which_names_belong_to_a_set(name: str, member: bool, ordinal: int) -> None:
    pod = {"metadata": {"name": name}}
    assert identity.ordinal_of(pod) == ordinal
    assert identity.is_member(SET, pod) is member


def test_what_does_not_fit_is_put_right() -> None:
    pod = identity.new_pod(SET, TEMPLATE, "r", 1)
    pod["metadata"]["labels"] = {"app": "web"}
    pod["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}]
    assert not identity.identity_fits(SET, pod)
    assert not identity.storage_fits(SET, pod)
    assert identity.put_right(SET, pod) is pod
    assert identity.put_right(SET, pod) is None
