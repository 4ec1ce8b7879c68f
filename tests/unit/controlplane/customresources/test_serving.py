from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.customresources import serving
from controlplane.customresources.definition import FINALIZER
from controlplane.kinds.strategies.apiextensions import APIEXTENSIONS
from controlplane.openapi import routes
from controlplane.plane import Plane
from tests.unit.controlplane.server.client import Api, running_api

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
THINGS = "/apis/a.example/v1/namespaces/default/things"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
JSON = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 0},
                "color": {"type": "string", "default": "red"},
                "parts": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}, "value": {"type": "integer"}},
                    },
                },
            },
        },
        "status": {"type": "object", "properties": {"size": {"type": "integer"}}},
    },
}


def definition(plural: str = "things", **more: Any) -> dict[str, Any]:
    kind = plural.removesuffix("s").capitalize()
    version = {
        "name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA},
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"},
        },
        "additionalPrinterColumns": [
            {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
        "selectableFields": [{"jsonPath": ".spec.color"}],
    }  # fmt: skip
    spec: dict[str, Any] = {
        "group": "a.example", "scope": "Namespaced", "versions": [version],
        "names": {"plural": plural, "kind": kind, "shortNames": [plural[:2]]}, **more,
    }  # fmt: skip
    return {"metadata": {"name": f"{plural}.a.example"}, "spec": spec}


def hook_in(plane: Plane) -> None:
    serving.install(plane, routes.install(plane))


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path, strategies=APIEXTENSIONS, parts=[hook_in]) as made:
        yield made


async def condition(api: Api, plural: str, kind: str) -> dict[str, Any]:
    """Wait until a definition has a condition, and return it."""
    watch = api.store.watch("/apiextensions.k8s.io/", 0 if api.store.oldest == 0 else 1)
    try:
        async with asyncio.timeout(10):
            while True:
                _, value = await api.call("GET", f"{CRDS}/{plural}.a.example")
                found = {one["type"]: one for one in value.get("status", {}).get("conditions", [])}
                if kind in found:
                    told: dict[str, Any] = found[kind]
                    return told
                await watch.wait()
                watch.take()
    finally:
        watch.close()


async def unserved(api: Api) -> None:
    """Wait until version 1 is not served."""
    async with asyncio.timeout(10):
        while (await api.call("GET", THINGS))[0] != 404:  # noqa: ASYNC110
            # Each call lets the server's own tasks go on.
            await asyncio.sleep(0)


async def define(api: Api, made: dict[str, Any] | None = None) -> dict[str, Any]:
    status, value = await api.call("POST", CRDS, made or definition())
    assert status == 201, value
    plural = value["spec"]["names"]["plural"]
    assert (await condition(api, plural, "Established"))["status"] == "True"
    found: dict[str, Any] = value
    return found


async def test_from_a_definition_to_its_end(api: Api) -> None:
    assert (await api.call("GET", THINGS))[0] == 404
    made = await define(api)
    assert made["status"]["storedVersions"] == ["v1"]
    assert made["spec"]["names"]["listKind"] == "ThingList"
    thing = await api.make("one", THINGS, spec={"size": 1, "extra": 1})
    assert thing["spec"] == {"size": 1, "color": "red"}
    assert (thing["kind"], thing["apiVersion"]) == ("Thing", "a.example/v1")
    _, found = await api.call("GET", "/apis/a.example/v1")
    names = {one["name"]: one for one in found["resources"]}
    assert set(names) == {"things", "things/status", "things/scale"}
    assert names["things"]["shortNames"] == ["th"]
    _, document = await api.call("GET", "/openapi/v3/apis/a.example/v1")
    schema = document["components"]["schemas"]["example.a.v1.Thing"]
    assert schema["properties"]["spec"] == SCHEMA["properties"]["spec"]
    patch = document["paths"]["/apis/a.example/v1/namespaces/{namespace}/things/{name}"]["patch"]
    assert "application/strategic-merge-patch+json" not in patch["requestBody"]["content"]

    status, ending = await api.call("DELETE", f"{CRDS}/things.a.example")
    assert (status, ending["metadata"]["finalizers"]) == (200, [FINALIZER])
    watch = api.store.watch("/apiextensions.k8s.io/", api.store.oldest)
    async with asyncio.timeout(10):
        while (await api.call("GET", f"{CRDS}/things.a.example"))[0] != 404:
            await watch.wait()
            watch.take()
    watch.close()
    await unserved(api)
    assert api.store.read("/a.example/").items == ()
    assert "custom:example.a.v1.Thing" not in api.plane.types.names()
    assert not [name for name in api.plane.types.names() if name.startswith("custom:")]
    assert ("a.example", "things", "scale") not in api.plane.handlers


