from __future__ import annotations

import copy
from typing import Any

import pytest

from controlplane.customresources import paths
from controlplane.customresources.cel import CelError, compile_expression, plain
from controlplane.customresources.rules import Rules, escape
from controlplane.customresources.shape import PRESERVE, Shape, field_types
from controlplane.customresources.strategy import CustomStrategy
from controlplane.customresources.structure import check_schema
from controlplane.customresources.values import Values
from controlplane.kinds.types import Field, WrongTypeError, builtin_types
from controlplane.openapi.schemas import Schemas

Schema = dict[str, Any]
TEXT = {"type": "string"}
NUMBER = {"type": "integer"}


def of(**spec: Any) -> Schema:
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": spec}}}


def given(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "a.example/v1", "kind": "A", "metadata": {"name": "a"}, "spec": spec}


def listed(kind: str, **items: Any) -> Schema:
    return {"type": "array", "x-kubernetes-list-type": kind, **items}


@pytest.mark.parametrize(
    ("schema", "value", "cleaned", "unknown"),
    [
        (of(a=TEXT), {"a": "x", "b": 1}, {"a": "x"}, ["spec.b"]),
        (of(a={"type": "array", "items": of(b=TEXT)}), {"a": [{"x": 1}]}, {"a": [{}]},
         ["spec.a[0].x"]),
        (of(a={"type": "object", PRESERVE: True, "properties": {"b": of()}}),
         {"a": {"x": {"y": None}, "b": {"z": 1}}}, {"a": {"x": {"y": None}, "b": {}}},
         ["spec.a.b.z"]),
        (of(a={"type": "object", "additionalProperties": of(b=TEXT)}), {"a": {"k": {"x": 1}}},
         {"a": {"k": {}}}, ["spec.a.k.x"]),
        (of(a=TEXT, n={"type": "string", "nullable": True}), {"a": None, "n": None},
         {"n": None}, []),
        (of(a={"type": "object", "x-kubernetes-embedded-resource": True, "properties": {}}),
         {"a": {"apiVersion": "v1", "kind": "B", "metadata": {"name": "x", "no": 1}, "z": 1}},
         {"a": {"apiVersion": "v1", "kind": "B", "metadata": {"name": "x"}}},
         ["spec.a.metadata.no", "spec.a.z"]),
        (of(), "text", "text", []),
    ],
)  # fmt: skip
def test_pruning(schema: Schema, value: Any, cleaned: Any, unknown: list[str]) -> None:
    found, paths_found = Shape(schema, builtin_types()).clean({**given(), "spec": value})
    assert (found["spec"], paths_found) == (cleaned, unknown)


def test_metadata_is_typed_and_depth_is_bounded() -> None:
    shape = Shape({"type": "object", PRESERVE: True}, builtin_types())
    with pytest.raises(WrongTypeError, match=r"metadata\.labels\[a\]"):
        shape.clean({"metadata": {"labels": {"a": 1}}})
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"a": deep}
    with pytest.raises(WrongTypeError, match="deeper"):
        shape.clean(deep)


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        (of(a={"type": "string", "default": "x"}), {}, {"a": "x"}),
        (of(a={"type": "string", "default": "x"}), {"a": "y"}, {"a": "y"}),
        (of(a={**of(b={"type": "integer", "default": 1}), "default": {}}), {},
         {"a": {}}),
        (of(a={"type": "object", "default": {}, "properties": {"b": {**NUMBER, "default": 2}}}),
         {}, {"a": {"b": 2}}),
        (of(a={"type": "array", "items": {"type": "object", "properties": {
            "b": {**NUMBER, "default": 3}}}}), {"a": [{}, {"b": 1}]}, {"a": [{"b": 3}, {"b": 1}]}),
        (of(a={"type": "object", "additionalProperties": {"type": "object", "properties": {
            "b": {**NUMBER, "default": 3}}}}), {"a": {"k": {}}}, {"a": {"k": {"b": 3}}}),
    ],
)  # fmt: skip
def test_defaults(schema: Schema, value: Any, expected: Any) -> None:
    whole = given(**value)
    kept = copy.deepcopy(schema)
    Shape(schema, builtin_types()).add_defaults(whole)
    assert whole["spec"] == expected
    assert schema == kept


