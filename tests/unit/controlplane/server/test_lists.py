from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientResponse

from tests.unit.controlplane.server.client import MAPS, PODS, Api, running_api
from tests.unit.controlplane.server.test_verbs import MERGE, pod


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path) as made:
        yield made


def names(value: dict[str, Any]) -> list[str]:
    return [item["metadata"]["name"] for item in value["items"]]


async def events(answer: ClientResponse, number: int) -> list[tuple[str, dict[str, Any]]]:
    async def read() -> list[tuple[str, dict[str, Any]]]:
        found = []
        async for line in answer.content:
            event = json.loads(line)
            found.append((event["type"], event["object"]))
            if len(found) == number:
                break
        return found

    return await asyncio.wait_for(read(), 10)


async def test_lists_in_a_namespace_and_in_all(api: Api) -> None:
    for name in ("b", "a"):
        await api.make(name)
    await api.make("c", "/api/v1/namespaces/other/configmaps")
    status, value = await api.call("GET", MAPS)
    assert (status, value["kind"], value["apiVersion"]) == (200, "ConfigMapList", "v1")
    assert names(value) == ["a", "b"]
    assert value["metadata"] == {"resourceVersion": "3"}
    assert names((await api.call("GET", "/api/v1/configmaps"))[1]) == ["a", "b", "c"]
    by_name = "/api/v1/configmaps?fieldSelector=metadata.name=c,metadata.namespace=other"
    assert names((await api.call("GET", by_name))[1]) == ["c"]


async def test_selectors(api: Api) -> None:
    for name, node in (("a", "n1"), ("b", "n2"), ("c", "")):
        await api.make(name, PODS, metadata={"labels": {"l": name}}, **pod(nodeName=node))
    for query, expected in (
        ("labelSelector=l in (a,b)", ["a", "b"]), ("fieldSelector=spec.nodeName=n2", ["b"]),
        ("fieldSelector=spec.nodeName!=n2&labelSelector=l!=a", ["c"]),
        ("fieldSelector=metadata.name=a", ["a"]), ("labelSelector=none", []),
    ):  # fmt: skip
        assert names((await api.call("GET", f"{PODS}?{query}"))[1]) == expected


async def test_pieces_of_a_list_are_of_one_time(api: Api) -> None:
    for number in range(7):
        await api.make(f"m{number}", metadata={"labels": {"odd": str(number % 2)}})
    _, first = await api.call("GET", f"{MAPS}?limit=3")
    assert (names(first), first["metadata"]["remainingItemCount"]) == (["m0", "m1", "m2"], 4)
    await api.make("m21")
    await api.call("DELETE", f"{MAPS}/m6")
    token = first["metadata"]["continue"]
    _, second = await api.call("GET", f"{MAPS}?limit=3&continue={token}")
    token = second["metadata"]["continue"]
    _, third = await api.call("GET", f"{MAPS}?limit=3&continue={token}")
    assert names(second) + names(third) == ["m3", "m4", "m5", "m6"]
    assert third["metadata"] == {"resourceVersion": "7"}
    _, odd = await api.call("GET", f"{MAPS}?limit=2&labelSelector=odd=1")
    assert names(odd) == ["m1", "m3"]
    assert "remainingItemCount" not in odd["metadata"]
    token = odd["metadata"]["continue"]
    _, rest = await api.call("GET", f"{MAPS}?limit=2&labelSelector=odd=1&continue={token}")
    assert names(rest) == ["m5"]


async def test_lists_of_an_earlier_version(api: Api, tmp_path: Path) -> None:
    await api.make("a")
    await api.make("b")
    query = "resourceVersion=1&resourceVersionMatch=Exact"
    assert names((await api.call("GET", f"{MAPS}?{query}"))[1]) == ["a"]
    query = "resourceVersion=1&resourceVersionMatch=NotOlderThan"
    assert names((await api.call("GET", f"{MAPS}?{query}"))[1]) == ["a", "b"]
    assert (await api.call("GET", f"{MAPS}?resourceVersionMatch=Exact"))[0] == 400
    (tmp_path / "short").mkdir()
    async with running_api(tmp_path / "short", keep=2) as short:
        for number in range(5):
            await short.make(f"m{number}")
        query = "resourceVersion=1&resourceVersionMatch=Exact"
        status, error = await short.call("GET", f"{MAPS}?{query}")
        assert (status, error["reason"]) == (410, "Expired")
        status, error = await short.call("GET", f"{MAPS}?watch=1&resourceVersion=1")
        assert (status, error["reason"]) == (410, "Expired")