async def test_served_again_after_a_restart(tmp_path: Path) -> None:
    async with running_api(tmp_path, strategies=APIEXTENSIONS, parts=[hook_in]) as api:
        await define(api)
        await api.make("one", THINGS, spec={"size": 1})
    async with running_api(tmp_path, strategies=APIEXTENSIONS, parts=[hook_in]) as api:
        assert (await api.call("GET", f"{THINGS}/one"))[0] == 200


async def test_objects_are_checked_shown_and_selected(api: Api) -> None:
    await define(api)
    await api.make("one", THINGS, spec={"size": 1})
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"spec": {"size": -1}}, "greater than or equal to 0"),
        ({"spec": {"size": None}}, "spec.size: Required value"),
        ({"spec": None}, ""),
    )
    for body, told in cases:
        status, found = await api.call("PATCH", f"{THINGS}/one", body, kind=MERGE)
        assert (status, told in str(found.get("message", ""))) == (422 if told else 200, True)
    strict = {"fieldValidation": "Strict"}
    body = {"metadata": {"name": "two"}, "spec": {"size": 1, "no": 1}}
    status, found = await api.call("POST", THINGS, body, params=strict)
    assert (status, found["message"]) == (400, 'strict decoding error: unknown field "spec.no"')
    _, table = await api.call("GET", THINGS, headers=JSON)
    assert [one["name"] for one in table["columnDefinitions"]] == ["Name", "Size", "Age"]
    await api.make("blue", THINGS, spec={"size": 2, "color": "blue"})
    _, listed = await api.call("GET", THINGS, params={"fieldSelector": "spec.color=blue"})
    assert [one["metadata"]["name"] for one in listed["items"]] == ["blue"]
    strategic = "application/strategic-merge-patch+json"
    status, found = await api.call("PATCH", f"{THINGS}/blue", {}, kind=strategic)
    assert (status, found["reason"]) == (415, "UnsupportedMediaType")


async def test_status_and_generation(api: Api) -> None:
    await define(api)
    made = await api.make("one", THINGS, spec={"size": 1}, status={"size": 9})
    assert "status" not in made
    body = {"status": {"size": 2}, "spec": {"size": 7}}
    _, value = await api.call("PATCH", f"{THINGS}/one/status", body, kind=MERGE)
    assert (value["status"], value["spec"]["size"]) == ({"size": 2}, 1)
    assert value["metadata"]["generation"] == 1
    _, value = await api.call("PATCH", f"{THINGS}/one", body, kind=MERGE)
    assert (value["status"], value["spec"]["size"]) == ({"size": 2}, 7)
    assert value["metadata"]["generation"] == 2


async def test_scale(api: Api) -> None:
    await define(api)
    await api.make("one", THINGS, spec={"size": 1})
    _, scale = await api.call("GET", f"{THINGS}/one/scale")
    assert (scale["kind"], scale["spec"], scale["status"]) == (
        "Scale", {"replicas": 1}, {"replicas": 0},
    )  # fmt: skip
    _, scale = await api.call("PUT", f"{THINGS}/one/scale", {**scale, "spec": {"replicas": 4}})
    assert scale["spec"] == {"replicas": 4}
    body = {"spec": {"replicas": 5}}
    _, scale = await api.call("PATCH", f"{THINGS}/one/scale", body, kind=MERGE)
    _, value = await api.call("GET", f"{THINGS}/one")
    assert (scale["spec"], value["spec"]["size"]) == ({"replicas": 5}, 5)
    for wrong, code in (({"spec": {"replicas": -1}}, 422), ({"spec": {"replicas": "x"}}, 400)):
        assert (await api.call("PATCH", f"{THINGS}/one/scale", wrong, kind=MERGE))[0] == code


