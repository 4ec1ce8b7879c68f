from __future__ import annotations

import copy
from typing import Any

import pytest

from controlplane.api.errors import ApiError
from controlplane.api.merging import merge, strategic_merge
from controlplane.kinds.types import builtin_types

TYPES = builtin_types()


def apply(original: dict[str, Any], patch: Any, kind: str = "core.v1.PodSpec") -> Any:
    before = copy.deepcopy((original, patch))
    result = strategic_merge(TYPES, kind, original, patch)
    assert (original, patch) == before
    return result


# RFC 7386, appendix A
@pytest.mark.parametrize(
    ("original", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_json_merge_patch(original: Any, patch: Any, expected: Any) -> None:
    assert merge(original, patch) == expected


def test_lists_of_objects_are_merged_by_their_key() -> None:
    original = {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}
    patch = {"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "3"}]}
    assert apply(original, patch) == {
        "containers": [
            {"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": "3"},
        ]
    }  # fmt: skip


def test_items_are_deleted_and_lists_replaced_by_directives() -> None:
    original = {"containers": [{"name": "a"}, {"name": "b"}]}
    gone = {"containers": [{"name": "a", "$patch": "delete"}]}
    assert apply(original, gone) == {"containers": [{"name": "b"}]}
    replaced = {"containers": [{"name": "z"}, {"$patch": "replace"}]}
    assert apply(original, replaced) == {"containers": [{"name": "z"}]}
    context = {"securityContext": {"runAsUser": 1}}
    assert apply(context, {"securityContext": {"$patch": "delete"}}) == {"securityContext": {}}
    swapped = {"securityContext": {"$patch": "replace", "runAsGroup": 2}}
    assert apply(context, swapped) == {"securityContext": {"runAsGroup": 2}}


def test_lists_of_plain_values() -> None:
    meta = {"finalizers": ["a", "b"]}
    assert apply(meta, {"finalizers": ["b", "c"]}, "meta.v1.ObjectMeta") == {
        "finalizers": ["a", "b", "c"]
    }
    assert apply(meta, {"$deleteFromPrimitiveList/finalizers": ["a"]}, "meta.v1.ObjectMeta") == {
        "finalizers": ["b"]
    }
    container = {"args": ["1", "2"]}
    assert apply(container, {"args": ["3"]}, "core.v1.Container") == {"args": ["3"]}


def test_the_order_of_items() -> None:
    original = {"containers": [{"name": "a"}, {"name": "x"}, {"name": "b"}]}
    patch = {
        "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
        "containers": [{"name": "a", "image": "2"}],
    }
    assert [c["name"] for c in apply(original, patch)["containers"]] == ["x", "b", "a"]


def test_new_items_come_before_those_that_the_patch_does_not_name() -> None:
    original = {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}
    patch = {"containers": [{"name": "b"}, {"name": "n"}]}
    assert [c["name"] for c in apply(original, patch)["containers"]] == ["a", "b", "n", "c"]
    patch = {"containers": [{"name": "n"}]}
    assert [c["name"] for c in apply(original, patch)["containers"]] == ["n", "a", "b", "c"]


def test_retained_keys() -> None:
    original = {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}
    patch = {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}
    assert apply(original, patch, "apps.v1.DeploymentSpec") == {"strategy": {"type": "Recreate"}}
    wrong = {"strategy": {"$retainKeys": ["other"], "type": "Recreate"}}
    with pytest.raises(ApiError, match="must name 'type'"):
        apply(original, wrong, "apps.v1.DeploymentSpec")


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ([], "is an object"),
        ({"$patch": "explode"}, "not delete, replace or merge"),
        ({"containers": [{"image": "x"}]}, "lacks its key 'name'"),
        ({"containers": ["x"]}, "are objects"),
        ({"$setElementOrder/containers": 1, "containers": []}, "must be a list"),
    ],
)
def test_patches_that_make_no_sense(patch: Any, message: str) -> None:
    with pytest.raises(ApiError, match=message) as caught:
        apply({"containers": [{"name": "a"}]}, patch)
    assert caught.value.code == 400
