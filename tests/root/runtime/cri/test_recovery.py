"""Deaths: of the daemon, of a shim, of the spawner; and second daemons."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from kubeletpy_common.cgroups.systemd.cgroup import SystemdScope
from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import SLEEP, Node, Place, wait_process_end, wait_until
from tests.root.runtime.durability import reality
from tests.support.circumstances import patient

pytestmark = pytest.mark.root


def processes_titled(title: str) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                line = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if line.startswith(title.encode()):
                found.append(int(name))
    return found


def shim_of(sandbox: str) -> int:
    """Return the shim, and not what it has just forked, which has its title at first."""
    found = processes_titled(f"kubeletpy-shim {sandbox}")
    [pid] = [pid for pid in found if parent_of(pid) not in found]
    return pid


def parent_of(pid: int) -> int:
    """Return the parent of a process; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def change_rows(node: Node, table: str, identifier: str, **fields: object) -> None:
    """Change the record of a pod or a container, while no daemon runs."""
    with closing(sqlite3.connect(node.place.root / "state.db")) as database, database:
        query = f"SELECT record FROM {table} WHERE id = ?"
        [(record,)] = database.execute(query, (identifier,)).fetchall()
        changed = json.dumps(json.loads(record) | fields).encode()
        database.execute(f"UPDATE {table} SET record = ? WHERE id = ?", (changed, identifier))


def test_a_killed_daemon_loses_nothing(node: Node) -> None:
    with node.pod() as sandbox:
        forever = node.run(sandbox, *SLEEP, name="forever")
        # It writes a line and ends while no daemon is there.
        gate = node.place.directory / "gate"
        gate.mkdir()
        mount = cri.Mount(container_path="/gate", host_path=str(gate))
        script = "while [ ! -e /gate/open ]; do sleep 0.05; done; echo last words; exit 5"
        short = node.run(sandbox, "sh", "-c", script, name="short", mounts=[mount])
        created = node.create(sandbox, node.container_config("true", name="created"))
        before = node.status(forever)
        node.daemon.kill()
        (gate / "open").touch()
        log = Path(before.log_path).parent / "short.log"
        wait_until(lambda: "last words" in log.read_text(), "the container's last words", 20)
        record = node.place.state / "containers" / short / "exit.json"
        wait_until(record.exists, "the shim's record of the exit", 20)
        node.daemon.start()
        node.connect()

        ended = node.status(short)
        assert (ended.state, ended.exit_code) == (cri.CONTAINER_EXITED, 5)
        assert node.status(forever) == before
        assert node.shell(forever, "echo alive") == "alive"
        assert node.status(created).state == cri.CONTAINER_CREATED
        node.start(created)
        assert node.wait_exited(created).exit_code == 0
        assert node.pod_status(sandbox).network.ip.startswith("10.87.")
        with node.events() as events:
            node.stop(forever, timeout=10)
            assert next(events).container_event_type == cri.CONTAINER_STOPPED_EVENT


def test_a_container_that_a_killed_daemon_left_frozen_goes_on(node: Node) -> None:
    """On cgroup v1 a kill freezes first; who is killed then has frozen it for ever."""
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        before = node.status(container)
        node.daemon.kill()
        node.place.hierarchy().cgroup(node.place.container_cgroup(sandbox, container)).freeze()
        node.daemon.start()
        node.connect()
        assert node.shell(container, "echo alive") == "alive"
        assert node.status(container) == before