@pytest.mark.parametrize(
    ("schema", "value", "field", "message"),
    [
        (of(a=NUMBER), {"a": "x"}, "spec.a",
         'Invalid value: "string": spec.a in body must be of type integer: "string"'),
        ({**of(), "required": ["spec"], "properties": {"spec": {"type": "object",
          "required": ["a"]}}}, {}, "spec.a", "Required value"),
        (of(a={**TEXT, "enum": ["x", "y"]}), {"a": "z"}, "spec.a",
         'Unsupported value: "z": supported values: "x", "y"'),
        (of(a={**NUMBER, "minimum": 1}), {"a": 0}, "spec.a",
         "Invalid value: 0: spec.a in body should be greater than or equal to 1"),
        (of(a={**NUMBER, "maximum": 1, "exclusiveMaximum": True}), {"a": 1}, "spec.a",
         "Invalid value: 1: spec.a in body should be less than 1"),
        (of(a={**TEXT, "maxLength": 1}), {"a": "xx"}, "spec.a",
         "Too long: may not be more than 1 bytes"),
        (of(a={**TEXT, "minLength": 3}), {"a": "xx"}, "spec.a",
         'Invalid value: "xx": spec.a in body should be at least 3 chars long'),
        (of(a={**TEXT, "pattern": "^a$"}), {"a": "b"}, "spec.a",
         "Invalid value: \"b\": spec.a in body should match '^a$'"),
        (of(a={**TEXT, "format": "ipv4"}), {"a": "b"}, "spec.a",
         'Invalid value: "b": spec.a in body must be of type ipv4: "b"'),
        (of(a={"type": "array", "maxItems": 1, "items": TEXT}), {"a": ["x", "y"]}, "spec.a",
         "Too many: 2: must have at most 1 items"),
        (of(a={"x-kubernetes-int-or-string": True}), {"a": True}, "spec.a",
         'Invalid value: "boolean": spec.a in body must be of type integer,string: "boolean"'),
        (of(a={"type": "string", "nullable": True}), {"a": 1}, "spec.a",
         'Invalid value: "integer": spec.a in body must be of type string: "integer"'),
        (of(a={"type": "object", "oneOf": [{"required": ["x"]}, {"required": ["y"]}]}), {"a": {}},
         "spec.a", 'Invalid value: {}: "spec.a" must validate one and only one schema (oneOf). '
         "Found none valid"),
        (of(a=listed("set", items=TEXT)), {"a": ["x", "x"]}, "spec.a[1]", 'Duplicate value: "x"'),
        (of(a=listed("map", items=of(), **{"x-kubernetes-list-map-keys": ["n"]})),
         {"a": [{"n": 1, "v": 1}, {"n": 1}]}, "spec.a[1]", 'Duplicate value: {"n":1}'),
    ],
)  # fmt: skip
def test_values(schema: Schema, value: Any, field: str, message: str) -> None:
    values = Values(schema)
    (cause,) = values.check(given(**value), None)
    assert (cause.field, cause.message) == (field, message)
    assert values.check(given(**value), given(**value)) == []


def test_good_values() -> None:
    schema = of(a={"type": "string", "nullable": True}, b={"x-kubernetes-int-or-string": True},
                c={"type": "string", "format": "unheard-of"})  # fmt: skip
    assert Values(schema).check(given(a=None, b="1", c="x"), None) == []


def ruled(rule: str, **more: Any) -> Schema:
    schema = of(a=NUMBER, b=TEXT, l={"type": "array", "items": TEXT})
    schema["properties"]["spec"]["properties"]["x-y"] = TEXT
    schema["properties"]["spec"]["x-kubernetes-validations"] = [{"rule": rule, **more}]
    return schema


@pytest.mark.parametrize(
    ("rule", "value", "good"),
    [
        ("self.a > 1", {"a": 2}, True),
        ("self.a > 1", {"a": 1}, False),
        ("!has(self.b) || self.b.startsWith('x')", {}, True),
        ("self.l.all(i, i.size() < 3)", {"l": ["a", "bcd"]}, False),
        ("self.l.exists_one(i, i == 'a')", {"l": ["a", "b"]}, True),
        ("self.x__dash__y.lowerAscii() == 'abc'", {"x-y": "ABC"}, True),
        ("self.b.split(',').size() == 2", {"b": "a,b"}, True),
        ("self.b.matches('^[a-z]+$')", {"b": "A"}, False),
        ("quantity(self.b).isGreaterThan(quantity('1Mi'))", {"b": "1Gi"}, True),
        (
            "isURL(self.b) && url(self.b).getHost() == 'a.example'",
            {"b": "http://a.example/x"},
            True,
        ),
        ("self.l.isSorted() && self.l.indexOf('b') == 1", {"l": ["a", "b"]}, True),
        ("isIP(self.b)", {"b": "10.0.0.300"}, False),
    ],
)
def test_rules(rule: str, value: Any, good: bool) -> None:
    assert (Rules(ruled(rule)).check(given(**value), None) == []) is good


