"""The garbage collector against the API server, whose own does not run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.engine.resources import CONFIG_MAPS, DEFINITIONS, NODES, Object, Resource
from kubeletpy_common.apiclient.client import MERGE_PATCH
from tests.support.cluster import SECONDS, Cluster, cluster

GARBAGE = "garbage-collector-controller"
WIDGETS = Resource("example.test/v1", "widgets", "Widget")
WIDGET_DEFINITION = {
    "metadata": {"name": "widgets.example.test"},
    "spec": {
        "group": "example.test", "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
        "versions": [
            {"name": "v1", "served": True, "storage": True,
             "schema": {"openAPIV3Schema": {"type": "object"}}},
        ],
    },
}  # fmt: skip


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path, controllers=()) as made:
        yield made


def owned(name: str, *owners: Object, blocks: bool = False) -> Object:
    references = [
        {"apiVersion": one.get("apiVersion", "v1"), "kind": one.get("kind", "ConfigMap"),
         "name": one["metadata"]["name"], "uid": one["metadata"]["uid"],
         "blockOwnerDeletion": blocks}
        for one in owners
    ]  # fmt: skip
    return {"metadata": {"name": name, "ownerReferences": references}}


def names(found: list[Object]) -> set[str]:
    of_the_server = {"extension-apiserver-authentication", "cluster-info"}
    return {one["metadata"]["name"] for one in found} - of_the_server


def only(*wanted: str) -> Any:
    return lambda found: names(found) == set(wanted)


def at_most(count: int) -> Any:
    return lambda found: len(names(found)) <= count


async def delete(server: Cluster, name: str, policy: str) -> None:
    await server.client.delete(CONFIG_MAPS.path("default", name), {"propagationPolicy": policy})


async def family(server: Cluster, *, blocks: bool = True) -> list[Object]:
    """Make a grandmother, her daughter and her granddaughter."""
    line = [await server.create(CONFIG_MAPS, {"metadata": {"name": "a"}})]
    for name in "bc":
        line.append(await server.create(CONFIG_MAPS, owned(name, line[-1], blocks=blocks)))
    return line


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
async def test_all_below_goes(server: Cluster, policy: str) -> None:
    await server.start(GARBAGE)
    await family(server)
    stranger = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "gone", "uid": "00000000-0000-0000-0000-000000000001"},
    }
    await server.create(CONFIG_MAPS, {"metadata": {"name": "other"}})
    await server.create(CONFIG_MAPS, owned("orphan", stranger))
    await server.until(CONFIG_MAPS, only("a", "b", "c", "other"))
    order: list[str] = []
    informer = await server.watch(CONFIG_MAPS)
    informer.listen(lambda before, value: order.append(before["metadata"]["name"])
                    if value is None and before is not None else None)  # fmt: skip
    await delete(server, "a", policy)
    await server.until(CONFIG_MAPS, only("other"))
    gone = [name for name in order if name in "abc"]
    # In the foreground an owner stays until those that block it are gone.
    assert gone == (["c", "b", "a"] if policy == "Foreground" else ["a", "b", "c"])


async def test_orphans_stay_and_forget(server: Cluster) -> None:
    await server.start(GARBAGE)
    await family(server)
    await delete(server, "a", "Orphan")
    found = await server.until(CONFIG_MAPS, only("b", "c"))
    owners = {one["metadata"]["name"]: one["metadata"].get("ownerReferences") for one in found}
    assert not owners["b"]
    assert owners["c"][0]["name"] == "b"


async def test_one_owner_is_enough_and_those_that_are_gone_are_forgotten(server: Cluster) -> None:
    await server.start(GARBAGE)
    a = await server.create(CONFIG_MAPS, {"metadata": {"name": "a"}})
    b = await server.create(CONFIG_MAPS, {"metadata": {"name": "b"}})
    await server.create(CONFIG_MAPS, owned("both", a, b))
    await delete(server, "a", "Background")
    found = await server.until(CONFIG_MAPS, lambda found: any(
        len(one["metadata"].get("ownerReferences") or ()) == 1 for one in found))  # fmt: skip
    [both] = [one for one in found if one["metadata"]["name"] == "both"]
    assert [one["name"] for one in both["metadata"]["ownerReferences"]] == ["b"]


async def test_an_owner_elsewhere_or_unknown_decides_nothing_it_may_not(server: Cluster) -> None:
    host = await server.start(GARBAGE)
    mine = await server.create(CONFIG_MAPS, {"metadata": {"name": "a"}})
    # An object of no namespace cannot be owned by one in a namespace: it stays.
    await server.create(NODES, owned("n", mine))
    odd = {"apiVersion": "nowhere.test/v1", "kind": "Thing", "metadata": mine["metadata"]}
    await server.create(CONFIG_MAPS, owned("odd", odd))
    # Another namespace's owner is absent.
    there = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "far"}}
    far = await server.create(CONFIG_MAPS, there, "kube-system")
    await server.create(CONFIG_MAPS, owned("lost", far))
    await server.until(CONFIG_MAPS, lambda found: names(found) == {"a", "odd", "far"})
    assert names(await server.listed(NODES)) == {"n"}
    queue = host.parts[0].queue  # type: ignore[attr-defined]
    assert queue.counts.retried == 0


async def test_custom_resources_are_followed_as_they_come_and_go(server: Cluster) -> None:
    await server.start(GARBAGE)
    await server.create(DEFINITIONS, WIDGET_DEFINITION)
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                widget = await server.create(WIDGETS, {"metadata": {"name": "w"}})
                break
            except Exception:
                await asyncio.sleep(0.02)
    child = await server.create(CONFIG_MAPS, owned("child", widget))
    await server.create(WIDGETS, owned("grandchild", child))
    await server.client.delete(WIDGETS.path("default", "w"))
    await server.until(CONFIG_MAPS, only())
    await server.until(WIDGETS, only())


async def test_an_owner_is_looked_for_as_soon_as_its_kind_is_served(server: Cluster) -> None:
    """Not at the next look at what cannot be understood, half a minute later."""
    await server.start(GARBAGE)
    gone = {
        "apiVersion": "example.test/v1", "kind": "Widget",
        "metadata": {"name": "w", "uid": "00000000-0000-0000-0000-000000000001"},
    }  # fmt: skip
    await server.create(CONFIG_MAPS, owned("child", gone))
    other = {"metadata": {"name": "x", "uid": "00000000-0000-0000-0000-000000000002"}}
    await server.create(CONFIG_MAPS, owned("later", other))
    # By then it has been looked at, too.
    await server.until(CONFIG_MAPS, only("child"))
    await server.create(DEFINITIONS, WIDGET_DEFINITION)
    await server.until(CONFIG_MAPS, only())


async def test_killed_anywhere_it_ends_what_it_began(server: Cluster) -> None:
    host = await server.start(GARBAGE)
    root = await server.create(CONFIG_MAPS, {"metadata": {"name": "root"}})
    for number in range(40):
        await server.create(CONFIG_MAPS, owned(f"c{number}", root, blocks=True))
    await delete(server, "root", "Foreground")
    for left in (35, 20, 5):
        await server.until(CONFIG_MAPS, at_most(left))
        await server.stop(host)
        host = await server.start(GARBAGE)
    await server.until(CONFIG_MAPS, only())


async def test_finalizers_of_others_are_waited_for(server: Cluster) -> None:
    await server.start(GARBAGE)
    root = await server.create(CONFIG_MAPS, {"metadata": {"name": "root"}})
    held = owned("held", root, blocks=True)
    held["metadata"]["finalizers"] = ["example.test/held"]
    await server.create(CONFIG_MAPS, held)
    await delete(server, "root", "Foreground")
    await server.until(CONFIG_MAPS, lambda found: any(
        "deletionTimestamp" in one["metadata"] for one in found
        if one["metadata"]["name"] == "held"))  # fmt: skip
    assert names(await server.listed(CONFIG_MAPS)) == {"root", "held"}
    path = CONFIG_MAPS.path("default", "held")
    await server.client.patch(path, {"metadata": {"finalizers": None}}, kind=MERGE_PATCH)
    await server.until(CONFIG_MAPS, only())
