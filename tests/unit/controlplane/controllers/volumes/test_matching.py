"""Which volume a claim gets."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.controllers.volumes.binder import claim_status
from controlplane.controllers.volumes.matching import best_volume, default_class, misfit

Object = dict[str, Any]


def volume(name: str, size: str = "1Gi", **more: Any) -> Object:
    meta = {"name": name, "labels": more.pop("labels", {}),
            "annotations": more.pop("annotations", {})}  # fmt: skip
    if more.pop("deleting", False):
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    phase = more.pop("phase", "Available")
    spec = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], **more}
    return {"metadata": meta, "spec": spec, "status": {"phase": phase}}


def claim(size: str = "1Gi", **more: Any) -> Object:
    spec = {"resources": {"requests": {"storage": size}}, "accessModes": ["ReadWriteOnce"], **more}
    return {"metadata": {"namespace": "a", "name": "data", "uid": "1"}, "spec": spec}


def ref(uid: str = "", name: str = "data", namespace: str = "a") -> Object:
    return {"claimRef": {"namespace": namespace, "name": name, **({"uid": uid} if uid else {})}}


MORE = ["ReadWriteOnce", "ReadOnlyMany"]


@pytest.mark.parametrize(
    ("wanted", "volumes", "expected"),
    [
        (claim("1Gi"), [volume("a", "5Gi"), volume("b", "2Gi"), volume("c", "3Gi")], "b"),
        (claim("1Gi"), [volume("a", "999Mi")], None),
        (claim("1Gi"), [volume("a", "1073741824")], "a"),
        (claim(), [volume("a", accessModes=MORE), volume("b", "9Gi")], "b"),
        (claim(accessModes=MORE), [volume("a"), volume("b", accessModes=MORE)], "b"),
        (claim(), [volume("a", volumeMode="Block")], None),
        (claim(volumeMode="Block"), [volume("a"), volume("b", volumeMode="Block")], "b"),
        (claim(), [volume("a", phase="Released")], None),
        (claim(), [volume("a", phase="Pending"), volume("b", "2Gi")], "b"),
        (claim(), [volume("a", deleting=True)], None),
        (claim(), [volume("a", **ref(name="other"))], None),
        (claim(), [volume("a", **ref(namespace="b"))], None),
        (claim(), [volume("a", **ref(uid="2"))], None),
        (claim(), [volume("a"), volume("b", "9Gi", **ref())], "b"),
        (claim(), [volume("a"), volume("b", "9Gi", phase="Bound", **ref(uid="1"))], "b"),
        (claim(), [volume("a", "1Mi", **ref()), volume("b")], "b"),
        (claim(), [volume("a", deleting=True, **ref()), volume("b")], "b"),
        (claim(selector={"matchLabels": {"disk": "fast"}}),
         [volume("a"), volume("b", "3Gi", labels={"disk": "fast"})], "b"),
        (claim(selector={}), [volume("a")], "a"),
        (claim(volumeAttributesClassName="gold"), [volume("a")], None),
    ],
)  # fmt: skip
def test_the_volume_of_a_claim(wanted: Object, volumes: list[Object], expected: str | None) -> None:
    reserved = [one for one in volumes if "claimRef" in one["spec"]]
    free = [one for one in volumes if "claimRef" not in one["spec"]]
    found = best_volume(wanted, reserved, free)
    assert (found["metadata"]["name"] if found else None) == expected


@pytest.mark.parametrize(
    ("one", "wanted", "why"),
    [
        (volume("a"), claim(), ""),
        (volume("a", deleting=True), claim(), 'the volume is marked for deletion "a"'),
        (volume("a", "1Mi"), claim(), "requested PV is too small"),
        (volume("a", storageClassName="x"), claim(), "storageClassName does not match"),
        (volume("a", annotations={"volume.beta.kubernetes.io/storage-class": "x"}),
         claim(storageClassName="x"), ""),
        (volume("a"), claim(volumeAttributesClassName="x"),
         "volumeAttributesClassName does not match"),
        (volume("a"), claim(volumeMode="Block"), "incompatible volumeMode"),
        (volume("a"), claim(accessModes=["ReadWriteMany"]), "incompatible accessMode"),
    ],
)  # fmt: skip
def test_why_a_volume_does_not_fit(one: Object, wanted: Object, why: str) -> None:
    assert misfit(one, wanted) == why


def test_the_newest_default_class_counts() -> None:
    def made(name: str, when: str, mark: str = "true") -> Object:
        marks = {"storageclass.kubernetes.io/is-default-class": mark}
        return {"metadata": {"name": name, "creationTimestamp": when, "annotations": marks}}

    classes = [made("b", "2026-01-02"), made("a", "2026-01-02"), made("old", "2026-01-01"),
               made("c", "2026-01-03", "false")]  # fmt: skip
    found = default_class(classes)
    assert found is not None
    assert found["metadata"]["name"] == "a"
    assert default_class(classes[3:]) is None


def test_the_status_of_a_claim_tells_its_volume_and_no_capacity_twice() -> None:
    one, other = volume("a", "2Gi"), claim()
    changes = claim_status(other, "Bound", one)
    assert changes["phase"] == "Bound"
    assert changes["capacity"] == {"storage": "2Gi"}
    assert changes["accessModes"] == ["ReadWriteOnce"]
    bound = {**other, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"},
                                 "accessModes": ["ReadWriteOnce"]}}  # fmt: skip
    assert claim_status(bound, "Bound", one) == {}
    assert claim_status(bound, "Lost", None) == {
        "phase": "Lost", "accessModes": None, "capacity": None,
    }  # fmt: skip
