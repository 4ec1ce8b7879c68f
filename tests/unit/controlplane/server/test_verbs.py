from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.auth.authorization.attributes import Attributes
from controlplane.kinds.strategies import STRATEGIES
from tests.unit.controlplane.server.client import MAPS, PODS, Api, running_api

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path) as made:
        yield made


def pod(**spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "a", "image": "b"}], **spec}}


async def test_an_object_from_its_making_to_its_end(api: Api) -> None:
    made = await api.make("a", data={"x": "1"})
    meta = made["metadata"]
    assert (made["kind"], made["apiVersion"]) == ("ConfigMap", "v1")
    assert meta["namespace"] == "default"
    assert len(meta["uid"]) == 36
    assert meta["resourceVersion"] == "1"
    assert await api.call("GET", f"{MAPS}/a") == (200, made)
    status, changed = await api.call("PUT", f"{MAPS}/a", {**made, "data": {"x": "2"}})
    assert (status, changed["data"], changed["metadata"]["uid"]) == (200, {"x": "2"}, meta["uid"])
    status, gone = await api.call("DELETE", f"{MAPS}/a")
    assert (status, gone["status"], gone["details"]["name"]) == (200, "Success", "a")
    status, error = await api.call("GET", f"{MAPS}/a")
    assert (status, error["reason"]) == (404, "NotFound")
    assert error["message"] == 'configmaps "a" not found'
    assert error["details"] == {"name": "a", "kind": "configmaps"}


async def test_names(api: Api) -> None:
    await api.make("a")
    status, error = await api.call("POST", MAPS, {"metadata": {"name": "a"}})
    assert (status, error["reason"]) == (409, "AlreadyExists")
    made = [await api.call("POST", MAPS, {"metadata": {"generateName": "g-"}}) for _ in range(3)]
    names = {value["metadata"]["name"] for _, value in made}
    assert len(names) == 3
    assert all(name.startswith("g-") and len(name) == 7 for name in names)
    for meta in ({}, {"name": "Upper"}, {"name": "a" * 254}, {"name": "a", "namespace": "x"}):
        status, error = await api.call("POST", MAPS, {"metadata": meta})
        assert status in (400, 422), error
        assert "name" in error["message"]


LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"


class NoCreation:
    """Allows all but creations."""

    def authorize(self, wanted: Attributes) -> tuple[bool, str]:
        return wanted.verb != "create", "for a test"


async def test_an_update_makes_objects_of_some_kinds(tmp_path: Path) -> None:
    lease = {"metadata": {"name": "a"}, "spec": {"holderIdentity": "x", "leaseDurationSeconds": 1}}
    async with running_api(tmp_path, strategies=STRATEGIES) as api:
        status, made = await api.call("PUT", f"{LEASES}/a", lease)
        assert (status, made["spec"]) == (201, lease["spec"])
        assert (await api.call("PUT", f"{LEASES}/a", made))[0] == 200
        status, error = await api.call("PUT", f"{LEASES}/b", lease)
        assert (status, "does not match the name on the URL" in error["message"]) == (400, True)
        assert (await api.call("PUT", f"{MAPS}/a", {"metadata": {"name": "a"}}))[0] == 404
        # Who may change and not create makes nothing by a change, nor by an apply.
        api.plane.authorizer = NoCreation()
        lease["metadata"] = {"name": "c"}
        assert (await api.call("PUT", f"{LEASES}/c", lease))[0] == 403
        applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
        path = f"{MAPS}/c?fieldManager=me"
        status, error = await api.call("PATCH", path, applied, kind=APPLY)
        assert (status, error["reason"]) == (403, "Forbidden")
        assert (await api.call("GET", f"{MAPS}/c"))[0] == 404


async def test_an_update_for_an_old_version_is_refused(api: Api) -> None:
    made = await api.make("a", data={"x": "1"})
    await api.call("PUT", f"{MAPS}/a", {**made, "data": {"x": "2"}})
    status, error = await api.call("PUT", f"{MAPS}/a", {**made, "data": {"x": "3"}})
    assert (status, error["reason"]) == (409, "Conflict")
    assert "the object has been modified" in error["message"]
    unpinned = {"metadata": {"name": "a"}, "data": {"x": "4"}}
    assert (await api.call("PUT", f"{MAPS}/a", unpinned))[0] == 200
    wrong = {"metadata": {"name": "a", "uid": "other"}}
    assert (await api.call("PUT", f"{MAPS}/a", wrong))[0] == 409


async def test_writers_at_once_lose_no_change(api: Api) -> None:
    await api.make("a")

    async def add(key: str) -> None:
        patch = {"data": {key: "x"}}
        status, value = await api.call("PATCH", f"{MAPS}/a", patch, kind=MERGE)
        assert status == 200, value

    await asyncio.gather(*(add(f"k{number}") for number in range(20)))
    _, value = await api.call("GET", f"{MAPS}/a")
    assert len(value["data"]) == 20


