"""A runtime is upgraded under running pods: nothing of them is restarted."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kubeletpy_common.releases import Releases
from kubeletpy_proto import cri_pb2 as cri
from runtime.shim.messages import PROTOCOL
from tests.root.packaging.conftest import Package
from tests.root.runtime.cri.node import CALL_SECONDS, Node, Place, running_node, wait_process_end
from tests.root.runtime.cri.stream_clients import attach_url, channels, in_network_of
from tests.support.machine import Allowances, Scope

# A release is made in 15 s, on an idle machine.
pytestmark = [pytest.mark.root, pytest.mark.timeout(400)]

# Says what it is told, and who it is.
TALK = ("sh", "-c", "trap 'exit 7' TERM; echo started $$; while read -r x; do echo got $x; done; "
        "sleep 1000 & wait")  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("upgrade"))


@pytest.fixture(scope="module")
def machine_scope(place: Place) -> Scope:
    return Scope(strict=Scope.of_environment().strict, names=(place.token,))


@pytest.fixture(scope="module")
def node(place: Place, releases: Releases, machine_allowances: Allowances) -> Iterator[Node]:
    for part in ("kubeletpy", "-m runtime", "spawner", "unpacker"):
        machine_allowances.allow("processes", part)
    # Through the link, as /usr/bin/kubeletpy and the units do, and with none of our code besides.
    program = ("env", "-u", "PYTHONPATH", str(releases.link / "bin" / "kubeletpy"), "runtime")
    with running_node(place, program=program) as running:
        yield running


def shim_pid(node: Node, sandbox: str) -> int:
    with closing(sqlite3.connect(node.place.root / "state.db")) as database:
        query = "SELECT record FROM sandboxes WHERE id = ?"
        [(record,)] = database.execute(query, (sandbox,)).fetchall()
    return int(json.loads(record)["shim_pid"])


def first_process(node: Node, container: str) -> tuple[int, int]:
    """Return a container's first process by what never changes: number and time of its start."""
    request = cri.ContainerStatusRequest(container_id=container, verbose=True)
    info = node.runtime.ContainerStatus(request, timeout=CALL_SECONDS).info["info"]
    pid = int(json.loads(info)["pid"])
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return pid, int(fields[19])


def talk(node: Node, container: str, word: str) -> None:
    """Attach, and send what the container answers to."""
    url = attach_url(node, container, stdin=True, stdout=True, stderr=True)

    async def attached() -> None:
        async with channels(url) as client:
            await client.until(1, b"")
            while f"got {word}\n".encode() not in client.received[1]:
                await client.send(0, f"{word}\n".encode())
                await client.until(1, f"got {word}\n".encode())

    in_network_of(node, attached())


def use(node: Node, sandbox: str, container: str, word: str) -> None:
    """Exec, attach with input, log, statistics and a new log file."""
    assert node.shell(container, f"echo {word}") == word
    talk(node, container, word)
    log = Path(node.status(container).log_path)
    assert f"got {word}" in log.read_text()
    log.rename(log.with_suffix(f".{word}"))
    request = cri.ReopenContainerLogRequest(container_id=container)
    node.runtime.ReopenContainerLog(request, timeout=CALL_SECONDS)
    talk(node, container, word)
    assert f"got {word}" in log.read_text()
    stats = node.runtime.ContainerStats(
        cri.ContainerStatsRequest(container_id=container), timeout=CALL_SECONDS
    ).stats
    assert stats.memory.working_set_bytes.value > 0


def test_pods_outlive_an_upgrade(
    node: Node, releases: Releases, first: Package, second: Package
) -> None:
    settings = node.place.directory / "runtime.toml"
    old = releases.directory / first.release
    with node.pod() as sandbox:
        container = node.run(sandbox, *TALK, stdin=True)
        before, shim = first_process(node, container), shim_pid(node, sandbox)
        use(node, sandbox, container, "before")
        assert releases.current() == old

        done = second.run("configure", releases.root, settings)
        assert done.returncode == 0, done.stderr
        new = releases.directory / second.release
        assert (releases.current(), new.name != old.name) == (new, True)
        assert (new / "lib").is_dir()
        assert old.is_dir(), "the daemon and the shim run from it"
        assert node.shell(container, "echo meanwhile") == "meanwhile"

        began = time.monotonic()
        assert node.daemon.stop() == 0
        node.daemon.start()
        gone = time.monotonic() - began
        node.connect()
        print(f"\nthe runtime was away for {gone * 1000:.0f} ms")
        assert first_process(node, container) == before
        assert node.status(container).state == cri.CONTAINER_RUNNING
        use(node, sandbox, container, "after")
        assert releases.collect() == []
        assert shim in {user.pid for user in releases.users()[old.name]}

        with node.pod() as young:
            pids = {user.pid for user in releases.users()[new.name]}
            assert {node.daemon.pid, shim_pid(node, young)} <= pids
            assert shim_pid(node, young) not in {u.pid for u in releases.users()[old.name]}

        node.stop(container, timeout=20)
        assert node.status(container).exit_code == 7
        assert old.is_dir(), "the pod still has its shim"
    wait_process_end(shim)
    done = second.run("collect", releases.root, settings)
    assert done.stdout == f"kubeletpy: removed release {old.name}: no process uses it\n"
    assert [path.name for path in releases.all()] == [new.name]


def test_a_shim_needs_nothing_of_the_disk(node: Node, releases: Releases) -> None:
    current = releases.current()
    assert current is not None
    hidden = current.with_name("hidden")
    with node.pod() as sandbox:
        container = node.run(sandbox, *TALK, stdin=True)
        young = node.create(sandbox, node.container_config("true", name="young"))
        use(node, sandbox, container, "seen")
        # The daemon has what it needs for these calls by now.
        current.rename(hidden)
        try:
            use(node, sandbox, container, "unseen")
            node.start(young)
            assert node.wait_exited(young).exit_code == 0
            node.stop(container, timeout=20)
        finally:
            hidden.rename(current)
        assert node.status(container).exit_code == 7
        log = node.place.state / "sandboxes" / sandbox / "shim.log"
        assert log.read_text() == ""


def test_pods_of_another_protocol_are_refused_before_anything_happens(
    node: Node, releases: Releases, first: Package
) -> None:
    settings, current = node.place.directory / "runtime.toml", releases.current()
    with node.pod() as sandbox:
        container = node.run(sandbox, *TALK, stdin=True)
        before = first_process(node, container)
        assert node.daemon.stop() == 0
        set_protocol(node, sandbox, PROTOCOL + 1)
        try:
            downgrade = first.run("configure", releases.root, settings)
            with pytest.raises(RuntimeError, match="kept by shims of protocol 2"):
                node.daemon.start()
        finally:
            set_protocol(node, sandbox, PROTOCOL)
        assert downgrade.returncode == 1
        assert "cannot take over what runs here" in downgrade.stderr
        assert "go on with the release that started them" in downgrade.stderr
        assert releases.current() == current
        assert os.stat(f"/proc/{before[0]}"), "the container goes on"
        node.daemon.start()
        node.connect()
        assert first_process(node, container) == before
        use(node, sandbox, container, "again")


def set_protocol(node: Node, sandbox: str, protocol: int) -> None:
    with closing(sqlite3.connect(node.place.root / "state.db")) as database, database:
        query = "SELECT record FROM sandboxes WHERE id = ?"
        [(record,)] = database.execute(query, (sandbox,)).fetchall()
        changed = json.dumps(json.loads(record) | {"protocol": protocol}).encode()
        database.execute("UPDATE sandboxes SET record = ? WHERE id = ?", (changed, sandbox))