def test_what_a_broken_rule_tells() -> None:
    rules = Rules(ruled("self.a > 1", messageExpression="'a is ' + string(self.a)",
                        reason="FieldValueForbidden", fieldPath=".a"))  # fmt: skip
    (cause,) = rules.check(given(a=1), None)
    assert (cause.reason, cause.field, cause.message) == (
        "FieldValueForbidden", "spec.a", "Forbidden: a is 1",
    )  # fmt: skip
    (cause,) = Rules(ruled("self.a > 1")).check(given(a=1), None)
    assert cause.message == "Invalid value: failed rule: self.a > 1"


def test_rules_about_changes() -> None:
    rules = Rules(ruled("self.a >= oldSelf.a", message="may not shrink"))
    assert rules.check(given(a=1), None) == []
    assert rules.check(given(a=2), given(a=1)) == []
    assert [one.field for one in rules.check(given(a=1), given(a=2))] == ["spec"]
    other = Rules(ruled("self.a > 1"))
    assert other.check(given(a=0), given(a=0)) == []


@pytest.mark.slow
def test_a_rule_is_stopped_when_it_takes_too_long() -> None:
    rules = Rules(ruled("self.l.all(a, self.l.all(b, a == b))"))
    (cause,) = rules.check(given(l=["x"] * 1000), None)
    assert "too many steps" in cause.message


@pytest.mark.parametrize(
    ("text", "told"),
    [("self.", "Syntax error"), ("self.a.nope()", "'nope'"), ("x" * 70_000, "longer")],
)
def test_what_is_no_rule(text: str, told: str) -> None:
    with pytest.raises(CelError, match=told):
        compile_expression(text)


@pytest.mark.parametrize(
    ("name", "escaped"),
    [("a", "a"), ("a-b", "a__dash__b"), ("a.b/c", "a__dot__b__slash__c"), ("in", "__in__"),
     ("a__b", "a__underscores__b"), ("$x", None)],
)  # fmt: skip
def test_names_in_rules(name: str, escaped: str | None) -> None:
    assert escape(name) == escaped


@pytest.mark.parametrize(
    "text",
    ["'abc'.substring(1) == 'bc'", "['a','b'].join('-') == 'a-b'", "[1,2].sum() == 3",
     "'a1b2'.findAll('[0-9]') == ['1','2']", "'abc'.charAt(1) == 'b'", "[2,1].min() == 1",
     "'aXa'.replace('X', 'y') == 'aya'", "' a '.trim() == 'a'"],
)  # fmt: skip
def test_functions_beyond_those_of_cel(text: str) -> None:
    assert compile_expression(text).evaluate({"self": plain({})}, [1000]) is True


PATH = "schema"


@pytest.mark.parametrize(
    ("schema", "field", "told"),
    [
        ({}, "schema.type", "must not be empty at the root"),
        ({"type": "array", "items": TEXT}, "schema.type", "must be object at the root"),
        (of(a={}), "schema.properties[spec].properties[a].type", "for specified object fields"),
        (of(a={"type": "array"}), "schema.properties[spec].properties[a].items",
         "must be specified"),
        (of(a={"type": "array", "items": {}}),
         "schema.properties[spec].properties[a].items.type", "for specified array items"),
        (of(a={"type": "string", "anyOf": [{"type": "string"}]}),
         "schema.properties[spec].properties[a].anyOf[0].type", "must be empty to be structural"),
        (of(a={"type": "text"}), "schema.properties[spec].properties[a].type", "Unsupported value"),
        (of(a={"type": "string", "pattern": "("}),
         "schema.properties[spec].properties[a].pattern", "regular expression"),
        ({"type": "object", "properties": {"metadata": of()}}, "schema.properties[metadata]",
         "must not specify anything other than name and generateName"),
        (of(a=listed("map", items=of())),
         "schema.properties[spec].properties[a].x-kubernetes-list-map-keys", "must not be empty"),
        (of(a={"type": "object", "additionalProperties": TEXT, "properties": {"b": TEXT}}),
         "schema.properties[spec].properties[a].additionalProperties", "mutual exclusive"),
        (of(a={"type": "integer", "default": "x"}),
         "schema.properties[spec].properties[a].default", "must be of type integer"),
        (ruled("self.a >"), "schema.properties[spec].x-kubernetes-validations[0].rule",
         "compilation failed"),
        ({**of(), "nullable": True}, "schema.nullable", "cannot be true at the root"),
    ],
)  # fmt: skip
def test_schemas_that_are_refused(schema: Schema, field: str, told: str) -> None:
    found = check_schema(schema, PATH)
    assert [one.field for one in found] == [field]
    assert told in found[0].message


