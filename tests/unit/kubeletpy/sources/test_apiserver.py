"""What a watch of the API server means for the pods of the node."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kubeletpy.sources.apiserver import PodTable
from kubeletpy.sources.updates import PodUpdates, from_api
from kubeletpy_common.apiclient.reflector import Changed, Synced

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def item(uid: str, name: str = "web", **more: Any) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": "default",
        "uid": uid,
        "resourceVersion": more.pop("version", "1"),
        "managedFields": [{"manager": "x"}],
        **more.pop("metadata", {}),
    }
    spec = {"nodeName": "n1", "containers": [{"name": "a", "image": "i"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, **more}


class Bench:
    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []
        self.mirrors: list[tuple[str, bool]] = []
        self.table = PodTable(
            seen=lambda uid, item: self.seen.append((uid, item is not None)),
            mirror=lambda uid, item: self.mirrors.append((uid, item is not None)),
            clock=lambda: NOW,
        )

    def sync(self, *items: dict[str, Any]) -> PodUpdates:
        return self.table.take(Synced(list(items)))

    def event(self, kind: str, changed: dict[str, Any]) -> PodUpdates:
        return self.table.take(Changed(kind, changed))


def uids(updates: PodUpdates) -> tuple[list[str], list[str], list[str]]:
    return (
        [pod.metadata.uid for pod in updates.added],
        [change.new.metadata.uid for change in updates.changed],
        [pod.metadata.uid for pod in updates.removed],
    )


def test_added_changed_removed() -> None:
    bench = Bench()
    assert uids(bench.sync(item("u1"), item("u2", "db"))) == (["u1", "u2"], [], [])
    labelled = item("u1", metadata={"labels": {"a": "b"}})
    assert uids(bench.event("MODIFIED", labelled)) == ([], ["u1"], [])
    assert uids(bench.event("ADDED", item("u3", "new"))) == (["u3"], [], [])
    assert uids(bench.event("DELETED", item("u2", "db"))) == ([], [], ["u2"])
    # After a gap what is not listed is gone, and a namesake is another pod.
    assert uids(bench.sync(item("u4"))) == (["u4"], [], ["u1", "u3"])
    assert bench.seen[-3:] == [("u1", False), ("u3", False), ("u4", True)]


def test_pods_are_marked_as_of_the_api_server() -> None:
    (pod,) = Bench().sync(item("u1")).added
    assert from_api(pod)
    assert pod.metadata.annotations["kubernetes.io/config.seen"] == "2026-01-01T00:00:00Z"
    assert pod.metadata.managed_fields == []


def test_the_echo_of_a_status_is_no_change() -> None:
    bench = Bench()
    bench.sync(item("u1"))
    running = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    assert not bench.event("MODIFIED", item("u1", version="2", status=running))
    assert bench.seen[-1] == ("u1", True)


def test_conditions_of_others_and_an_end_written_by_others_are_changes() -> None:
    bench = Bench()
    bench.sync(item("u1"))
    gate = {"conditions": [{"type": "example.org/gate", "status": "True"}]}
    assert bench.event("MODIFIED", item("u1", status=gate)).changed
    assert bench.event("MODIFIED", item("u1", status={**gate, "phase": "Failed"})).changed


def test_the_oldest_come_first() -> None:
    young = item("u1", "a", metadata={"creationTimestamp": "2026-01-02T00:00:00Z"})
    old = item("u2", "b", metadata={"creationTimestamp": "2026-01-01T00:00:00Z"})
    assert uids(Bench().sync(young, old))[0] == ["u2", "u1"]


def test_mirrors_are_no_pods() -> None:
    bench = Bench()
    mirror = item("m1", metadata={"annotations": {"kubernetes.io/config.mirror": "hash"}})
    assert not bench.sync(mirror)
    assert not bench.event("DELETED", mirror)
    assert bench.mirrors == [("m1", True), ("m1", False)]
    assert bench.seen == []


def test_what_cannot_be_read_is_told_and_the_last_good_version_stays() -> None:
    bench = Bench()
    bench.sync(item("u1"))
    updates = bench.event("MODIFIED", item("u1", spec={"containers": "none"}))
    (error,) = updates.errors
    assert "spec.containers" in str(error)
    assert error.kept == "default/web"
    assert uids(bench.event("DELETED", item("u1"))) == ([], [], ["u1"])
