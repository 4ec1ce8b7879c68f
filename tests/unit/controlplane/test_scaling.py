from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane import scaling
from controlplane.kinds.strategies import STRATEGIES
from tests.unit.controlplane.server.client import Api, running_api

CORE = "/api/v1/namespaces/default"
APPS = "/apis/apps/v1/namespaces/default"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
SCALE = {"apiVersion": "autoscaling/v1", "kind": "Scale"}


def workload(**spec: Any) -> dict[str, Any]:
    pod = {"containers": [{"name": "c", "image": "i"}]}
    template = {"metadata": {"labels": {"app": "x", "b": "y"}}, "spec": pod}
    return {"spec": {"template": template, **spec}}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path, strategies=STRATEGIES, parts=[scaling.install]) as made:
        yield made


@pytest.mark.parametrize(
    ("path", "spec", "selector"),
    [
        (f"{APPS}/deployments", {"selector": {"matchLabels": {"b": "y", "app": "x"}}}, "app=x,b=y"),
        (f"{APPS}/replicasets", {"selector": {"matchLabels": {"app": "x"}}}, "app=x"),
        (
            f"{APPS}/statefulsets",
            {"selector": {"matchExpressions": [{"key": "b", "operator": "Exists"}]}},
            "b",
        ),
        (f"{CORE}/replicationcontrollers", {}, "app=x,b=y"),
    ],
)
async def test_a_scale_is_read_and_written(
    api: Api, path: str, spec: dict[str, Any], selector: str
) -> None:
    made = await api.make("a", path, **workload(**spec))
    status, scale = await api.call("GET", f"{path}/a/scale")
    assert (status, scale["spec"]) == (200, {"replicas": 1})
    assert scale["status"] == {"replicas": 0, "selector": selector}
    assert scale["metadata"]["uid"] == made["metadata"]["uid"]
    sent = {**scale, "spec": {"replicas": 3}}
    status, changed = await api.call("PUT", f"{path}/a/scale", sent)
    assert (status, changed["spec"]) == (200, {"replicas": 3})
    value = (await api.call("GET", f"{path}/a"))[1]
    assert (value["spec"]["replicas"], value["metadata"]["generation"]) == (3, 2)
    books = [m for m in value["metadata"]["managedFields"] if m.get("subresource") == "scale"]
    assert [m["fieldsV1"] for m in books] == [{"f:spec": {"f:replicas": {}}}]
    assert (await api.call("PUT", f"{path}/a/scale", sent))[0] == 409


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        (MERGE, {"spec": {"replicas": 0}}),
        (STRATEGIC, {"spec": {"replicas": 0}}),
        (JSON_PATCH, [{"op": "replace", "path": "/spec/replicas", "value": 0}]),
    ],
)
async def test_patches_of_a_scale(api: Api, kind: str, patch: Any) -> None:
    await api.make("a", f"{CORE}/replicationcontrollers", **workload())
    path = f"{CORE}/replicationcontrollers/a/scale"
    status, scale = await api.call("PATCH", path, patch, kind=kind)
    assert (status, scale["spec"]) == (200, {})


@pytest.mark.parametrize(
    ("scale", "code"),
    [
        ({**SCALE, "spec": {"replicas": -1}}, 422),
        ({**SCALE, "spec": {"replicas": "x"}}, 400),
        ({"apiVersion": "v1", "kind": "Pod"}, 400),
        ({**SCALE, "metadata": {"name": "b"}, "spec": {"replicas": 1}}, 400),
        ({**SCALE, "metadata": {"uid": "other"}, "spec": {"replicas": 2}}, 409),
    ],
)
async def test_bad_scales_are_refused(api: Api, scale: dict[str, Any], code: int) -> None:
    await api.make("a", f"{CORE}/replicationcontrollers", **workload())
    path = f"{CORE}/replicationcontrollers/a/scale"
    status, error = await api.call("PUT", path, scale)
    assert (status, error["kind"]) == (code, "Status")
    assert (await api.call("GET", path))[1]["spec"] == {"replicas": 1}


async def test_who_applies_a_scale_owns_the_replicas(api: Api) -> None:
    path = f"{CORE}/replicationcontrollers/a"
    await api.make("a", f"{CORE}/replicationcontrollers", **workload(replicas=1))
    config = {**SCALE, "spec": {"replicas": 4}}
    status, error = await api.call("PATCH", f"{path}/scale?fieldManager=hpa", config, kind=APPLY)
    assert (status, error["details"]["causes"][0]["field"]) == (409, ".spec.replicas")
    forced = f"{path}/scale?fieldManager=hpa&force=true"
    status, scale = await api.call("PATCH", forced, config, kind=APPLY)
    assert (status, scale["kind"], scale["spec"]) == (200, "Scale", {"replicas": 4})
    books = (await api.call("GET", path))[1]["metadata"]["managedFields"]
    mine = next(one for one in books if one["manager"] == "hpa")
    assert (mine["operation"], mine["subresource"]) == ("Apply", "scale")
    assert mine["fieldsV1"] == {"f:spec": {"f:replicas": {}}}


async def test_a_table_of_a_scale(api: Api) -> None:
    await api.make("a", f"{CORE}/replicationcontrollers", **workload())
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    path = f"{CORE}/replicationcontrollers/a/scale"
    _, table = await api.call("GET", path, headers=accept)
    assert table["rows"][0]["cells"][:3] == ["a", 1, 0]