def test_a_structural_schema() -> None:
    schema = of(a={"x-kubernetes-int-or-string": True, "anyOf": [NUMBER, TEXT]},
                b={"type": "object", PRESERVE: True}, c={"type": "string", "default": "x"},
                d=listed("map", items={"type": "object", "required": ["n"],
                                       "properties": {"n": TEXT}},
                         **{"x-kubernetes-list-map-keys": ["n"]}))  # fmt: skip
    schema["properties"]["metadata"] = {"type": "object", "properties": {"name": TEXT}}
    assert check_schema(schema, PATH) == []


def test_types_of_fields_for_their_owners() -> None:
    items = {"type": "object", "properties": {"n": {"type": "string", "default": "x"}}}
    schema = of(a=listed("map", items=items, **{"x-kubernetes-list-map-keys": ["n"]}),
                b={"type": "object", PRESERVE: True}, c=listed("set", items=TEXT),
                d={"type": "object", "additionalProperties": TEXT})  # fmt: skip
    found = field_types("T", schema)
    spec = found["T.spec"]
    assert spec["a"] == Field("list", Field("#T.spec.a[]"), list="map", keys=("n",))
    assert found["T.spec.a[]"]["n"].default == "x"
    assert spec["b"] == Field("deduced")
    assert spec["c"].list == "set"
    assert spec["d"] == Field("map", Field("any"))
    assert found["T"]["metadata"] == Field("#meta.v1.ObjectMeta")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".spec.a", [1]), (".spec.none", []), (".spec.list[*].n", ["x", "y"]),
        ('.spec.list[?(@.n=="y")].v', [2]), (".spec.list[0].v", [1]),
        (r".metadata.annotations.a\.example/b", ["z"]),
    ],
)  # fmt: skip
def test_paths(path: str, expected: list[Any]) -> None:
    value = {"spec": {"a": 1, "list": [{"n": "x", "v": 1}, {"n": "y", "v": 2}]},
             "metadata": {"annotations": {"a.example/b": "z"}}}  # fmt: skip
    assert paths.compile_path(path)(value) == expected


@pytest.mark.parametrize("path", ["spec.a", ".spec[", ".a[?("])
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        paths.compile_path(path)


def test_a_schema_for_clients_of_version_2() -> None:
    schema = of(a={"type": "string", "nullable": True}, b={"x-kubernetes-int-or-string": True},
                c={"type": "object", PRESERVE: True, "properties": {"x": TEXT}},
                d={"type": "array", "items": {**TEXT, "oneOf": [{"pattern": "a"}]}})  # fmt: skip
    types = builtin_types().copy()
    types.add(field_types("custom:example.v1.A", schema), {"example/v1/A": "custom:example.v1.A"})
    schemas = Schemas(types, 2, lambda name, field: "", {"custom:example.v1.A": schema})
    schemas.refer("custom:example.v1.A")
    found = schemas.found["example.v1.A"]["properties"]
    assert found["metadata"]["$ref"].endswith("v1.ObjectMeta")
    assert found["spec"]["properties"] == {
        "a": {}, "b": {"x-kubernetes-int-or-string": True}, "c": {PRESERVE: True},
        "d": {"type": "array", "items": {"type": "string"}},
    }  # fmt: skip


def test_rules_wait_until_the_types_are_right() -> None:
    version = {"name": "v1", "served": True, "storage": True,
               "schema": {"openAPIV3Schema": ruled("self.a > 1")}}  # fmt: skip
    spec = {"group": "a.example", "versions": [version], "names": {"kind": "A"}}
    made = {"metadata": {"generation": 1}, "spec": spec}
    strategy = CustomStrategy(made, version, builtin_types())
    fields = [cause.field for cause in strategy.validate(given(a="x"), None)]
    assert fields == ["spec.a", "<nil>"]
    assert [cause.field for cause in strategy.validate(given(a=1), None)] == ["spec"]


def test_a_rule_about_a_value_of_another_type_fails() -> None:
    schema = ruled("self.t.getFullYear() > 2000")
    schema["properties"]["spec"]["properties"]["t"] = {"type": "string", "format": "date-time"}
    (cause,) = Rules(schema).check(given(t="never"), None)
    assert "rule evaluation error" in cause.message
