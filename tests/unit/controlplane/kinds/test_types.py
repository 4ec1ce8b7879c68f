from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kinds.types import MAX_DEPTH, Field, Types, WrongTypeError, builtin_types

TYPES = builtin_types()


def pod(**spec: Any) -> dict[str, Any]:
    containers = spec.pop("containers", [{"name": "a", "image": "b"}])
    return {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": containers, **spec}}


def test_a_good_object_is_kept() -> None:
    good = pod(hostNetwork=True, terminationGracePeriodSeconds=5, nodeSelector={"a": "b"})
    assert TYPES.clean("core.v1.Pod", good) == (good, [])


def test_unknown_fields_are_taken_out_and_told() -> None:
    cleaned, unknown = TYPES.clean(
        "core.v1.Pod",
        {**pod(containers=[{"name": "a", "imag": "b"}], hostnetwork=True), "extra": {}},
    )
    assert unknown == ["spec.containers[0].imag", "spec.hostnetwork", "extra"]
    assert cleaned == pod(containers=[{"name": "a"}])


def test_null_is_an_absent_field() -> None:
    cleaned, unknown = TYPES.clean("core.v1.Pod", pod(nodeName=None, nodeSelector={"a": None}))
    assert (cleaned, unknown) == (pod(), [])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (pod(hostNetwork="yes"), 'spec.hostNetwork: must be true or false, not "yes"'),
        (pod(containers={}), "spec.containers: must be a list, not {}"),
        (pod(containers=["a"]), r'spec.containers\[0\]: must be an object, not "a"'),
        (pod(priority=1 << 31), "spec.priority: 2147483648 does not fit into int32"),
        (pod(priority=1.5), "spec.priority: must be an integer, not 1.5"),
        (pod(priority=True), "spec.priority: must be an integer, not true"),
        (pod(nodeSelector={"a": 1}), r"spec.nodeSelector\[a\]: must be a string, not 1"),
        (pod(overhead={"cpu": "x"}), r"spec.overhead\[cpu\]: 'x' is no quantity"),
        ([], r"the object: must be an object, not \[\]"),
        ({"metadata": {"creationTimestamp": "now"}}, "metadata.creationTimestamp: must be a time"),
    ],
)
def test_wrong_types_name_their_path(value: Any, message: str) -> None:
    with pytest.raises(WrongTypeError, match=f"^{message}"):
        TYPES.clean("core.v1.Pod", value)


def test_values_are_kept_in_one_form() -> None:
    cleaned, _ = TYPES.clean(
        "core.v1.Pod",
        {
            "metadata": {"creationTimestamp": "2026-01-01T12:00:00.5+02:00"},
            "spec": {"overhead": {"cpu": 0.5, "memory": "1024Mi"}, "priority": 3.0},
        },
    )
    assert cleaned == {
        "metadata": {"creationTimestamp": "2026-01-01T10:00:00Z"},
        "spec": {"overhead": {"cpu": "500m", "memory": "1Gi"}, "priority": 3},
    }
    lease, _ = TYPES.clean(
        "coordination.v1.Lease", {"spec": {"renewTime": "2026-01-01T10:00:00.12Z"}}
    )
    assert lease["spec"]["renewTime"] == "2026-01-01T10:00:00.120000Z"


def test_defaults_of_the_types_at_any_depth() -> None:
    value = pod(containers=[{"name": "a", "ports": [{"containerPort": 80}]}])
    TYPES.add_defaults("core.v1.Pod", value)
    assert value["spec"]["containers"][0]["ports"] == [{"containerPort": 80, "protocol": "TCP"}]


def test_nesting_is_bounded() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    crd = {"spec": {"versions": [{"schema": {"openAPIV3Schema": {"default": deep}}}]}}
    with pytest.raises(WrongTypeError, match=f"deeper than {MAX_DEPTH}"):
        TYPES.clean("apiextensions.v1.CustomResourceDefinition", crd)
    schema: Any = {}
    for _ in range(500):
        schema = {"not": schema}
    crd = {"spec": {"versions": [{"schema": {"openAPIV3Schema": schema}}]}}
    with pytest.raises(WrongTypeError, match=f"deeper than {MAX_DEPTH}"):
        TYPES.clean("apiextensions.v1.CustomResourceDefinition", crd)


def test_every_reference_leads_to_a_type() -> None:
    for name in TYPES.names():
        for field in TYPES.fields(name).values():
            innermost = field
            while innermost.of is not None:
                innermost = innermost.of
            assert not innermost.object or TYPES.fields(innermost.object) is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["spec", "metadata", "containers", "name", "ports", "x"]), inner
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_whatever_comes_is_cleaned_or_refused(value: Any) -> None:
    try:
        cleaned, _ = TYPES.clean("core.v1.Pod", value)
    except WrongTypeError:
        return
    assert TYPES.clean("core.v1.Pod", cleaned) == (cleaned, [])


def test_defaults_of_types_that_come_later_and_hold_each_other() -> None:
    types = Types({"a": {"b": Field("#b")}, "b": {"more": Field("list", of=Field("#a"))}}, {})
    value: dict[str, Any] = {"b": {"more": [{}]}}
    types.add_defaults("a", value)
    assert value == {"b": {"more": [{}]}}
    types.add({"b": {"more": Field("list", of=Field("#a")), "c": Field("string", default="d")}}, {})
    types.add_defaults("a", value)
    assert value == {"b": {"more": [{}], "c": "d"}}
