from __future__ import annotations

import copy
from typing import Any

from controlplane.controllers.endpointslicemirroring.controller import is_mirrored
from controlplane.controllers.endpointslicemirroring.plan import Plan, plan

HTTP = {"name": "http", "port": 80, "protocol": "TCP"}


def endpoints(*subsets: dict[str, Any], **meta: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"namespace": "default", "name": "db", "uid": "e1", **meta},
        "subsets": list(subsets),
    }  # fmt: skip


def subset(*ready: str, waiting: tuple[str, ...] = (), port: int = 80) -> dict[str, Any]:
    return {
        "addresses": [{"ip": one} for one in ready],
        "notReadyAddresses": [{"ip": one} for one in waiting],
        "ports": [{**HTTP, "port": port}],
    }


def done(made: Plan, existing: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = {one["metadata"]["name"]: one for one in existing}
    for one in made.changes.delete:
        del names[one["metadata"]["name"]]
    for one in made.changes.update:
        names[one["metadata"]["name"]] = one
    for number, one in enumerate(made.changes.create):
        name = f"db-{len(names)}{number}"
        names[name] = {**one, "metadata": {**one["metadata"], "name": name, "uid": name}}
    return list(names.values())


def counts(made: Plan) -> tuple[int, int, int]:
    changes = made.changes
    return len(changes.create), len(changes.update), len(changes.delete)


def test_a_subset_is_a_slice_for_each_family() -> None:
    given = endpoints(
        subset("1.1.1.1", "fd00::1", waiting=("1.1.1.2",)),
        labels={"tier": "db"},
        annotations={"note": "x", "endpoints.kubernetes.io/last-change-trigger-time": "t",
                     "kubectl.kubernetes.io/last-applied-configuration": "{}"},
    )  # fmt: skip
    made = plan(given, [])
    four, six = made.changes.create
    assert four == {
        "metadata": {
            "namespace": "default", "generateName": "db-",
            "labels": {
                "tier": "db", "kubernetes.io/service-name": "db",
                "endpointslice.kubernetes.io/managed-by":
                    "endpointslicemirroring-controller.k8s.io",
            },
            "annotations": {"note": "x"},
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Endpoints", "name": "db", "uid": "e1",
                "controller": True, "blockOwnerDeletion": True,
            }],
        },
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": ["1.1.1.1"], "conditions": {"ready": True}},
            {"addresses": ["1.1.1.2"], "conditions": {"ready": False}},
        ],
        "ports": [HTTP],
    }  # fmt: skip
    assert six["addressType"] == "IPv6"
    assert [one["addresses"] for one in six["endpoints"]] == [["fd00::1"]]


def test_what_is_right_is_left_alone_and_each_change_is_one_write() -> None:
    given = endpoints(subset("1.1.1.1", "1.1.1.2"), labels={"a": "b"}, annotations={"c": "d"})
    slices = done(plan(given, []), [])
    assert counts(plan(given, slices)) == (0, 0, 0)
    before = copy.deepcopy(slices)
    changed = [
        endpoints(subset("1.1.1.1"), labels={"a": "b"}, annotations={"c": "d"}),
        endpoints(subset("1.1.1.1", waiting=("1.1.1.2",)), labels={"a": "b"},
                  annotations={"c": "d"}),
        endpoints(subset("1.1.1.1", "1.1.1.2"), annotations={"c": "d"}),
        endpoints(subset("1.1.1.1", "1.1.1.2"), labels={"a": "b"}),
        endpoints(subset("1.1.1.1", "1.1.1.2"), labels={"a": "b"}, annotations={"c": "d"},
                  uid="e2"),
        # Another port is another slice, made of the old one.
        endpoints(subset("1.1.1.1", "1.1.1.2", port=81), labels={"a": "b"}, annotations={"c": "d"}),
    ]  # fmt: skip
    for one in changed:
        made = plan(one, slices)
        assert counts(made) == (0, 1, 0)
        assert slices == before
        assert counts(plan(one, done(made, slices))) == (0, 0, 0)
    assert counts(plan(endpoints(), slices)) == (0, 0, 1)


def test_what_is_no_address_and_what_is_too_much_is_counted() -> None:
    made = plan(endpoints(subset("1.1.1.1", "nonsense", "1.1.1.3", "1.1.1.4")), [], limit=2)
    assert (made.invalid, made.skipped) == (0, 2)
    made = plan(endpoints(subset("1.1.1.1", "nonsense", "1.1.1.0")), [])
    assert (made.invalid, made.skipped) == (1, 1)
    assert len(made.changes.create[0]["endpoints"]) == 2


def test_which_endpoints_are_mirrored() -> None:
    assert is_mirrored(endpoints())
    assert not is_mirrored(endpoints(labels={"endpointslice.kubernetes.io/skip-mirror": "true"}))
    leader = {"control-plane.alpha.kubernetes.io/leader": "{}"}
    assert not is_mirrored(endpoints(annotations=leader))