def test_a_stopped_daemon_leaves_the_pods(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        assert node.daemon.stop() == 0
        assert not node.place.socket.exists()
        node.daemon.start()
        node.connect()
        assert node.shell(container, "echo alive") == "alive"


def test_a_killed_shim_harms_one_pod_only(node: Node) -> None:
    with node.pod() as victim, node.pod() as neighbour:
        dead, alive = node.run(victim, *SLEEP), node.run(neighbour, *SLEEP)
        with node.events() as events:
            os.kill(shim_of(victim), signal.SIGKILL)
            event = next(events)
            assert (event.container_id, event.container_event_type) == (
                dead,
                cri.CONTAINER_STOPPED_EVENT,
            )
        status = node.status(dead)
        assert (status.state, status.exit_code) == (cri.CONTAINER_EXITED, 137)
        assert "shim" in status.message
        assert node.pod_status(victim).state == cri.SANDBOX_NOTREADY
        assert node.shell(alive, "echo alive") == "alive"
        node.remove_pod(victim)


def test_a_shim_that_dies_without_a_daemon_is_reported_at_the_next_start(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        node.daemon.kill()
        shim = shim_of(sandbox)
        os.kill(shim, signal.SIGKILL)
        wait_process_end(shim)
        node.daemon.start()
        node.connect()
        status = node.status(container)
        assert (status.state, status.exit_code) == (cri.CONTAINER_EXITED, 137)
        assert node.pod_status(sandbox).state == cri.SANDBOX_NOTREADY


def test_a_killed_spawner_is_replaced(node: Node) -> None:
    with node.pod() as before:
        container = node.run(before, *SLEEP)
        # Programs that the daemon happens to run are not meant.
        ours = [pid for pid in processes_titled("kubeletpy-spawner")
                if parent_of(pid) == node.daemon.pid]  # fmt: skip
        assert len(ours) == 1
        for pid in ours:
            os.kill(pid, signal.SIGKILL)
            wait_process_end(pid)
        with node.pod() as after:
            assert node.run_to_end(after, "true").exit_code == 0
        assert node.shell(container, "echo alive") == "alive"


def test_a_daemon_killed_while_it_makes_pods_leaves_no_half_pod(node: Node) -> None:
    directory = node.place.state / "sandboxes"
    for number in range(6):
        config = node.pod_config()
        call = node.runtime.RunPodSandbox.future(cri.RunPodSandboxRequest(config=config))
        if number % 2:
            wait_until(lambda: any(directory.iterdir()), "the pod's directory", 10)
        node.restart()
        assert call.exception() is not None or call.result().pod_sandbox_id
        listed = {
            item.id for item in node.runtime.ListPodSandbox(cri.ListPodSandboxRequest()).items
        }
        assert {path.name for path in directory.iterdir()} == listed
        assert {shim for shim in listed if processes_titled(f"kubeletpy-shim {shim}")} == listed
        for sandbox in listed:
            assert node.run_to_end(sandbox, "true").exit_code == 0
            node.remove_pod(sandbox)


@pytest.mark.parametrize("what", ["pod", "container"])
def test_a_removal_that_was_cut_off_is_finished(node: Node, what: str) -> None:
    """The row says that it had begun; how far it came does not matter."""
    sandbox = node.run_pod()
    try:
        container = node.run(sandbox, *SLEEP)
        bundle = node.place.state / "containers" / container
        node.daemon.kill()
        table, identifier = ("sandboxes", sandbox) if what == "pod" else ("containers", container)
        change_rows(node, table, identifier, removing=True)
        if what == "pod":
            change_rows(node, table, identifier, state="not-ready")
        node.daemon.start()
        node.connect()
        listed = node.runtime.ListContainers(cri.ListContainersRequest()).containers
        assert container not in {item.id for item in listed}
        assert not bundle.exists()
        pods = {item.id for item in node.runtime.ListPodSandbox(cri.ListPodSandboxRequest()).items}
        assert (sandbox in pods) == (what == "container")
    finally:
        node.remove_pod(sandbox)


@pytest.mark.parametrize("shim_lives", [True, False])
def test_containers_of_a_pod_that_was_marked_as_down_are_looked_at(
    node: Node, shim_lives: bool
) -> None:
    """A daemon killed between the mark and the end of the containers: neither is a dead one listed
    as running, nor does a pod that cannot be asked keep from being removed."""
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        pid = shim_of(sandbox)
        node.daemon.kill()
        change_rows(node, "sandboxes", sandbox, state="not-ready")
        if not shim_lives:
            os.kill(pid, signal.SIGKILL)
            wait_process_end(pid)
        node.daemon.start()
        node.connect()
        expected = cri.CONTAINER_RUNNING if shim_lives else cri.CONTAINER_EXITED
        assert node.status(container).state == expected
        node.stop(container)
        assert node.status(container).exit_code == 137


def test_what_an_ended_container_left_behind_is_killed_after_a_restart(node: Node) -> None:
    """The daemon was killed after it had written down the exit, and before it looked behind it."""
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        cgroup = node.place.hierarchy().cgroup(node.place.container_cgroup(sandbox, container))
        node.stop(container)
        node.daemon.kill()
        orphan = subprocess.Popen(["sleep", "1000"])
        if isinstance(cgroup, SystemdScope):
            cgroup.create_around(orphan.pid)
        else:
            cgroup.create()
            for file in cgroup.procs_files():
                file.write_text(str(orphan.pid))
        try:
            node.daemon.start()
            assert orphan.wait(patient(10)) == -signal.SIGKILL
        finally:
            orphan.kill()
            orphan.wait()
        node.connect()
        wait_until(lambda: not cgroup.exists(), "the cgroup to go", 10)


def test_after_a_reboot_everything_is_known_and_down(node: Node) -> None:
    """A reboot, as far as the state can tell: another boot id, and no shim."""
    sandbox = node.run_pod()
    try:
        container = node.run(sandbox, *SLEEP)
        node.daemon.kill()
        shim = shim_of(sandbox)
        os.kill(shim, signal.SIGKILL)
        wait_process_end(shim)
        change_rows(node, "sandboxes", sandbox, boot_id="of another boot")
        node.daemon.start()
        node.connect()
        status = node.status(container)
        assert (status.state, status.exit_code, status.reason) == (
            cri.CONTAINER_EXITED,
            255,
            "Unknown",
        )
        assert node.pod_status(sandbox).state == cri.SANDBOX_NOTREADY
    finally:
        node.remove_pod(sandbox)


def test_the_common_cgroup_does_not_outlive_the_pods(node: Node, place: Place) -> None:
    """A daemon killed right after the last pod's removal leaves it to its successor."""
    common = place.hierarchy().cgroup(place.cgroup)
    common.create()
    node.restart()
    assert node.daemon.stop() == 0
    assert not common.exists()
    node.daemon.start()
    node.connect()


def test_a_second_daemon_on_the_same_directories_is_refused(node: Node, place: Place) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "runtime", "--config", str(place.directory / "runtime.toml")],
        capture_output=True, text=True, timeout=patient(30),
    )  # fmt: skip
    assert second.returncode == 1
    [line] = second.stderr.splitlines()
    assert "in use by another runtime" in line
    assert str(node.daemon.pid) in line
    assert node.runtime.Version(cri.VersionRequest()).runtime_name == "kubeletpy"


def test_sockets_and_directories_are_roots_alone(node: Node) -> None:
    with node.pod() as sandbox:
        directory = node.place.state / "sandboxes" / sandbox
        for path in (node.place.socket, directory / "shim.sock"):
            assert path.stat().st_mode & 0o777 == 0o600
        for path in (node.place.root, node.place.state, directory):
            assert path.stat().st_mode & 0o777 == 0o700


def test_a_daemon_waits_for_the_spawner_of_the_one_before(node: Node) -> None:
    """It could fork a shim that nobody knows of, after the new daemon has looked what there is."""
    old = reality.spawner(node.daemon.pid)
    old.suspend()
    try:
        node.daemon.kill()
        position = len(node.daemon.log())
        starting = threading.Thread(target=node.daemon.start)
        starting.start()
        waiting = "waiting for the spawner of an earlier runtime"
        wait_until(lambda: waiting in node.daemon.log()[position:], "the daemon to wait", 20)
        assert '"msg": "ready"' not in node.daemon.log()[position:]
    finally:
        old.resume()
    starting.join(patient(30))
    assert node.daemon.running
    node.connect()
    with node.pod():
        pass
