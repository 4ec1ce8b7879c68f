"""Containers that take all they can get: the daemon, the shim and other pods do not notice."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
import pytest

from kubeletpy_common.cgroups import LinuxResources
from kubeletpy_proto import cri_pb2 as cri
from kubeletpy_proto import cri_pb2_grpc as services
from tests.root.attacks.attacker import attack, command, python_mounts
from tests.root.runtime.cri.node import SLEEP, Node, wait_until
from tests.root.runtime.cri.stream_clients import attach_url, channels, exec_url, in_network_of
from tests.root.runtime.cri.test_limits import pod_cgroup
from tests.root.runtime.cri.test_recovery import shim_of

pytestmark = pytest.mark.root

MIB = 1 << 20
# Of each kind; CVE-2022-23471 grew by one descriptor and one thread with every single call.
# The number of ExecSync is that of a run for every commit; KUBELETPY_TESTS_CALLS gives another one.
CALLS = {
    "sync": int(os.environ.get("KUBELETPY_TESTS_CALLS", "1200")),
    "background": 100,
    "terminal": 100,
    "attach": 200,
}
AT_ONCE = 8


def memory(pid: int) -> int:
    """Return the bytes that are a process's alone."""
    return int(psutil.Process(pid).memory_full_info().uss)


@contextmanager
def unimpressed(node: Node) -> Iterator[None]:
    """A pod beside it that has to answer as if nothing happened, before and after."""
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, name="bystander")
        yield
        begun = time.monotonic()
        assert node.shell(container, "echo alive") == "alive"
        assert node.run_to_end(sandbox, "true", name="another").exit_code == 0
        assert time.monotonic() - begun < 10


def test_a_fork_bomb_hits_its_own_limit(node: Node) -> None:
    program = """
children = 0
while True:
    try:
        if os.fork() == 0:
            while True:
                try:
                    os.fork()
                except OSError:
                    time.sleep(0.2)
        children += 1
    except OSError:
        print("full", children, flush=True)
        time.sleep(1)
"""
    limit = 40
    with (
        pod_cgroup(node, LinuxResources(pids_limit=limit)) as cgroup,
        node.pod(cgroup_parent=cgroup.path) as sandbox,
        unimpressed(node),
    ):
        bomb = node.run(sandbox, *command(program), mounts=python_mounts())

        def full() -> bool:
            pids = cgroup.stats().pids
            return pids is not None and pids.current == limit

        wait_until(full, "the pod's process limit to be reached", 20)
        begun = time.monotonic()
        # Moving into a full cgroup of version 1 is allowed; where there is no room, it is said at
        # once.
        refusals = []
        try:
            assert node.exec(bomb, "true", timeout=5).exit_code == 0
        except grpc.RpcError as error:
            refusals.append(error.details() or "")
        assert all("Resource temporarily unavailable" in text for text in refusals), refusals
        assert node.status(bomb).state == cri.CONTAINER_RUNNING
        node.stop(bomb, timeout=1)
        assert time.monotonic() - begun < 15
        assert cgroup.processes() == []


@pytest.mark.parametrize("what", ["memory", "shm", "inodes of shm", "inodes of dev"])
def test_memory_of_any_kind_counts_against_the_pod(node: Node, what: str) -> None:
    """Also what outlives the process: files of a tmpfs, and their inodes."""
    programs = {
        "memory": "held = []\nwhile True:\n    held.append(bytearray(1 << 20))\n",
        "shm": """
number = 0
while True:
    with open(f"/dev/shm/{number}", "wb") as stream:
        stream.write(bytes(1 << 20))
    number += 1
""",
        "inodes of shm": """
number = 0
while True:
    os.close(os.open(f"/dev/shm/{number}", os.O_CREAT | os.O_WRONLY))
    number += 1
""",
    }
    programs["inodes of dev"] = programs["inodes of shm"].replace("/dev/shm/", "/dev/")
    limit = LinuxResources(memory_limit=48 * MIB, memory_swap=48 * MIB)
    with (
        pod_cgroup(node, limit) as cgroup,
        node.pod(cgroup_parent=cgroup.path) as sandbox,
        unimpressed(node),
    ):
        before = memory(node.daemon.pid), memory(shim_of(sandbox))
        status = node.run_to_end(sandbox, *command(programs[what]), mounts=python_mounts())
        assert status.exit_code == 137
        after = memory(node.daemon.pid), memory(shim_of(sandbox))
        assert all(new < old + 8 * MIB for old, new in zip(before, after, strict=True))
        assert node.pod_status(sandbox).state == cri.SANDBOX_READY


def test_a_root_full_of_files_is_measured_and_removed(node: Node) -> None:
    """Many inodes, and directories deeper than any path: recursion would not come back."""
    files, depth = 3_000, 1_500
    program = f"""
for number in range({files}):
    os.close(os.open(f"/tmp/{{number}}", os.O_CREAT | os.O_WRONLY))
os.mkdir("/deep")
os.chdir("/deep")
for _ in range({depth}):
    os.mkdir("directory")
    os.chdir("directory")
open("bottom", "w").write("x")
os.chmod(".", 0)
print("LIVE", flush=True)
time.sleep(1000)
"""
    with node.pod() as sandbox, unimpressed(node):
        container = node.run(sandbox, *command(program), mounts=python_mounts())
        log = Path(node.status(container).log_path)
        wait_until(lambda: "LIVE" in log.read_text(), "the files", 60)

        def inodes() -> int:
            request = cri.ContainerStatsRequest(container_id=container)
            stats = node.runtime.ContainerStats(request, timeout=30).stats
            return int(stats.writable_layer.inodes_used.value)

        wait_until(lambda: inodes() > files, "the inodes to be counted", 20)
        node.stop(container)
        begun = time.monotonic()
        node.remove(container)
        assert time.monotonic() - begun < 20


