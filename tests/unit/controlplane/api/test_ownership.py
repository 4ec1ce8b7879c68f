from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.api.errors import ApiError
from controlplane.api.fieldsets import FieldSets, decode, dotted, encode
from controlplane.api.ownership import (
    APPLY,
    UPDATE,
    Manager,
    Ownership,
    read_managers,
    write_managers,
)
from controlplane.kinds.types import builtin_types

FIELDS = FieldSets(builtin_types())
OWNERSHIP = Ownership(FIELDS, "apps.v1.Deployment")


def deployment(labels: dict[str, str] | None = None, **containers: str) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", **({"labels": labels} if labels is not None else {})},
        "spec": {
            "template": {
                "spec": {"containers": [{"name": n, "image": i} for n, i in containers.items()]}
            }
        },
    }


def applier(name: str, time: str = "t1") -> Manager:
    return Manager(name, APPLY, "apps/v1", time=time)


def apply(
    live: dict[str, Any] | None, config: dict[str, Any], name: str, *, force: bool = False
) -> dict[str, Any]:
    before = copy.deepcopy((live, config))
    result = OWNERSHIP.apply(live, config, applier(name), force=force)
    assert (live, config) == before
    return result


def update(live: dict[str, Any], new: dict[str, Any], name: str = "editor") -> list[Manager]:
    return OWNERSHIP.after_update(live, new, Manager(name, UPDATE, "apps/v1", time="t2"))


def images(value: dict[str, Any]) -> dict[str, str]:
    return {c["name"]: c.get("image") for c in value["spec"]["template"]["spec"]["containers"]}


def owned(value: dict[str, Any], name: str) -> set[str]:
    return {dotted(p) for m in read_managers(value) if m.name == name for p in m.paths}


def test_an_applier_owns_what_it_sets() -> None:
    made = apply(None, deployment({"a": "1"}, web="1"), "one")
    assert owned(made, "one") == {
        ".metadata.labels.a",
        '.spec.template.spec.containers[name="web"]',
        '.spec.template.spec.containers[name="web"].name',
        '.spec.template.spec.containers[name="web"].image',
    }
    (entry,) = made["metadata"]["managedFields"]
    containers = entry["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]
    assert containers == {'k:{"name":"web"}': {".": {}, "f:image": {}, "f:name": {}}}


def test_what_an_applier_sets_no_more_is_taken_away() -> None:
    made = apply(None, deployment({"a": "1", "b": "1"}, web="1", side="1"), "one")
    changed = apply(made, deployment({"b": "2"}, web="2"), "one")
    assert changed["metadata"]["labels"] == {"b": "2"}
    assert images(changed) == {"web": "2"}
    assert "labels" not in apply(changed, deployment(web="2"), "one")["metadata"]


def test_appliers_share_an_object() -> None:
    both = apply(apply(None, deployment({"a": "1"}, web="1"), "one"), deployment({"b": "1"}), "two")
    assert both["metadata"]["labels"] == {"a": "1", "b": "1"}
    assert images(both) == {"web": "1"}
    left = apply(both, deployment({"a": "1"}), "one")
    assert images(left) == {}
    assert left["metadata"]["labels"] == {"a": "1", "b": "1"}


def test_equal_values_are_owned_together() -> None:
    both = apply(apply(None, deployment(web="1"), "one"), deployment(web="1"), "two")
    assert images(apply(both, deployment(), "one")) == {"web": "1"}
    alone = apply(apply(both, deployment(), "one"), deployment(), "two")
    assert images(alone) == {}


def test_a_conflict_names_manager_and_field() -> None:
    made = apply(None, deployment(web="1"), "one")
    with pytest.raises(ApiError) as caught:
        apply(made, deployment(web="2"), "two")
    status = caught.value.to_status()
    field = '.spec.template.spec.containers[name="web"].image'
    assert status["code"] == 409
    assert status["details"]["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "one"',
            "field": field,
        }
    ]
    text = f'Apply failed with 1 conflict: conflict with "one": {field}'
    assert status["message"] == text
    forced = apply(made, deployment(web="2"), "two", force=True)
    assert images(forced) == {"web": "2"}
    assert field not in owned(forced, "one")
    assert field in owned(forced, "two")


def test_a_plain_write_takes_over_what_it_changes() -> None:
    made = apply(None, deployment({"a": "1"}, web="1"), "one")
    new = copy.deepcopy(made)
    new["spec"]["template"]["spec"]["containers"][0]["image"] = "2"
    new["spec"]["replicas"] = 3
    del new["metadata"]["labels"]
    managers = {m.name: {dotted(p) for p in m.paths} for m in update(made, new)}
    image = '.spec.template.spec.containers[name="web"].image'
    assert managers["editor"] == {image, ".spec.replicas"}
    assert image not in managers["one"]
    assert ".metadata.labels.a" not in managers["one"]


def test_a_write_that_changes_nothing_changes_no_owner() -> None:
    made = apply(None, deployment(web="1"), "one")
    assert [m for m in update(made, copy.deepcopy(made)) if m.paths] == read_managers(made)


def test_the_first_apply_to_an_object_without_owners() -> None:
    with pytest.raises(ApiError, match="before-first-apply"):
        apply(deployment(web="1"), deployment(web="2"), "one")


def test_lists_owned_as_a_whole_and_items_that_cannot_be_told_apart() -> None:
    config = deployment(web="1")
    container = config["spec"]["template"]["spec"]["containers"][0]
    container["args"] = ["a", "b"]
    container["ports"] = [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]
    made = apply(None, config, "one")
    prefix = '.spec.template.spec.containers[name="web"]'
    assert f"{prefix}.args" in owned(made, "one")
    assert f'{prefix}.ports[containerPort=80,protocol="TCP"]' in owned(made, "one")
    container["ports"] = [{"containerPort": 80}, {"containerPort": 80}]
    assert f"{prefix}.ports" in owned(apply(None, config, "one"), "one")


def test_the_list_of_updaters_is_bounded() -> None:
    live = deployment({})
    for number in range(30):
        new = copy.deepcopy(live)
        new["metadata"].setdefault("labels", {})[f"l{number}"] = "x"
        managers = OWNERSHIP.after_update(
            live, new, Manager(f"m{number}", UPDATE, "apps/v1", time=f"t{number:02}")
        )
        new["metadata"]["managedFields"] = write_managers(managers)
        live = new
    names = [m.name for m in read_managers(live)]
    assert len(names) == 10
    assert "ancient-changes" in names
    assert sum(len(owned(live, name) & {f".metadata.labels.l{n}" for n in range(30)})
               for name in set(names)) == 30  # fmt: skip


steps = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"'])


@given(st.frozensets(st.lists(steps, min_size=1, max_size=4).map(tuple)))
def test_sets_survive_the_wire(paths: frozenset[tuple[str, ...]]) -> None:
    assert decode(encode(paths)) == paths


@pytest.mark.parametrize("wrong", [None, [], "x", {"f:a": 1}, {".": 5}])
def test_what_is_no_set_holds_nothing_that_breaks(wrong: Any) -> None:
    assert decode(wrong) <= {("f:a",)}
