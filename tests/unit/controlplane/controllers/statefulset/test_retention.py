"""Who owns the claims of a StatefulSet, by its policy."""

from __future__ import annotations

import pytest

from controlplane.controllers.statefulset.retention import (
    has_other_controller,
    is_stale,
    owners_are_right,
    with_right_owners,
)
from controlplane.engine.resources import Object


def owner(when_deleted: str, when_scaled: str) -> Object:
    policy = {"whenDeleted": when_deleted, "whenScaled": when_scaled}
    return {"metadata": {"name": "web", "uid": "set"},
            "spec": {"replicas": 1, "persistentVolumeClaimRetentionPolicy": policy}}  # fmt: skip


def pod(ordinal: int) -> Object:
    return {"metadata": {"name": f"web-{ordinal}", "uid": "pod"}}


def reference(kind: str, name: str, uid: str, controller: bool = True) -> Object:
    group = {"Pod": "v1", "StatefulSet": "apps/v1"}.get(kind, "example.test/v1")
    made = {"apiVersion": group, "kind": kind, "name": name, "uid": uid,
            "blockOwnerDeletion": True}  # fmt: skip
    return {**made, "controller": True} if controller else made


def claim(*owners: Object) -> Object:
    return {"metadata": {"name": "data-web-0", "ownerReferences": list(owners)}}


def short(references: list[Object]) -> str:
    return " ".join(f"{one['kind']}/{one['uid']}" for one in references)


SET = reference("StatefulSet", "web", "set")
POLICIES = [("Retain", "Retain"), ("Delete", "Retain"), ("Retain", "Delete"), ("Delete", "Delete")]
WANTED = {
    (("Retain", "Retain"), 0): "", (("Retain", "Retain"), 1): "",
    (("Delete", "Retain"), 0): "StatefulSet/set", (("Delete", "Retain"), 1): "StatefulSet/set",
    (("Retain", "Delete"), 0): "", (("Retain", "Delete"), 1): "Pod/pod",
    (("Delete", "Delete"), 0): "StatefulSet/set", (("Delete", "Delete"), 1): "Pod/pod",
}  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("ordinal", [0, 1])
@pytest.mark.parametrize("before", ["", "set", "pod", "both", "weak"])
def test_owners_by_policy(policy: tuple[str, str], ordinal: int, before: str) -> None:
    """Whatever they are, the owners become what the policy wants; the pod of 1 is scaled away."""
    one, of_pod = owner(*policy), reference("Pod", f"web-{ordinal}", "pod")
    weak = reference("StatefulSet", "web", "set", controller=False)
    there = {"": [], "set": [SET], "pod": [of_pod], "both": [SET, of_pod], "weak": [weak]}[before]
    found = claim(*there)
    wanted = WANTED[policy, ordinal]
    right = with_right_owners(found, one, pod(ordinal))
    assert short(right) == wanted
    assert all(each["controller"] for each in right)
    is_right = before != "weak" and sorted(short(there).split()) == sorted(wanted.split())
    assert owners_are_right(found, one, pod(ordinal)) is is_right
    assert owners_are_right(claim(*right), one, pod(ordinal))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("former", [
    reference("StatefulSet", "web", "former"), reference("Pod", "web-0", "former"),
])  # fmt: skip
def test_what_is_of_a_former_set_or_pod_is_not_touched(
    policy: tuple[str, str], former: Object
) -> None:
    assert owners_are_right(claim(former), owner(*policy), pod(0))


def test_another_controller_keeps_its_claim() -> None:
    other = reference("Backup", "b", "x")
    policy = owner("Delete", "Delete")
    assert has_other_controller(claim(other), policy, pod(0))
    assert owners_are_right(claim(other), policy, pod(0))
    assert not owners_are_right(claim(other, SET), policy, pod(0))
    assert with_right_owners(claim(other, SET), policy, pod(0)) == [other]
    assert not has_other_controller(claim(other), owner("Retain", "Retain"), pod(0))
    assert not has_other_controller(claim({**other, "controller": False}), policy, pod(0))


@pytest.mark.parametrize(("policy", "uid", "stale"), [
    (("Retain", "Delete"), "former", True), (("Retain", "Delete"), "pod", False),
    (("Delete", "Retain"), "former", False),
])  # fmt: skip
def test_a_claim_that_goes_with_a_former_pod_is_stale(
    policy: tuple[str, str], uid: str, stale: bool
) -> None:
    assert is_stale(claim(reference("Pod", "web-0", uid)), owner(*policy), pod(0)) is stale