async def test_patches_of_each_kind(api: Api) -> None:
    await api.make("p", PODS, **pod())
    for kind, patch in (
        (MERGE, {"metadata": {"labels": {"m": "1"}}}),
        (STRATEGIC, {"spec": {"containers": [{"name": "a", "image": "c"}]}}),
        (JSON_PATCH, [{"op": "add", "path": "/metadata/labels/j", "value": "1"}]),
    ):
        status, value = await api.call("PATCH", f"{PODS}/p", patch, kind=kind)
        assert status == 200, value
    assert value["metadata"]["labels"] == {"m": "1", "j": "1"}
    assert value["spec"]["containers"] == [{"name": "a", "image": "c"}]
    for kind, wrong in (
        (MERGE, []),
        (STRATEGIC, []),
        (JSON_PATCH, {}),
        (JSON_PATCH, [{"op": "explode"}]),
        (JSON_PATCH, [{"op": "remove", "path": "/none"}]),
        ("application/json", {}),
    ):
        status, error = await api.call("PATCH", f"{PODS}/p", wrong, kind=kind)
        assert status in (400, 415, 422), error


async def test_server_side_apply_makes_and_changes(api: Api) -> None:
    path = f"{MAPS}/s?fieldManager=one"
    config = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1", "b": "1"}}
    status, made = await api.call("PATCH", path, config, kind=APPLY)
    assert (status, made["data"]) == (201, {"a": "1", "b": "1"})
    (entry,) = made["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("one", "Apply")
    status, changed = await api.call("PATCH", path, {**config, "data": {"a": "2"}}, kind=APPLY)
    assert (status, changed["data"]) == (200, {"a": "2"})
    status, same = await api.call("PATCH", path, {**config, "data": {"a": "2"}}, kind=APPLY)
    assert same == changed, "an apply that changes nothing writes nothing"
    other = f"{MAPS}/s?fieldManager=two"
    status, error = await api.call("PATCH", other, {**config, "data": {"a": "3"}}, kind=APPLY)
    assert (status, error["reason"]) == (409, "Conflict")
    assert error["details"]["causes"][0]["field"] == ".data.a"
    forced = f"{other}&force=true"
    status, value = await api.call("PATCH", forced, {**config, "data": {"a": "3"}}, kind=APPLY)
    assert (status, value["data"]) == (200, {"a": "3"})
    status, error = await api.call("PATCH", f"{MAPS}/s", config, kind=APPLY)
    assert status == 400
    assert "fieldManager is required" in error["message"]


async def test_status_and_the_rest_are_written_apart(api: Api) -> None:
    await api.make("p", PODS, **pod(), status={"phase": "Running"})
    status = {"status": {"phase": "Failed"}, "spec": {"nodeName": "x"}}
    code, value = await api.call("PATCH", f"{PODS}/p/status", status, kind=MERGE)
    assert (code, value["status"]["phase"]) == (200, "Failed")
    assert "nodeName" not in value["spec"]
    assert value["metadata"]["generation"] == 1
    code, value = await api.call(
        "PATCH",
        f"{PODS}/p",
        {"status": {"phase": "Running"}, "spec": {"nodeName": "n"}},
        kind=MERGE,
    )
    assert (value["status"]["phase"], value["spec"]["nodeName"]) == ("Failed", "n")
    assert value["metadata"]["generation"] == 2
    managers = {
        (m["operation"], m.get("subresource", "")) for m in value["metadata"]["managedFields"]
    }
    assert managers == {("Update", ""), ("Update", "status")}


async def test_a_deletion_waits_for_grace_and_finalizers(api: Api) -> None:
    await api.make("p", PODS, **pod())
    code, value = await api.call("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 20})
    assert (code, value["metadata"]["deletionGracePeriodSeconds"]) == (200, 20)
    code, value = await api.call("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 60})
    assert value["metadata"]["deletionGracePeriodSeconds"] == 20, "it never becomes later"
    assert (await api.call("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 0}))[0] == 200
    assert (await api.call("GET", f"{PODS}/p"))[0] == 404
    await api.make("f", metadata={"finalizers": ["example.com/x"]})
    code, value = await api.call("DELETE", f"{MAPS}/f")
    assert "deletionTimestamp" in value["metadata"]
    more = {"metadata": {"finalizers": ["example.com/x", "example.com/y"]}}
    assert (await api.call("PATCH", f"{MAPS}/f", more, kind=MERGE))[0] == 422
    await api.call("PATCH", f"{MAPS}/f", {"metadata": {"finalizers": None}}, kind=MERGE)
    assert (await api.call("GET", f"{MAPS}/f"))[0] == 404


async def test_preconditions_and_propagation_of_deletions(api: Api) -> None:
    made = await api.make("a")
    wrong = {"preconditions": {"uid": "other"}}
    assert (await api.call("DELETE", f"{MAPS}/a", wrong))[0] == 409
    _, value = await api.call("DELETE", f"{MAPS}/a?propagationPolicy=Foreground")
    assert value["metadata"]["finalizers"] == ["foregroundDeletion"]
    await api.make("b")
    _, value = await api.call("DELETE", f"{MAPS}/b?propagationPolicy=Orphan")
    assert value["metadata"]["finalizers"] == ["orphan"]
    assert (await api.call("DELETE", f"{MAPS}/b?propagationPolicy=Nobody"))[0] == 400
    good = {"preconditions": {"uid": made["metadata"]["uid"]}}
    assert (await api.call("DELETE", f"{MAPS}/a", good))[0] == 200


async def test_dry_runs_keep_nothing(api: Api) -> None:
    made = await api.make("a", data={"x": "1"})
    status, value = await api.call("POST", f"{MAPS}?dryRun=All", {"metadata": {"name": "d"}})
    assert (status, value["metadata"]["name"]) == (201, "d")
    await api.call("PATCH", f"{MAPS}/a?dryRun=All", {"data": {"x": "2"}}, kind=MERGE)
    await api.call("DELETE", f"{MAPS}/a?dryRun=All")
    assert api.store.revision == 1
    assert await api.call("GET", f"{MAPS}/a") == (200, made)
    assert (await api.call("POST", f"{MAPS}?dryRun=Some", {"metadata": {"name": "d"}}))[0] == 400


async def test_fields_that_a_kind_does_not_have(api: Api) -> None:
    body = {"metadata": {"name": "a"}, "date": {}}
    status, error = await api.call("POST", f"{MAPS}?fieldValidation=Strict", body)
    assert status == 400
    assert error["message"] == 'strict decoding error: unknown field "date"'
    answer = await api.send("POST", f"{MAPS}?fieldValidation=Warn", body)
    assert answer.status == 201
    assert answer.headers["Warning"] == '299 - "unknown field \\"date\\""'
    ignored = {**body, "metadata": {"name": "b"}}
    answer = await api.send("POST", f"{MAPS}?fieldValidation=Ignore", ignored)
    assert "Warning" not in answer.headers
    status, error = await api.call("POST", MAPS, {"metadata": {"name": 5}})
    assert status == 400
    assert "metadata.name: must be a string, not 5" in error["message"]


async def test_collections_are_deleted_by_selector(api: Api) -> None:
    for name in ("a", "b", "c"):
        await api.make(name, metadata={"labels": {"l": name}})
    status, value = await api.call("DELETE", f"{MAPS}?labelSelector=l!=b")
    assert (status, [item["metadata"]["name"] for item in value["items"]]) == (200, ["a", "c"])
    _, left = await api.call("GET", MAPS)
    assert [item["metadata"]["name"] for item in left["items"]] == ["b"]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/nothings", 404), ("GET", "/apis/none/v1/x", 404), ("GET", "/nothing", 404),
        ("POST", "/api/v1/pods", 400), ("PUT", MAPS, 405), ("GET", f"{MAPS}?limit=x", 400),
        ("GET", f"{MAPS}?continue=xyz", 400), ("GET", f"{MAPS}?resourceVersion=x", 400),
        ("GET", f"{MAPS}?resourceVersion=999", 504), ("GET", f"{MAPS}?labelSelector=a=b=c", 400),
        ("GET", f"{MAPS}?fieldSelector=data.x=1", 400), ("POST", "/healthz", 405),
        ("GET", f"{MAPS}/a/nothing", 404), ("TRACE", MAPS, 405),
        ("GET", f"{PODS}?watch=1&resourceVersion=99", 504),
    ],
)  # fmt: skip
async def test_requests_that_make_no_sense(api: Api, method: str, path: str, code: int) -> None:
    status, error = await api.call(method, path)
    assert (status, error["kind"], error["status"]) == (code, "Status", "Failure")


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b"{", "application/json", 400), (b"\xff", "application/json", 400),
        (b"[" * 100_000, "application/json", 400), (b"a: *b", "application/yaml", 400),
        (b"a: &x [1]\nb: *x", "application/yaml", 400), (b"{a: .inf}", "application/yaml", 400),
        (b"x" * (4 << 20), "application/json", 413), (b"<a/>", "text/xml", 415),
        (b"k8s\x00\xff\xff", "application/vnd.kubernetes.protobuf", 400),
        (b"nothing", "application/vnd.kubernetes.protobuf", 400), (b"[]", "application/json", 400),
        (b'{"kind":"Pod"}', "application/json", 400), (b"null", "application/json", 400),
    ],
)  # fmt: skip
async def test_bodies_that_are_no_objects(api: Api, body: bytes, kind: str, code: int) -> None:
    status, error = await api.call("POST", MAPS, body, kind=kind)
    assert (status, error["kind"]) == (code, "Status"), error


async def test_bodies_in_yaml_and_protobuf(api: Api) -> None:
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\ndata: {a: '1'}\n"
    status, value = await api.call("POST", MAPS, text, kind="application/yaml")
    assert (status, value["data"]) == (201, {"a": "1"})

    def part(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    meta = part(1, b"p") + part(8, b"")
    entry = part(1, b"k") + part(2, b"v")
    envelope = part(1, part(1, b"v1") + part(2, b"ConfigMap"))
    body = b"k8s\x00" + envelope + part(2, part(1, meta) + part(2, entry))
    status, value = await api.call("POST", MAPS, body, kind="application/vnd.kubernetes.protobuf")
    assert status == 201, value
    assert (value["metadata"]["name"], value["data"]) == ("p", {"k": "v"})
