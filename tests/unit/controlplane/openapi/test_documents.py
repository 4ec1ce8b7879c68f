from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from controlplane.kinds.types import Field, Types, builtin_types
from controlplane.openapi import documents, protobuf
from controlplane.openapi.descriptions import read_model
from controlplane.openapi.routes import install
from controlplane.openapi.schemas import Schemas
from controlplane.plane import Plane
from tests.unit.controlplane.server.client import Api, running_api


def hook_in(plane: Plane) -> None:
    install(plane)


def hook_in_without_descriptions(plane: Plane) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(documents, "describer", lambda: (lambda name, field: "", ""))
        install(plane)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """One server for all tests, without descriptions: making documents takes most of their time."""
    directory = tmp_path_factory.mktemp("api")
    async with running_api(directory, parts=[hook_in_without_descriptions]) as made:
        yield made


def schema_of(name: str, version: int = 3) -> dict[str, Any]:
    schemas = Schemas(builtin_types(), version, lambda name, field: f"{name}/{field}", {})
    schemas.refer(name)
    return schemas.found


@pytest.mark.parametrize(
    ("name", "field", "expected"),
    [
        ("core.v1.PodSpec", "containers", {
            "type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "name",
            "items": {"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"},
        }),
        ("core.v1.PodSpec", "restartPolicy", {
            "type": "string", "enum": ["Always", "Never", "OnFailure"],
        }),
        ("core.v1.PodSpec", "volumes", {
            "type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "x-kubernetes-patch-strategy": "merge,retainKeys",
            "x-kubernetes-patch-merge-key": "name",
            "items": {"$ref": "#/components/schemas/io.k8s.api.core.v1.Volume"},
        }),
        ("core.v1.Container", "command", {
            "type": "array", "x-kubernetes-list-type": "atomic", "items": {"type": "string"},
        }),
        ("apps.v1.DeploymentSpec", "selector", {
            "x-kubernetes-map-type": "atomic",
            "allOf": [
                {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"}
            ],
        }),
        ("core.v1.SecretKeySelector", "optional", {"type": "boolean"}),
        ("meta.v1.ObjectMeta", "generation", {"type": "integer", "format": "int64"}),
        ("core.v1.ContainerPort", "protocol", {
            "type": "string", "default": "TCP", "enum": ["SCTP", "TCP", "UDP"],
        }),
    ],
)  # fmt: skip
def test_fields(name: str, field: str, expected: dict[str, Any]) -> None:
    found = schema_of(name)
    properties = found[f"io.k8s.api.{name}".replace("api.meta", "apimachinery.pkg.apis.meta")]
    schema = properties["properties"][field]
    assert schema == {"description": f"{name}/{field}", **expected}


def test_a_reference_of_version_2_stands_beside_its_description() -> None:
    spec = schema_of("core.v1.Pod", 2)["io.k8s.api.core.v1.Pod"]["properties"]["spec"]
    assert spec == {
        "$ref": "#/definitions/io.k8s.api.core.v1.PodSpec", "description": "core.v1.Pod/spec",
    }  # fmt: skip


@pytest.mark.asyncio(loop_scope="module")
async def test_every_reference_is_there_and_every_operation_is_told_apart(api: Api) -> None:
    _, index = await api.call("GET", "/openapi/v3")
    assert {"api/v1", "apis/apps/v1", "apis/apiextensions.k8s.io/v1"} <= index["paths"].keys()
    for entry in index["paths"].values():
        status, document = await api.call("GET", entry["serverRelativeURL"])
        assert status == 200
        text = json.dumps(document)
        wanted = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
        assert wanted == document["components"]["schemas"].keys()
        ids = [
            operation["operationId"]
            for item in document["paths"].values()
            for operation in item.values()
            if isinstance(operation, dict)
        ]
        assert len(ids) == len(set(ids))


@pytest.mark.asyncio(loop_scope="module")
async def test_what_kubectl_looks_for(api: Api) -> None:
    _, document = await api.call("GET", "/openapi/v3/apis/apps/v1")
    patch = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    gvk = {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert patch["x-kubernetes-group-version-kind"] == gvk
    assert patch["x-kubernetes-action"] == "patch"
    assert {"dryRun", "fieldManager", "fieldValidation", "force"} == {
        one["name"] for one in patch["parameters"]
    }
    schema = document["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"]
    assert schema["x-kubernetes-group-version-kind"] == [gvk]
    scale = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]
    assert scale["get"]["x-kubernetes-group-version-kind"]["kind"] == "Scale"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_document_is_kept_under_its_hash(api: Api) -> None:
    _, index = await api.call("GET", "/openapi/v3")
    url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
    first = await api.send("GET", url)
    assert first.headers["Cache-Control"] == "public, immutable"
    tag = first.headers["ETag"]
    assert url.endswith(f"hash={tag.strip(chr(34))}")
    again = await api.send("GET", "/openapi/v3/apis/apps/v1", headers={"If-None-Match": tag})
    assert (again.status, await again.read()) == (304, b"")
    old = await api.send("GET", "/openapi/v3/apis/apps/v1?hash=OLD", allow_redirects=False)
    assert (old.status, old.headers["Location"]) == (301, url)
    plain = await api.send("GET", url, headers={"Accept-Encoding": "identity"})
    assert await plain.read() == await first.read()
    assert (await api.call("GET", "/openapi/v3/apis/none/v1"))[0] == 404
    assert (await api.call("GET", url, headers={"Accept": "text/plain"}))[0] == 406


@pytest.mark.asyncio(loop_scope="module")
async def test_what_comes_and_goes_changes_only_its_own_document(api: Api) -> None:
    async def hashes() -> dict[str, str]:
        _, index = await api.call("GET", "/openapi/v3")
        return {path: entry["serverRelativeURL"] for path, entry in index["paths"].items()}

    before = await hashes()
    catalog = api.plane.catalog
    removed = catalog.find("apps", "v1", "deployments")
    assert removed is not None
    catalog.remove("apps", "v1", "deployments")
    after = await hashes()
    assert {path for path in before if before[path] != after[path]} == {"apis/apps/v1"}
    _, document = await api.call("GET", "/openapi/v3/apis/apps/v1")
    assert "io.k8s.api.apps.v1.Deployment" not in document["components"]["schemas"]
    catalog.add(removed)
    assert await hashes() == before


@pytest.mark.asyncio(loop_scope="module")
async def test_version_2_is_of_everything(api: Api) -> None:
    _, document = await api.call("GET", "/openapi/v2")
    assert document["swagger"] == "2.0"
    names = document["definitions"].keys()
    assert {"io.k8s.api.core.v1.Pod", "io.k8s.api.batch.v1.Job"} <= names


async def test_version_2_as_protobuf_says_what_it_says_as_json(tmp_path: Path) -> None:
    async with running_api(tmp_path, parts=[hook_in]) as api:
        catalog = api.plane.catalog
        for one in catalog.all():
            if one.group != "policy":
                catalog.remove(one.group, one.version, one.plural)
        _, document = await api.call("GET", "/openapi/v2")
        described = document["definitions"]["io.k8s.api.policy.v1.PodDisruptionBudgetSpec"]
        assert "selected by" in described["properties"]["minAvailable"]["description"]
        answer = await api.send("GET", "/openapi/v2", headers={"Accept": protobuf.MEDIA})
        assert answer.content_type == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
        assert await answer.read() == protobuf.encode(document)


def test_protobuf_of_a_document() -> None:
    document = {"swagger": "2.0", "paths": {"/a": {"get": {"x-b": [1]}}},
                "definitions": {"T": {"type": "object", "required": ["k"]}}}  # fmt: skip
    extension = b"\x6a\x0c\x0a\x03x-b\x12\x05\x12\x03[1]"
    path = b"\x12\x16\x0a\x02/a\x12\x10\x12\x0e" + extension
    definition = b"\x0a\x14\x0a\x01T\x12\x0f\x9a\x01\x01k\xb2\x01\x08\x0a\x06object"
    assert protobuf.encode(document) == (
        b"\x0a\x032.0" + b"\x42\x18" + path + b"\x4a\x16" + definition
    )


NEW_MODEL = '''
class V1Thing(BaseModel):
    """
    A thing.

    Attributes:
      openapi_types (dict): nothing
    """
    host_ip: Optional[str] = Field(serialization_alias="hostIP", description="IP.")
    name: str = Field(description="Its name.")
    other: Optional[V1Other] = None
'''
OLD_MODEL = '''
class V1Thing(object):
    """NOTE: This class is auto generated by OpenAPI Generator."""

    @property
    def node_name(self):
        """Gets the node_name of this V1Thing.  # noqa: E501

        Its node.  # noqa: E501

        :return: The node_name of this V1Thing.  # noqa: E501
        """
        return self._node_name
'''


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (NEW_MODEL, {"": "A thing.", "hostIP": "IP.", "name": "Its name."}),
        (OLD_MODEL, {"nodeName": "Its node."}),
        ("class (", {}),
    ],
)
def test_descriptions_are_read_from_the_models(source: str, expected: dict[str, str]) -> None:
    assert read_model(source) == expected


def test_types_come_and_go_without_touching_those_of_others() -> None:
    shared = builtin_types()
    mine = shared.copy()
    mine.add({"a.v1.A": {"spec": Field("any")}}, {"a/v1/A": "a.v1.A"})
    assert (mine.of_kind("a/v1", "A"), "a.v1.A" in shared.names()) == ("a.v1.A", False)
    mine.remove(["a.v1.A"], ["a/v1/A"])
    assert mine.names() == shared.names()
    assert Types({}, {}).copy().names() == []
