"""Garbage collection: the graph and the decisions, and all of it on a store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from controlplane import builtin
from controlplane.controllers.garbage.decisions import Decision, State, decide
from controlplane.controllers.garbage.graph import Graph, Node, Owner
from controlplane.kinds.strategies import STRATEGIES
from tests.unit.controlplane.server.client import JSON, Api, running_api

SOLID, WAITING, ABSENT, UNKNOWN = State.SOLID, State.WAITING, State.ABSENT, State.UNKNOWN


def owner(uid: str, *, blocks: bool = False) -> Owner:
    return Owner("v1", "ConfigMap", uid, uid, blocks)


def node(uid: str, *owners: Owner, deleted: str | None = None) -> Node:
    """Make a node; ``deleted`` names the finalizer with which, "" for none."""
    finalizers = (deleted,) if deleted else ()
    return Node(f"/core/configmaps/n/{uid}", uid, owners, deleted is not None, finalizers)


FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
MINE = node("m", owner("a"), owner("b"))


@pytest.mark.parametrize(
    ("item", "dependents", "owners", "expected"),
    [
        (node("m"), [node("d", owner("m"))], {}, Decision()),
        (MINE, [], {"a": SOLID, "b": SOLID}, Decision()),
        (MINE, [], {"a": SOLID, "b": ABSENT}, Decision(forget=frozenset("b"))),
        (MINE, [], {"a": SOLID, "b": WAITING}, Decision(forget=frozenset("b"))),
        (MINE, [], {"a": ABSENT, "b": ABSENT}, Decision(delete="Background")),
        (MINE, [], {"a": ABSENT, "b": UNKNOWN}, Decision(later=True)),
        (MINE, [], {"a": WAITING, "b": ABSENT}, Decision(delete="Background")),
        (MINE, [node("d", owner("m"))], {"a": WAITING}, Decision(delete="Foreground")),
        (
            MINE,
            [node("d", owner("m"), deleted=FOREGROUND)],
            {"a": WAITING},
            Decision(delete="Foreground", unblock=True),
        ),
        (
            Node("k", "m", (owner("a"),), False, (ORPHAN,)),
            [],
            {"a": ABSENT},
            Decision(delete="Orphan"),
        ),
        # Deleted, and held by something else: its end is waited for.
        (node("m", owner("a"), deleted="x/y"), [], {"a": ABSENT}, Decision()),
        (
            node("m", deleted=ORPHAN),
            [node("d", owner("m"))],
            {},
            Decision(orphan=("d",), release=ORPHAN),
        ),
        (node("m", deleted=FOREGROUND), [], {}, Decision(release=FOREGROUND)),
        # Only dependents that block are waited for.
        (
            node("m", deleted=FOREGROUND),
            [node("d", owner("m"))],
            {},
            Decision(release=FOREGROUND),
        ),
        (
            node("m", deleted=FOREGROUND),
            [
                node("d", owner("m", blocks=True)),
                node("e", owner("m", blocks=True), deleted=FOREGROUND),
            ],
            {},
            Decision(look=("d",)),
        ),
    ],
)  # fmt: skip
def test_decisions(
    item: Node, dependents: list[Node], owners: dict[str, State], expected: Decision
) -> None:
    assert decide(item, dependents, owners) == expected


def test_graph_tells_what_to_look_at() -> None:
    graph = Graph()
    steps: list[tuple[str, Node | None, list[str]]] = [
        # A dependent may come before its owner is known.
        ("d", node("d", owner("o", blocks=True)), ["d"]),
        ("o", node("o"), []),
        ("d", node("d", owner("o", blocks=True)), []),
        ("o", node("o", deleted=FOREGROUND), ["o", "d"]),
        # It blocks no longer, and is then gone.
        ("d", node("d", owner("o")), ["d", "o"]),
        ("d", None, ["o"]),
        ("o", None, []),
        ("e", node("e", owner("p")), ["e"]),
        ("p", node("p", deleted=ORPHAN), ["p"]),
        ("e", node("e"), []),
        ("p", None, []),
        # Another object under the name of one whose dependents are left.
        ("f", node("f", owner("q")), ["f"]),
        ("x", Node("/core/configmaps/n/x", "q"), []),
        ("x", Node("/core/configmaps/n/x", "r"), ["f"]),
    ]
    for index, (key, value, expected) in enumerate(steps):
        path = f"/core/configmaps/n/{key}"
        assert sorted(graph.change(path, value)) == sorted(expected), index
    assert [one.uid for one in graph.dependents("q")] == ["f"]
    assert graph.dependents("o") == []


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # For clients of old: dependents stay where a deletion does not say what becomes of them.
        ("batch/jobs", "Orphan"),
        ("/replicationcontrollers", "Orphan"),
        ("batch/cronjobs", "Background"),
        ("apps/deployments", "Background"),
    ],
)
def test_what_becomes_of_dependents_by_default(kind: str, expected: str) -> None:
    assert STRATEGIES[kind].propagation == expected


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path, strategies={}, parts=[builtin.install]) as running:
        yield running


async def until(api: Api, done: Callable[[], bool]) -> None:
    """Wait for the store to be as wanted; look at it after every write."""
    async with asyncio.timeout(10):
        watch = api.store.watch("/", api.store.revision)
        while not done():
            await watch.wait()
            watch.take()
        watch.close()


def reference(made: dict[str, Any], **more: Any) -> dict[str, Any]:
    meta = made["metadata"]
    return {
        "apiVersion": "v1",
        "kind": made["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
        **more,
    }


MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.mark.parametrize("policy", ["Background", "Foreground", "Orphan"])
async def test_policies(api: Api, policy: str) -> None:
    top = await api.make("top")
    owners = [reference(top, blockOwnerDeletion=True)]
    middle = await api.make("middle", metadata={"ownerReferences": owners})
    below = [reference(middle, blockOwnerDeletion=True)]
    await api.make("leaf", metadata={"ownerReferences": below, "finalizers": ["example.com/hold"]})
    status, _ = await api.call("DELETE", f"{MAPS}/top", {"propagationPolicy": policy})
    assert status == 200

    def there(name: str) -> Any:
        item = api.store.get(f"/core/configmaps/default/{name}")
        return None if item is None else item.value

    if policy == "Orphan":
        await until(api, lambda: there("top") is None)
        _, value = await api.call("GET", f"{MAPS}/middle")
        assert "ownerReferences" not in value["metadata"]
        assert "deletionTimestamp" not in value["metadata"]
        return
    await until(api, lambda: b"deletionTimestamp" in there("leaf"))
    # In the foreground an owner stays for as long as what blocks it.
    assert (there("top") is not None) is (policy == "Foreground")
    assert (there("middle") is not None) is (policy == "Foreground")
    patch = {"metadata": {"finalizers": None}}
    await api.call("PATCH", f"{MAPS}/leaf", patch, kind="application/merge-patch+json")
    await until(api, lambda: not any(there(name) for name in ("top", "middle", "leaf")))


async def test_owners_that_are_not_there(api: Api) -> None:
    _, node_made = await api.call("POST", "/api/v1/nodes", {"metadata": {"name": "n"}})
    other = await api.make("owner", "/api/v1/namespaces/kube-system/configmaps")
    gone = {"apiVersion": "v1", "kind": "ConfigMap", "name": "no", "uid": "u"}
    odd = {"apiVersion": "example.com/v1", "kind": "Odd", "name": "no", "uid": "v"}
    for name, owners in {
        "of-node": [reference(node_made)],
        "of-none": [gone],
        "of-other-namespace": [reference(other)],
        "of-unknown-kind": [gone, odd],
        "of-both": [reference(node_made), gone],
    }.items():
        await api.make(name, metadata={"ownerReferences": owners})

    def names() -> set[str]:
        items = api.store.read("/core/configmaps/default/").items
        return {item.key.rpartition("/")[2] for item in items}

    left = {"of-node", "of-unknown-kind", "of-both"}
    await until(api, lambda: names() == left)

    def referred() -> bool:
        item = api.store.get("/core/configmaps/default/of-both")
        return item is not None and b'"uid":"u"' in item.value

    await until(api, lambda: not referred())
    # An object in no namespace cannot be owned by one in a namespace: nothing happens to it.
    status, _ = await api.call(
        "POST",
        "/api/v1/nodes",
        {"metadata": {"name": "m", "ownerReferences": [gone]}},
        kind=JSON,
    )
    assert status == 201
    await api.call("DELETE", "/api/v1/nodes/n")
    await until(api, lambda: names() == {"of-unknown-kind"})
    assert api.store.get("/core/nodes/m") is not None