async def test_owners_of_items_of_lists(api: Api) -> None:
    await define(api)

    async def apply(manager: str, **part: Any) -> tuple[int, Any]:
        body = {"apiVersion": "a.example/v1", "kind": "Thing", "metadata": {"name": "one"},
                "spec": {"size": 1, "parts": [part]}}  # fmt: skip
        params = {"fieldManager": manager}
        return await api.call("PATCH", f"{THINGS}/one", body, kind=APPLY, params=params)

    await apply("one", name="a", value=1)
    _, value = await apply("two", name="b", value=2)
    assert [one["name"] for one in value["spec"]["parts"]] == ["a", "b"]
    status, error = await apply("two", name="a", value=3)
    assert (status, error["reason"]) == (409, "Conflict")


async def test_versions_differ_by_name(api: Api) -> None:
    made = definition()
    (first,) = made["spec"]["versions"]
    made["spec"]["versions"] = [{**first, "storage": False}, {**first, "name": "v2"}]
    await define(api, made)
    await api.make("one", THINGS, spec={"size": 1})
    second = THINGS.replace("/v1/", "/v2/")
    for path, version in ((THINGS, "a.example/v1"), (second, "a.example/v2")):
        _, value = await api.call("GET", f"{path}/one")
        assert value["apiVersion"] == version
        _, listed = await api.call("GET", path)
        assert [one["apiVersion"] for one in listed["items"]] == [version]
    assert b'"a.example/v2"' in api.store.read("/a.example/").items[0].value
    crd = f"{CRDS}/things.a.example"
    body = {"spec": {"versions": [{**first, "storage": True}]}}
    status, error = await api.call("PATCH", crd, body, kind=MERGE)
    assert (status, "status.storedVersions[0]" in error["message"]) == (422, True)
    body = {"spec": {"versions": [{**first, "storage": False, "served": False},
                                  {**first, "name": "v2"}]}}  # fmt: skip
    assert (await api.call("PATCH", crd, body, kind=MERGE))[0] == 200
    await unserved(api)
    assert (await api.call("GET", f"{second}/one"))[0] == 200


async def test_names_that_others_have(api: Api) -> None:
    await define(api)
    second = definition("others")
    second["spec"]["names"]["shortNames"] = ["th"]
    assert (await api.call("POST", CRDS, second))[0] == 201
    found = await condition(api, "others", "NamesAccepted")
    assert (found["status"], found["reason"]) == ("False", "ShortNamesConflict")
    assert (await condition(api, "others", "Established"))["status"] == "False"
    assert (await api.call("GET", THINGS.replace("things", "others")))[0] == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"group": "nodots"}, "spec.group"),
        ({"scope": "Everywhere"}, "spec.scope"),
        ({"names": {"plural": "Things", "kind": "Thing"}}, "spec.names.plural"),
        ({"names": {"plural": "things", "kind": "T T"}}, "spec.names.kind"),
        ({"versions": []}, "spec.versions"),
        ({"versions": [{"name": "1", "served": True, "storage": True,
                        "schema": {"openAPIV3Schema": SCHEMA}}]}, "spec.versions[0].name"),
        ({"versions": [{"served": True, "storage": True,
                        "schema": {"openAPIV3Schema": SCHEMA}}]}, "spec.versions[0].name"),
        ({"versions": [{"name": "v1", "served": True, "storage": True}]},
         "spec.versions[0].schema.openAPIV3Schema"),
        ({"conversion": {"strategy": "Webhook"}}, "spec.conversion.strategy"),
        ({"preserveUnknownFields": True}, "spec.preserveUnknownFields"),
    ],
)  # fmt: skip
async def test_definitions_that_are_refused(api: Api, change: dict[str, Any], field: str) -> None:
    status, error = await api.call("POST", CRDS, definition(**change))
    assert status == 422, error
    assert field in {cause["field"] for cause in error["details"]["causes"]}
