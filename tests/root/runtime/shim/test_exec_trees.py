"""A command's time is up: all that it started ends, however it hid."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubeletpy_common.cgroups import Cgroup, LinuxResources, detect
from runtime.shim.exec_cgroups import ExecCgroups
from runtime.shim.session import ShimSession
from tests.root.runtime.cri.node import wait_until
from tests.root.runtime.shim.pod import Pod, process
from tests.support.circumstances import patient

pytestmark = pytest.mark.root

# A child in a session of its own, a daemon that forked twice, a deaf one, a stopped one.
TREE = """
setsid sleep 3001 &
(setsid sh -c 'sleep 3002 & exit' &)
sh -c "trap '' TERM INT HUP; sleep 3003; sleep 3003" &
sh -c 'kill -STOP $$; sleep 3004' &
sleep 3005
"""
HOPPERS = "for i in 1 2 3 4 5 6 7 8; do setsid sh /hop & done; sleep 1000"


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    found = detect().cgroup(f"/kt{secrets.token_hex(4)}")
    found.create()
    found.apply(LinuxResources.from_oci({"pids": {"limit": 60}}))
    yield found
    found.kill()
    found.remove()


def without_unified(cgroup: Cgroup) -> tuple[Path, ...]:
    """The files of a machine that has version 1 alone."""
    return tuple(p for p in cgroup.procs_files() if p.with_name("tasks").exists())


@pytest.fixture(params=["all", "version 1 alone"])
def procs_files(request: pytest.FixtureRequest, cgroup: Cgroup) -> tuple[Path, ...]:
    if request.param == "all":
        return tuple(cgroup.procs_files())
    files = without_unified(cgroup)
    if not files:
        # Nothing of version 1 on this machine, so nothing to choose.
        return tuple(cgroup.procs_files())
    return files


async def start(pod: Pod, procs_files: tuple[Path, ...]) -> None:
    request = pod.request("c", process("sleep", "1000"), cgroup_procs=procs_files)
    await pod.client.start(request)


async def wait_for_processes(cgroup: Cgroup, condition: Callable[[int], bool]) -> None:
    await asyncio.to_thread(
        wait_until, lambda: condition(len(cgroup.processes())), "processes to come or go", 10
    )


async def only_the_first_is_left(cgroup: Cgroup) -> None:
    await wait_for_processes(cgroup, lambda count: count == 1)


async def test_the_whole_tree_is_killed_when_the_time_is_up(
    pod: Pod, cgroup: Cgroup, procs_files: tuple[Path, ...]
) -> None:
    await start(pod, procs_files)
    result = await pod.client.exec_sync("c", process("sh", "-c", TREE), timeout=0.5)
    assert result.timed_out
    await only_the_first_is_left(cgroup)
    assert (await pod.client.exec_sync("c", process("true"), timeout=patient(5))).exit_code == 0


async def test_processes_that_never_stay_are_killed_when_the_time_is_up(
    pod: Pod, cgroup: Cgroup, procs_files: tuple[Path, ...]
) -> None:
    """Each lives only until it has started another one, in a session of its own."""
    (pod.layer / "hop").write_text("setsid sh /hop &\n")
    await start(pod, procs_files)
    result = await pod.client.exec_sync("c", process("sh", "-c", HOPPERS), timeout=1)
    assert result.timed_out
    await only_the_first_is_left(cgroup)


async def test_the_tree_of_a_caller_that_went_away_is_killed(pod: Pod, cgroup: Cgroup) -> None:
    await start(pod, tuple(cgroup.procs_files()))
    call = asyncio.create_task(pod.client.exec_sync("c", process("sh", "-c", TREE), timeout=None))
    await wait_for_processes(cgroup, lambda count: count >= 6)
    call.cancel()
    await only_the_first_is_left(cgroup)


async def test_the_tree_of_a_streamed_command_ends_with_its_client(
    pod: Pod, cgroup: Cgroup
) -> None:
    await start(pod, tuple(cgroup.procs_files()))
    session = await ShimSession.exec(
        pod.sandbox.socket, "c", process("sh", "-c", TREE), ("stdout",), timeout=5
    )
    await wait_for_processes(cgroup, lambda count: count >= 6)
    session.close()
    await only_the_first_is_left(cgroup)


async def test_what_a_command_leaves_behind_on_purpose_goes_on(pod: Pod, cgroup: Cgroup) -> None:
    await start(pod, tuple(cgroup.procs_files()))
    left = process("sh", "-c", "setsid sleep 3001 >/dev/null 2>&1 &")
    assert (await pod.client.exec_sync("c", left, timeout=patient(5))).exit_code == 0
    result = await pod.client.exec_sync("c", process("sh", "-c", TREE), timeout=0.3)
    assert result.timed_out
    await wait_for_processes(cgroup, lambda count: count == 2)


async def test_commands_one_after_the_other_share_a_cgroup(pod: Pod, cgroup: Cgroup) -> None:
    await start(pod, tuple(cgroup.procs_files()))
    for _ in range(30):
        assert (await pod.client.exec_sync("c", process("true"), timeout=patient(5))).exit_code == 0
    made = {name for d in cgroup.directories() for name in os.listdir(d) if name.startswith("exec")}
    # An ended process can be counted for a moment longer; then the next command has another one.
    assert 1 <= len(made) <= 4


def test_a_full_cgroup_means_the_containers_own(tmp_path: Path) -> None:
    assert ExecCgroups([tmp_path / "missing/cgroup.procs"]).take() == ""
