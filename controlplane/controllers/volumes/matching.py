"""Which volume fits a claim (pure).

Source: Kubernetes documentation, "Persistent Volumes", "Binding"; the helpers that the controllers
and the scheduler of Kubernetes 1.36 share (``component-helpers/storage/volume``).
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from controlplane.api.selectors import from_object
from controlplane.engine.resources import Object, is_deleting
from controlplane.kinds.quantity import QuantityError, parse

BIND_COMPLETED: Final = "pv.kubernetes.io/bind-completed"
"""On claims: they were bound once."""
BOUND_BY_CONTROLLER: Final = "pv.kubernetes.io/bound-by-controller"
"""On claims and volumes: not a person has named the other one."""
SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
"""On claims: the scheduler wants a volume that this node can use."""
PROVISIONED_BY: Final = "pv.kubernetes.io/provisioned-by"
PROVISIONER: Final = "volume.kubernetes.io/storage-provisioner"
BETA_PROVISIONER: Final = "volume.beta.kubernetes.io/storage-provisioner"
CLASS: Final = "volume.beta.kubernetes.io/storage-class"
"""Named the class before there was a field for it, and is still read."""
DEFAULT_CLASSES: Final = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
WAIT: Final = "WaitForFirstConsumer"


def annotations_of(value: Object) -> dict[str, str]:
    """Return the annotations of an object."""
    found: dict[str, str] = value["metadata"].get("annotations") or {}
    return found


def class_of(value: Object) -> str:
    """Return the storage class of a volume or a claim; "": none."""
    annotation = annotations_of(value).get(CLASS)
    return annotation if annotation is not None else value["spec"].get("storageClassName") or ""


def names_class(claim: Object) -> bool:
    """Whether a claim says which class it wants, be it none at all."""
    return CLASS in annotations_of(claim) or claim["spec"].get("storageClassName") is not None


def default_class(classes: Iterable[Object]) -> Object | None:
    """Return the class of claims that name none: the newest one that is marked so."""
    marked = [
        one for one in classes
        if any(annotations_of(one).get(name) == "true" for name in DEFAULT_CLASSES)
    ]  # fmt: skip
    marked.sort(key=lambda one: str(one["metadata"]["name"]))
    newest = max((str(one["metadata"]["creationTimestamp"]) for one in marked), default="")
    return next((one for one in marked if one["metadata"]["creationTimestamp"] == newest), None)


def claim_key(volume: Object) -> str:
    """Return the key of the claim that a volume is for; "": it is for nobody."""
    reference = volume["spec"].get("claimRef")
    return f"{reference.get('namespace', '')}/{reference.get('name', '')}" if reference else ""


def is_for(volume: Object, claim: Object) -> bool:
    """Whether a volume is bound to, or reserved for, this claim and no other of its name."""
    reference = volume["spec"].get("claimRef")
    meta = claim["metadata"]
    if not reference or claim_key(volume) != f"{meta['namespace']}/{meta['name']}":
        return False
    return reference.get("uid", "") in ("", meta["uid"])


def is_free(volume: Object) -> bool:
    """Whether a volume may be given to any claim that it fits."""
    available = (volume.get("status") or {}).get("phase") == "Available"
    return available and not volume["spec"].get("claimRef") and not is_deleting(volume)


def size_of(volume: Object) -> Decimal:
    """Return the bytes that a volume has."""
    return _bytes((volume["spec"].get("capacity") or {}).get("storage"))


def wanted_size(claim: Object) -> Decimal:
    """Return the bytes that a claim asks for."""
    return _bytes(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage"))


def _bytes(text: Any) -> Decimal:
    try:
        return parse(str(text or "0"))
    except QuantityError:
        return Decimal(0)


def differs_in_mode(volume: Object, claim: Object) -> bool:
    """Whether one has files and the other one blocks."""
    modes = {one["spec"].get("volumeMode") or "Filesystem" for one in (volume, claim)}
    return len(modes) > 1


def _offers_modes(volume: Object, claim: Object) -> bool:
    offered = set(volume["spec"].get("accessModes") or ())
    return offered.issuperset(claim["spec"].get("accessModes") or ())


def _attributes(value: Object) -> str:
    return value["spec"].get("volumeAttributesClassName") or ""


def misfit(volume: Object, claim: Object) -> str:
    """Return why a volume that a claim names cannot be its volume; "": it can."""
    if is_deleting(volume):
        return f'the volume is marked for deletion "{volume["metadata"]["name"]}"'
    if size_of(volume) < wanted_size(claim):
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if _attributes(volume) != _attributes(claim):
        return "volumeAttributesClassName does not match"
    if differs_in_mode(volume, claim):
        return "incompatible volumeMode"
    return "" if _offers_modes(volume, claim) else "incompatible accessMode"


def best_volume(claim: Object, reserved: Iterable[Object], free: Iterable[Object]) -> Object | None:
    """Return the volume for a claim that names none: one reserved for it, or the closest fit.

    Closest is the one with the fewest access modes, then the smallest.

    Args:
        claim: of the user.
        reserved: volumes for a claim of this name.
        free: volumes for nobody, of the claim's class.
    """
    for volume in sorted(reserved, key=_closeness):
        if is_for(volume, claim) and _could_be(volume, claim) and not is_deleting(volume):
            return volume
    selector = claim["spec"].get("selector")
    matches = from_object(selector) if selector is not None else None
    fitting = [
        volume for volume in free
        if is_free(volume) and _could_be(volume, claim)
        and (matches is None or matches.matches(volume["metadata"].get("labels") or {}))
    ]  # fmt: skip
    return min(fitting, key=_closeness, default=None)


def _could_be(volume: Object, claim: Object) -> bool:
    return (
        size_of(volume) >= wanted_size(claim)
        and not differs_in_mode(volume, claim)
        and _attributes(volume) == _attributes(claim)
        and _offers_modes(volume, claim)
    )


def _closeness(volume: Object) -> tuple[int, Decimal, str]:
    modes = volume["spec"].get("accessModes") or ()
    return len(modes), size_of(volume), str(volume["metadata"]["name"])
