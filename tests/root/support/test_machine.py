"""The check of the machine is itself checked: a leak of each kind is found and named."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pyroute2 import netns

from kubeletpy_common.linux import mounts
from tests.support import probes
from tests.support.circumstances import ASIDE_VARIABLE
from tests.support.machine import Change, MachineState, Scope
from tests.support.namespaces import in_new_network

pytestmark = pytest.mark.root


def _shell(script: str) -> None:
    subprocess.run(["sh", "-c", script], check=True)


def _leaks_of(make: Callable[[], None], undo: Callable[[], None], scope: Scope) -> list[Change]:
    """Return what is found between ``make`` and ``undo``; nothing may be found after ``undo``."""
    before = MachineState.capture(scope)
    make()
    try:
        found = before.leaks(settle=0)
    finally:
        undo()
    assert before.leaks() == []
    return found


@pytest.fixture
def name() -> str:
    return f"kptest{secrets.token_hex(3)}"


@pytest.fixture
def scope(name: str, tmp_path: Path) -> Scope:
    """Only what this test makes: the same test may run elsewhere at the same time."""
    return Scope(strict=False, names=(name,), directories=(tmp_path,))


def _one(changes: list[Change], kind: str, *parts: str) -> None:
    """Assert that a change of ``kind`` whose text has all ``parts`` was found."""
    texts = [str(change) for change in changes if change.kind == kind]
    assert any(all(part in text for part in parts) for text in texts), changes


class TestFindsALeftBehind:
    def test_child_process(self, scope: Scope) -> None:
        child: list[subprocess.Popen[bytes]] = []

        def undo() -> None:
            child[0].kill()
            child[0].wait()

        make = lambda: child.append(subprocess.Popen(["sleep", "917"]))  # noqa: E731
        _one(_leaks_of(make, undo, scope), "processes", "sleep 917", "left behind")

    def test_process_that_was_reparented(self, scope: Scope, tmp_path: Path) -> None:
        pid = tmp_path.parent / "pid"

        def undo() -> None:
            os.kill(int(pid.read_text()), signal.SIGKILL)
            pid.unlink()

        orphan = f"setsid sleep 918 >/dev/null 2>&1 & echo $! > {pid}"
        _one(_leaks_of(lambda: _shell(orphan), undo, scope), "processes", "sleep 918")

    def test_zombie(self, scope: Scope) -> None:
        child: list[subprocess.Popen[bytes]] = []

        def make() -> None:
            child.append(subprocess.Popen(["true"]))
            os.waitid(os.P_PID, child[0].pid, os.WEXITED | os.WNOWAIT)

        def undo() -> None:
            child[0].wait()

        _one(_leaks_of(make, undo, scope), "processes", "state Z")

    def test_no_zombie_that_was_there_and_is_reaped(self, scope: Scope) -> None:
        child = subprocess.Popen(["true"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        before = MachineState.capture(scope)
        assert any("(state Z)" in text for text in _texts(before, "processes"))
        child.wait()
        assert before.leaks() == []

    def test_process_in_a_pid_namespace_of_another_tree(self, tmp_path: Path) -> None:
        # Only a strict look finds it: it has neither our mark nor us above it.
        pid = tmp_path / "pid"
        script = f"env -i setsid unshare --pid --fork sleep 919 >/dev/null 2>&1 & echo $! > {pid}"
        found: list[str] = []

        def make() -> None:
            _shell(script)
            unshare = int(pid.read_text())
            children = Path(f"/proc/{unshare}/task/{unshare}/children")
            deadline = threading.Event()
            while not children.read_text().strip():
                assert not deadline.wait(0.01)
            found.append(children.read_text().split()[0])

        make()
        try:
            state = MachineState.capture(Scope(strict=True))
            assert any(text.startswith(f"pid {found[0]} ") for text in _texts(state, "processes"))
        finally:
            os.kill(int(found[0]), signal.SIGKILL)

    def test_mount(self, scope: Scope, tmp_path: Path) -> None:
        make = lambda: mounts.mount("tmpfs", tmp_path, "tmpfs")  # noqa: E731
        found = _leaks_of(make, lambda: mounts.umount(tmp_path), scope)
        _one(found, "mounts", "tmpfs", str(tmp_path), "left behind")

    def test_second_mount_on_the_same_place(self, scope: Scope, tmp_path: Path) -> None:
        mounts.mount("tmpfs", tmp_path, "tmpfs")
        try:
            make = lambda: mounts.mount("tmpfs", tmp_path, "tmpfs")  # noqa: E731
            found = _leaks_of(make, lambda: mounts.umount(tmp_path), scope)
        finally:
            mounts.umount(tmp_path)
        _one(found, "mounts", str(tmp_path))

    def test_network_namespace(self, scope: Scope, name: str) -> None:
        found = _leaks_of(lambda: netns.create(name), lambda: netns.remove(name), scope)
        _one(found, "network namespaces", f"named {name}")
        _one(found, "network namespaces", "net:[", f"/{name}")

    def test_cgroup(self, scope: Scope, name: str) -> None:
        path = _a_cgroup_mount() / name
        found = _leaks_of(path.mkdir, path.rmdir, scope)
        _one(found, "cgroups", f"cgroup /{name}")

    def test_file(self, scope: Scope, tmp_path: Path) -> None:
        path = tmp_path / "left"
        _one(_leaks_of(path.touch, path.unlink, scope), "files", str(path))


def _texts(state: MachineState, kind: str) -> list[str]:
    return list(state.kinds[kind].values())


def _a_cgroup_mount() -> Path:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup" in line and "cpuset" not in line:
            return Path(line.split()[4])
    raise AssertionError("no cgroup hierarchy")


class TestFindsInANetworkNamespace:
    def test_link_address_and_route(self, scope: Scope, name: str) -> None:
        script = f"ip link add {name} type bridge && ip addr add 198.51.100.1/24 dev {name}"
        undo = f"ip link del {name}"
        script = f"{script} && ip link set {name} up && ip route add 203.0.113.0/24 dev {name}"
        found = in_new_network(
            lambda: _leaks_of(lambda: _shell(script), lambda: _shell(undo), scope)
        )
        _one(found, "links", f"link {name}")
        _one(found, "addresses and routes", f"address 198.51.100.1/24 dev {name}")
        _one(found, "addresses and routes", "route 203.0.113.0/24", name)

    @pytest.mark.parametrize("program", ["iptables", "ip6tables", "iptables-legacy"])
    def test_chain_and_rule(self, program: str, scope: Scope, name: str) -> None:
        make = f"{program} -t nat -N {name} && {program} -t nat -A POSTROUTING -j {name}"
        undo = f"{program} -t nat -D POSTROUTING -j {name} && {program} -t nat -X {name}"
        found = in_new_network(lambda: _leaks_of(lambda: _shell(make), lambda: _shell(undo), scope))
        _one(found, "iptables", f"{program} -t nat", f"-A POSTROUTING -j {name}")
        _one(found, "iptables", f":{name}")

    def test_abstract_socket(self, scope: Scope, name: str) -> None:
        listener = socket.socket(socket.AF_UNIX)
        found = in_new_network(lambda: _socket_leak(listener, name, scope))
        _one(found, "abstract sockets", f"@{name}")

    def test_sysctl_changed_counts_as_lost_and_new(self) -> None:
        def look() -> list[Change]:
            path = Path("/proc/sys/net/ipv4/ip_forward")
            before = MachineState.capture(Scope(strict=True))
            path.write_text("0" if path.read_text().strip() == "1" else "1")
            return [c for c in before.leaks(settle=0) if c.kind == "sysctls"]

        found = in_new_network(look)
        assert [change.left_behind for change in found] == [True, False]


def _socket_leak(unused: socket.socket, name: str, scope: Scope) -> list[Change]:
    """Bind in this thread's namespace: a socket belongs to the namespace it was made in."""
    unused.close()
    listener = socket.socket(socket.AF_UNIX)
    return _leaks_of(lambda: listener.bind(f"\0{name}"), listener.close, scope)


