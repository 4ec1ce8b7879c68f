"""Commands from the small process that they are forked from: as they would be from the shim."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeletpy_common.cgroups import Cgroup, LinuxResources, detect
from kubeletpy_common.linux.programs import sealed
from runtime.oci.call_list import MAX_SIZE
from runtime.oci.seccomp_compile import compile_profile
from runtime.shim.client import ShimError
from tests.root.runtime.cri.node import wait_until
from tests.root.runtime.shim.pod import CAPABILITIES, Pod, process
from tests.support.circumstances import patient

pytestmark = pytest.mark.root

# All that execve leaves as it was.
FACTS = """
cd . && pwd; umask
cat /proc/self/status /proc/self/limits /proc/self/cgroup /proc/self/oom_score_adj
grep -c . /proc/keys
ls -l /proc/self/ns /proc/self/fd | grep -o ' [0-9a-z_]* -> .*'
cat /proc/self/stat | wc -w
"""
# What differs from one process to the next, and the command's own cgroup.
VOLATILE = re.compile(
    r"^(Pid|PPid|Tgid|Ngid|NSpid|NSpgid|NSsid|NStgid|Vm\w+|Rss\w+|\w*voluntary_ctxt_switches"
    r"|Cpus_allowed.*|HugetlbPages|SigQ):.*|\d+:freezer:.*exec-\d+|exec-\d+|\d+ -> .*/fd$"
    r"|(?<=pipe:\[)\d+|/proc/\d+",
    re.MULTILINE,
)
PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}],
}
LIMITS = [
    {"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99},
    {"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1},
]
SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
CASES: dict[str, dict[str, Any]] = {
    "root": {},
    "with a filter": {"cwd": "/proc/self/../../bin/./", "rlimits": LIMITS, "oomScoreAdj": 321},
    "a user": {
        "user": {"uid": 4321, "gid": 5432, "additionalGids": [7, 9], "umask": 0o027},
        "capabilities": dict.fromkeys(SETS, CAPABILITIES[:2]),
        "noNewPrivileges": True,
    },
}


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    found = detect().cgroup(f"/kt{secrets.token_hex(4)}")
    found.create()
    found.apply(LinuxResources.from_oci({"pids": {"limit": 60}}))
    yield found
    found.kill()
    found.remove()


def of_the_shim(command: dict[str, Any]) -> dict[str, Any]:
    """The same command, which the launcher is too small for."""
    return command | {"env": [*command["env"], "PAD=" + "x" * MAX_SIZE]}


def parent(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def is_launcher(pid: int, shims: set[int] | None = None) -> bool:
    """Whether a process is one, maybe of one of these shims: the machine may have others."""
    try:
        comm = Path(f"/proc/{pid}/comm").read_text()
        return comm == "kubeletpy-exec\n" and (shims is None or parent(pid) in shims)
    except (FileNotFoundError, ProcessLookupError):
        return False


def launchers(cgroup: Cgroup) -> list[int]:
    """The launchers of the shim whose containers are in the cgroup."""
    shims = {parent(pid) for pid in cgroup.processes()}
    return [
        int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_launcher(int(pid), shims)
    ]


async def start(pod: Pod, cgroup: Cgroup, linux: dict[str, Any] | None = None) -> None:
    request = pod.request(
        "c",
        process("sleep", "1000"),
        cgroup_procs=tuple(cgroup.procs_files()),
        linux=linux or {},
    )
    if linux:
        (Path(request.bundle) / "seccomp.bpf").write_bytes(compile_profile(PROFILE))
    await pod.client.start(request)


async def run(pod: Pod, command: dict[str, Any]) -> tuple[int, str, str]:
    result = await pod.client.exec_sync("c", command, timeout=patient(10))
    return result.exit_code, result.stdout.decode(), result.stderr.decode()


async def launched(pod: Pod, cgroup: Cgroup) -> int:
    """Start a container and a command in it; return the launcher that forked the command."""
    if (program := sealed("test", b"")) < 0:
        pytest.skip("there is no launcher on this machine")
    os.close(program)
    await start(pod, cgroup)
    assert (await run(pod, process("true")))[0] == 0
    (found,) = launchers(cgroup)
    return found


@pytest.mark.parametrize("case", CASES)
async def test_a_command_is_the_same_from_either(pod: Pod, cgroup: Cgroup, case: str) -> None:
    linux: dict[str, Any] | None = {"seccomp": {"flags": []}} if case == "with a filter" else None
    await start(pod, cgroup, linux)
    command = process("sh", "-c", FACTS) | CASES[case]
    theirs, again, ours = [await run(pod, one) for one in (command, command, of_the_shim(command))]
    assert launchers(cgroup) or os.uname().machine != "x86_64"
    assert theirs[0] == again[0] == ours[0] == 0, theirs
    facts = [VOLATILE.sub("", output) for _, output, _ in (theirs, again, ours)]
    assert "CapBnd" in facts[0]
    assert facts[0] == facts[1] == facts[2]
    if linux:
        refused = await run(pod, process("mkdir", "/tmp-x"))
        assert refused[0] != 0
        assert os.strerror(99) in refused[2]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (process("missing"), "not-found"),
        (process("/bin/missing"), "not-found"),
        (process("not-executable"), "not-executable"),
        (process("/bin/not-executable"), "not-executable"),
        (process("true", cwd="/missing"), "setup"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["args"][0],
)
async def test_a_failure_is_told_in_the_same_words(
    pod: Pod, cgroup: Cgroup, command: dict[str, Any], code: str
) -> None:
    (pod.layer / "bin/not-executable").write_text("")
    await start(pod, cgroup)
    errors = []
    for each in (command, of_the_shim(command)):
        with pytest.raises(ShimError) as caught:
            await run(pod, each)
        errors.append((caught.value.code, str(caught.value)))
    assert errors[0][0] == errors[1][0] == code
    if code != "setup":
        assert errors[0] == errors[1]


async def test_a_command_that_it_left_unread_is_forked_by_the_shim(
    pod: Pod, cgroup: Cgroup
) -> None:
    first = await launched(pod, cgroup)
    os.kill(first, signal.SIGSTOP)
    asked = asyncio.create_task(run(pod, process("sh", "-c", "exit 3")))

    def waits() -> bool:
        # A shim at rest waits in epoll_wait(2); for the answer it waits in poll(2) or recvfrom(2).
        return Path(f"/proc/{parent(first)}/syscall").read_text().split()[0] in ("7", "45")

    await asyncio.to_thread(wait_until, waits, "the shim to wait for the answer", 5)
    os.kill(first, signal.SIGKILL)
    assert (await asked)[0] == 3


async def test_it_is_replaced_when_it_dies_and_ends_with_the_shim(pod: Pod, cgroup: Cgroup) -> None:
    first = await launched(pod, cgroup)
    os.kill(first, signal.SIGKILL)
    # Until the shim has reaped it, a command may be read by who is about to end.
    await asyncio.to_thread(wait_until, lambda: not is_launcher(first), "its end", 5)
    assert (await run(pod, process("true")))[0] == 0
    (second,) = launchers(cgroup)
    assert second != first
    await pod.client.shutdown()
    await asyncio.to_thread(wait_until, lambda: not is_launcher(second), "its end", 5)