async def test_a_watch_tells_every_change(api: Api) -> None:
    await api.make("before")
    answer = await api.send("GET", f"{MAPS}?watch=1&resourceVersion=1")
    await api.make("a", data={"x": "1"})
    await api.call("PATCH", f"{MAPS}/a", {"data": {"x": "2"}}, kind=MERGE)
    await api.call("DELETE", f"{MAPS}/a")
    found = await events(answer, 3)
    assert [kind for kind, _ in found] == ["ADDED", "MODIFIED", "DELETED"]
    assert [o["metadata"]["resourceVersion"] for _, o in found] == ["2", "3", "4"]
    assert found[2][1]["data"] == {"x": "2"}
    answer.close()


async def test_a_watch_with_a_selector_tells_who_comes_and_goes(api: Api) -> None:
    await api.make("a")
    answer = await api.send("GET", f"{MAPS}?watch=1&labelSelector=in&resourceVersion=1")
    for labels in ({"in": "1"}, {"in": "2"}, {"in": None}):
        await api.call("PATCH", f"{MAPS}/a", {"metadata": {"labels": labels}}, kind=MERGE)
    found = await events(answer, 3)
    assert [kind for kind, _ in found] == ["ADDED", "MODIFIED", "DELETED"]
    answer.close()


async def test_a_watch_that_begins_with_what_is_there(api: Api) -> None:
    await api.make("a")
    await api.make("b")
    query = (
        "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    )
    answer = await api.send("GET", f"{MAPS}?{query}")
    found = await events(answer, 3)
    assert [kind for kind, _ in found] == ["ADDED", "ADDED", "BOOKMARK"]
    meta = found[2][1]["metadata"]
    assert meta["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert meta["resourceVersion"] == "2"
    await api.make("c")
    assert (await events(answer, 1))[0][0] == "ADDED"
    answer.close()
    plain = await api.send("GET", f"{MAPS}?watch=1&resourceVersion=0")
    assert [kind for kind, _ in await events(plain, 3)] == ["ADDED"] * 3
    plain.close()
    assert (await api.call("GET", f"{MAPS}?watch=1&sendInitialEvents=true"))[0] == 400


@pytest.mark.slow
async def test_a_watch_ends_when_its_time_is_over(api: Api) -> None:
    answer = await api.send("GET", f"{MAPS}?watch=1&timeoutSeconds=1")
    assert await asyncio.wait_for(answer.read(), 10) == b""


async def test_tables_metadata_and_yaml(api: Api) -> None:
    await api.make("a", data={"x": "1"})
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
    _, table = await api.call("GET", MAPS, headers=accept)
    assert table["kind"] == "Table"
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Age"]
    assert table["rows"][0]["cells"][0] == "a"
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    _, one = await api.call("GET", f"{MAPS}/a?includeObject=Object", headers=accept)
    assert one["rows"][0]["object"]["data"] == {"x": "1"}
    one = {"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}
    status, refused = await api.call("GET", MAPS, headers=one)
    assert (status, refused["reason"]) == (406, "NotAcceptable")
    assert "the requested object is a list" in refused["message"]
    accept = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
    status, _ = await api.call("GET", f"{MAPS}/a", headers=accept)
    assert status == 406
    _, partial = await api.call("GET", MAPS, headers=accept)
    assert partial["kind"] == "PartialObjectMetadataList"
    assert "data" not in partial["items"][0]
    answer = await api.send("GET", f"{MAPS}/a", headers={"Accept": "application/yaml"})
    assert yaml.safe_load(await answer.read())["data"] == {"x": "1"}
    answer = await api.send("GET", MAPS, headers={"Accept": "application/vnd.unknown"})
    assert answer.status == 406


async def test_discovery(api: Api) -> None:
    _, core = await api.call("GET", "/api/v1")
    pods = next(entry for entry in core["resources"] if entry["name"] == "pods")
    assert (pods["kind"], pods["shortNames"], pods["namespaced"]) == ("Pod", ["po"], True)
    assert "pods/status" in [entry["name"] for entry in core["resources"]]
    _, groups = await api.call("GET", "/apis")
    scaling = next(group for group in groups["groups"] if group["name"] == "autoscaling")
    assert scaling["preferredVersion"]["version"] == "v2"
    assert (await api.call("GET", "/apis/apps"))[1]["name"] == "apps"
    assert (await api.call("GET", "/apis/apps/v1"))[1]["groupVersion"] == "apps/v1"
    accept = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    _, everything = await api.call("GET", "/apis", headers=accept)
    assert everything["kind"] == "APIGroupDiscoveryList"
    assert (await api.call("GET", "/version"))[1]["major"] == "1"