INNER_TESTS = """
import subprocess
import pytest
from tests.support.machine import Scope
pytestmark = pytest.mark.root

@pytest.fixture(scope="module")
def machine_scope():
    return Scope(strict=False, settle=0.2)

@pytest.fixture(scope="module")
def daemon(machine_allowances):
    started = []
    yield started
    for process in started:
        process.kill()
        process.wait()

@pytest.fixture(scope="module")
def forgetful_daemon():
    return subprocess.Popen(["sleep", "921"]).pid

def test_leaks():
    subprocess.Popen(["sleep", "920"])

def test_starts_daemon_late(daemon, machine_allowances):
    machine_allowances.allow("processes", "sleep 922")
    daemon.append(subprocess.Popen(["sleep", "922"]))

def test_uses_daemon_that_stays(forgetful_daemon):
    pass
"""


def test_fixture_fails_the_tests_that_leak(
    pytester: pytest.Pytester,
) -> None:
    """A leaking test and a leaking module-wide fixture fail; what is allowed and ends does not."""
    checkout = Path(__file__).parents[3]
    pytester.makeconftest((checkout / "tests/root/conftest.py").read_text())
    pytester.makeini("[pytest]\nmarkers = root: privileged\n")
    pytester.makepyfile(INNER_TESTS)
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    environment.pop("KUBELETPY_TESTS_ALONE", None)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=pytester.path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    leaked = set(re.findall(r"left behind: pid (\d+) 'sleep 92[01]'", run.stdout))
    for pid in leaked:
        os.kill(int(pid), signal.SIGKILL)
    assert "3 passed, 2 errors" in run.stdout, run.stdout + run.stderr
    assert len(leaked) == 2, run.stdout


@pytest.mark.parametrize("aside", [False, True])
def test_what_runs_beside_the_tests_is_not_counted(aside: bool) -> None:
    environment = {**os.environ, **({ASIDE_VARIABLE: "1"} if aside else {})}
    command = ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", "echo up; sleep 100"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            # As seen by tests that did not start it: by others than its parent and its token.
            found = probes.processes(1 << 30, "no-such-token", of_others=True)
            inside = [one for one in found.values() if "echo up; sleep 100" in one]
            assert bool(inside) == (not aside)
        finally:
            process.kill()
