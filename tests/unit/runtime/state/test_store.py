"""The store: what is written down is what is known, before and after a restart."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from kubeletpy_proto import cri_pb2 as cri
from runtime.shim.messages import Rootfs
from runtime.state import records
from runtime.state.records import (
    ContainerRecord,
    ContainerState,
    SandboxRecord,
    SandboxState,
    StateError,
)
from runtime.state.store import (
    AmbiguousIdError,
    Container,
    NameTakenError,
    NotFoundError,
    Pod,
    Store,
    container_name,
    sandbox_name,
)

METADATA = cri.PodSandboxMetadata(name="web", namespace="ns", uid="u1", attempt=2)


def add_pod(store: Store, identifier: str = "aaaa1111", name: str = "web_ns_u1_2") -> Pod:
    record = SandboxRecord(
        id=identifier, name=name, state=SandboxState.CREATING, created_at=5, boot_id="b",
        cgroup="/pods/web",
    )  # fmt: skip
    config = cri.PodSandboxConfig(metadata=METADATA, labels={"app": "web"})
    return store.add_pod(record, config)


def add_container(store: Store, pod: Pod, identifier: str = "cccc1111") -> Container:
    record = ContainerRecord(
        id=identifier, sandbox_id=pod.id, name=f"main_{identifier}", created_at=6,
        state=ContainerState.CREATING, cgroup="/pods/web/c", image_id="sha256:1",
        rootfs=Rootfs(("2/fs", "1/fs"), "3/fs", "3/work", "/base"),
    )  # fmt: skip
    return store.add_container(record, cri.ContainerConfig(args=["x"]), pod)


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "state.db")
    pod = add_pod(store)
    store.update_pod(pod, records.ready(pod.record, ips=["10.0.0.1"]))
    container = add_container(store, pod)
    for change in (records.created, records.starting):
        store.update_container(container, change(container.record))
    store.update_container(container, records.running(container.record, pid=3, started_at=9))
    store.close()

    again = Store.open(tmp_path / "state.db")
    assert again.pod("aaaa1111").record == pod.record
    assert again.pod("aaaa1111").config == pod.config
    assert again.pod("aaaa1111").ready
    loaded = again.container("cccc1111")
    assert loaded.record == container.record
    assert loaded.record.rootfs == Rootfs(("2/fs", "1/fs"), "3/fs", "3/work", "/base")
    assert loaded.config.args == ["x"]
    assert loaded.pod.containers == {"cccc1111": loaded}
    assert loaded.running
    assert not loaded.exited.is_set()
    ended = records.exited(loaded.record, exit_code=1, at=10, oom_killed=False)
    again.update_container(loaded, ended)
    assert loaded.exited.is_set()
    again.close()
    final = Store.open(tmp_path / "state.db")
    assert final.container("cccc1111").exited.is_set()
    final.close()


def test_what_was_removed_stays_removed_and_frees_its_name(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "state.db")
    pod = add_pod(store)
    store.remove_container(add_container(store, pod))
    assert pod.containers == {}
    store.remove_pod(pod)
    add_pod(store, "bbbb2222")
    store.close()
    again = Store.open(tmp_path / "state.db")
    assert [pod.id for pod in again.pods()] == ["bbbb2222"]
    assert again.containers() == []
    again.close()


def test_names_are_reserved(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "state.db")
    pod = add_pod(store)
    with pytest.raises(NameTakenError, match="aaaa1111"):
        add_pod(store, "bbbb2222")
    add_container(store, pod)
    with pytest.raises(NameTakenError):
        add_container(store, pod)
    assert sandbox_name(METADATA) == "web_ns_u1_2"
    name = container_name(cri.ContainerMetadata(name="main", attempt=1), pod)
    assert name == "main_web_ns_aaaa1111_1"
    store.close()


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ("zzzz", NotFoundError),
        ("", NotFoundError),
        ("aaa", NotFoundError),
        ("aaaa", AmbiguousIdError),
    ],
)
def test_ids_by_prefix(tmp_path: Path, wanted: str, error: type[Exception]) -> None:
    store = Store.open(tmp_path / "state.db")
    first = add_pod(store)
    add_pod(store, "aaaa2222", "other")
    assert store.pod("aaaa1") is first
    with pytest.raises(error):
        store.pod(wanted)
    store.close()


def test_a_change_that_cannot_be_written_down_does_not_happen(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "state.db")
    pod = add_pod(store)
    before = pod.record
    store.close()
    with pytest.raises(StateError):
        store.update_pod(pod, records.ready(pod.record, ips=[]))
    assert pod.record is before


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    Store.open(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(StateError, match="version 99"):
        Store.open(path)


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is no database, " * 100)
    with pytest.raises(StateError, match="move it aside"):
        Store.open(path)


def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = Store.open(path)
    add_pod(store)
    store.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE sandboxes SET record = '{'")
    with pytest.raises(StateError, match="aaaa1111"):
        Store.open(path)