def test_floods_of_output_cost_no_memory(node: Node) -> None:
    """A line without an end, and `yes` to ExecSync (CVE-2022-31030, CVE-2022-1708)."""
    size = 64 * MIB
    with node.pod() as sandbox, unimpressed(node):
        container = node.run(sandbox, *SLEEP, name="exec")
        shim = shim_of(sandbox)
        before = memory(node.daemon.pid), memory(shim)
        endless = "tr '\\0' x < /dev/zero | head -c"
        script = f"{endless} {size}; {endless} 1000 >&2"
        flood = node.run(sandbox, "sh", "-c", script, name="flood")
        assert node.shell(container, "echo alive") == "alive"
        log = Path(node.wait_exited(flood, 60).log_path)
        longest = total = 0
        with open(log, "rb") as stream:
            for line in stream:
                text = line.rstrip(b"\n").split(b" ", 3)[3]
                longest, total = max(longest, len(text)), total + len(text)
        assert (total, longest) == (size + 1000, 16384)
        words = ("sh", "-c", "yes | head -c 200000000; exit 3")
        options = [("grpc.max_receive_message_length", 32 * MIB)]
        with grpc.insecure_channel(f"unix://{node.place.socket}", options) as channel:
            request = cri.ExecSyncRequest(container_id=container, cmd=words, timeout=60)
            result = services.RuntimeServiceStub(channel).ExecSync(request, timeout=60)
        assert result.exit_code == 3
        assert 15 * MIB < len(result.stdout) <= 16 * MIB
        peak = memory(node.daemon.pid), memory(shim)
        for old, new in zip(before, peak, strict=True):
            # Of one answer at most some copies are kept for a while, never what was written.
            assert new < old + 64 * MIB, (before, peak)


async def _calls(node: Node, container: str, kind: str, count: int) -> None:
    gate = asyncio.Semaphore(AT_ONCE)
    tty = {"tty": True, "stdin": True, "stdout": True}

    async def one() -> None:
        async with gate:
            if kind == "sync":
                assert (await asyncio.to_thread(node.exec, container, "true")).exit_code == 0
            elif kind == "background":
                words = ("sh", "-c", "sleep 0.2 & exit 0")
                assert (await asyncio.to_thread(node.exec, container, *words)).exit_code == 0
            elif kind == "terminal":
                url = await asyncio.to_thread(exec_url, node, container, "true", **tty)
                async with channels(url) as client:
                    await client.to_end()
            else:
                url = await asyncio.to_thread(attach_url, node, container, stdout=True, stderr=True)
                async with channels(url):
                    pass

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())


@pytest.mark.timeout(600)
def test_thousands_of_calls_leave_nothing_behind(node: Node) -> None:
    """CVE-2022-23471, CVE-2025-64329: ExecSync, with background children, terminals, Attach."""
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        pids = node.daemon.pid, shim_of(sandbox)

        def size() -> list[tuple[int, int, int]]:
            found = []
            for pid in pids:
                process = psutil.Process(pid)
                found.append((process.num_fds(), process.num_threads(), memory(pid)))
            return found

        def settled(limit: list[tuple[int, int, int]]) -> bool:
            return all(now[0] <= then[0] for now, then in zip(size(), limit, strict=True))

        for kind in CALLS:
            in_network_of(node, _calls(node, container, kind, 4 * AT_ONCE))
        before = size()
        for kind, count in CALLS.items():
            for part in range(0, count, 500):
                in_network_of(node, _calls(node, container, kind, min(500, count - part)))
        wait_until(lambda: settled(before), f"descriptors to be closed: {before}, {size()}", 10)
        for then, now in zip(before, size(), strict=True):
            assert now[1] <= then[1] + 1, (before, size())
            assert now[2] < then[2] + 4 * MIB, (before, size())
        wait_until(lambda: node.shell(container, "ls /dev/pts") == "ptmx", "the terminals", 5)
        wait_until(lambda: "sleep 0.2" not in node.shell(container, "ps"), "the children", 5)


def test_what_a_full_pod_leaves_is_gone(node: Node) -> None:
    """A pod at its memory limit, its memory in /dev/shm, can be taken down."""
    limit = LinuxResources(memory_limit=32 * MIB, memory_swap=32 * MIB)
    with pod_cgroup(node, limit) as cgroup, unimpressed(node):
        with node.pod(cgroup_parent=cgroup.path) as sandbox:
            program = 'open("/dev/shm/full", "wb").write(bytes(20 << 20))'
            attack(node, sandbox, program)
            # What it left counts on, and the next one has to do with the rest.
            used = cgroup.stats().memory
            assert used is not None
            assert used.usage > 20 * MIB
            status = node.run_to_end(sandbox, *command("bytearray(20 << 20)"), name="next",
                                     mounts=python_mounts())  # fmt: skip
            assert status.exit_code == 137
        assert cgroup.processes() == []
