"""Which claims of a StatefulSet are deleted with what: the owners that they have (pure).

Source: KEP-1847. A claim that goes with the set is owned by it; one that goes with a pod whose
ordinal is beyond the scale is owned by that pod. The garbage collector does the rest.
"""

from __future__ import annotations

from typing import Any, Final

from controlplane.engine.ownership import reference_to
from controlplane.engine.resources import PODS, STATEFUL_SETS, Object, Resource

from .identity import ordinal_of, ordinals_of

_DELETE: Final = "Delete"
Reference = dict[str, Any]


def policy_of(owner: Object) -> tuple[bool, bool]:
    """Return whether claims are deleted with the set, and with pods that are scaled away."""
    policy = owner["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return policy.get("whenDeleted") == _DELETE, policy.get("whenScaled") == _DELETE


def owners_are_right(claim: Object, owner: Object, pod: Object) -> bool:
    """Whether the owners of a claim are as the policy wants, or not ours to change.

    Args:
        claim: of the pod.
        owner: the set.
        pod: that uses the claim.
    """
    if _is_of_former(claim, owner, STATEFUL_SETS) or _is_of_former(claim, pod, PODS):
        # What came before, of the same name, manages it still; the garbage collector will see.
        return True
    with_set, with_pod = _is_owned(claim, owner), _is_owned(claim, pod)
    if has_other_controller(claim, owner, pod):
        return not (with_set or with_pod)
    if any(
        one["uid"] in (owner["metadata"]["uid"], pod["metadata"].get("uid"))
        and not one.get("controller")
        for one in _owners(claim)
    ):
        return False
    return (with_set, with_pod) == _wanted(owner, pod)


def with_right_owners(claim: Object, owner: Object, pod: Object) -> list[Reference]:
    """Return the owner references that a claim shall have."""
    rest = [
        one for one in _owners(claim)
        if not (_names(one, owner, STATEFUL_SETS) or _names(one, pod, PODS))
    ]  # fmt: skip
    if has_other_controller(claim, owner, pod):
        return rest
    with_set, with_pod = _wanted(owner, pod)
    if with_pod:
        rest.append(reference_to(pod, PODS))
    if with_set:
        rest.append(reference_to(owner, STATEFUL_SETS))
    return rest


def has_other_controller(claim: Object, owner: Object, pod: Object) -> bool:
    """Whether something else controls a claim for which the set has a policy."""
    if not any(policy_of(owner)):
        return False
    for one in _owners(claim):
        for value, resource in ((owner, STATEFUL_SETS), (pod, PODS)):
            if _names(one, value, resource):
                if one["uid"] != value["metadata"].get("uid"):
                    return True
                break
        else:
            if one.get("controller"):
                return True
    return False


def is_stale(claim: Object, owner: Object, pod: Object) -> bool:
    """Whether a claim goes with an earlier pod of this name: the new one must not begin with it."""
    return policy_of(owner)[1] and _is_of_former(claim, pod, PODS)


def _wanted(owner: Object, pod: Object) -> tuple[bool, bool]:
    """Return whether set and pod shall own a claim."""
    when_deleted, when_scaled = policy_of(owner)
    scaled_away = when_scaled and ordinal_of(pod) not in ordinals_of(owner)
    return when_deleted and not scaled_away, scaled_away


def _owners(claim: Object) -> list[Reference]:
    found: list[Reference] = claim["metadata"].get("ownerReferences") or []
    return found


def _names(one: Reference, value: Object, resource: Resource) -> bool:
    return (one["apiVersion"], one["kind"], one["name"]) == (
        resource.group_version, resource.kind, value["metadata"]["name"],
    )  # fmt: skip


def _is_owned(claim: Object, value: Object) -> bool:
    return any(one["uid"] == value["metadata"].get("uid") for one in _owners(claim))


def _is_of_former(claim: Object, value: Object, resource: Resource) -> bool:
    for one in _owners(claim):
        if _names(one, value, resource):
            return bool(one["uid"] != value["metadata"].get("uid"))
    return False
