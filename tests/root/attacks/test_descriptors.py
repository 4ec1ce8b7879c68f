"""What a process brings along into a container: program, descriptors, directory, environment."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import kubeletpy_common
import runtime
from kubeletpy_common.linux.paths import open_in_root
from kubeletpy_proto import cri_pb2 as cri
from runtime.shim.client import ShimError
from tests.root.attacks.attacker import PRELUDE, attack, command, python_mounts
from tests.root.runtime.cri.node import SLEEP, Node
from tests.root.runtime.cri.stream_clients import channels, exec_url, in_network_of
from tests.root.runtime.cri.test_recovery import shim_of
from tests.root.runtime.shim.conftest import pod
from tests.root.runtime.shim.pod import Pod, process
from tests.support.ociimage import File, Symlink
from tests.support.probes import TOKEN_VARIABLE

__all__ = ["pod"]
pytestmark = pytest.mark.root

EXECS, TERMINALS = 60, 20
# Whoever holds a descriptor of the program may wait until nobody executes it any more.
OVERWRITE = """
held = os.open("/proc/self/exe", os.O_RDONLY)
print("LIVE", os.readlink("/proc/self/exe"), flush=True)
for path in ("/proc/self/exe", f"/proc/self/fd/{held}"):
    tried("write", lambda: os.write(os.open(path, os.O_WRONLY), b"evil"))
    tried("append", lambda: os.write(os.open(path, os.O_WRONLY | os.O_APPEND), b"evil"))
    tried("truncate", lambda: os.truncate(path, 0))
tried("grow", lambda: os.ftruncate(held, 1 << 30))
"""


def hashes(node: Node, sandbox: str) -> dict[str, str]:
    """Return the hash of each file that the runtime's processes execute or import."""
    found: set[Path] = set()
    for pid in (node.daemon.pid, shim_of(sandbox)):
        maps = Path(f"/proc/{pid}/maps").read_text()
        found |= {Path(name) for name in re.findall(r" (/\S+)$", maps, re.MULTILINE)}
    for package in (runtime, kubeletpy_common):
        found |= set(Path(package.__file__ or "").parent.rglob("*.py"))
    # Of its own files, the databases are mapped as well.
    own = node.place.directory
    kept = [path for path in found if path.is_file() and not path.is_relative_to(own)]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def on_terminal(node: Node, container: str, *words: str) -> str:
    """Return what a command says on a terminal, which the shim itself forks."""
    streamed = exec_url(node, container, *words, tty=True, stdin=True, stdout=True)

    async def session() -> str:
        async with channels(streamed) as client:
            await client.to_end()
        return client.received[1].decode()

    return in_network_of(node, session())


@pytest.mark.parametrize("start", ["run", "exec", "terminal"])
@pytest.mark.parametrize("program", ["/bin/script", "/proc/self/exe", "/bin/link"])
def test_the_runtimes_own_program_cannot_be_overwritten(
    node: Node, start: str, program: str
) -> None:
    """CVE-2019-5736: the image has the runtime execute itself once more, inside."""
    text = f"#!/proc/self/exe -ISB\n{PRELUDE}{OVERWRITE}"
    files = {"bin/script": File(text.encode(), mode=0o755), "bin/link": Symlink("/proc/self/exe")}
    image = cri.ImageSpec(image=node.pull(node.push("tests/self", files)))
    words = (program,) if program == "/bin/script" else (program, "-ISBc", PRELUDE + OVERWRITE)
    mounts = python_mounts()
    with node.pod() as sandbox:
        before = hashes(node, sandbox)
        assert any("libc" in name for name in before)
        if start == "run":
            status = node.run_to_end(sandbox, *words, image=image, mounts=mounts)
            output = node.output(status)
        else:
            container = node.run(sandbox, *SLEEP, image=image, mounts=mounts)
            if start == "exec":
                result = node.exec(container, *words)
                output = (result.stdout + result.stderr).decode()
            else:
                output = on_terminal(node, container, *words)
        if start == "exec" and platform.machine() == "x86_64":
            # What such a command is forked from can be told nothing inside: it ends at once.
            assert (output, result.exit_code) == ("", 0)
        else:
            # The attack is live: the runtime's interpreter runs inside the container.
            assert re.search(r"LIVE /memfd:python", output), output
            assert output.count("failed") == 7, output
        assert "DID" not in output
        assert hashes(node, sandbox) == before


async def test_no_descriptor_of_the_host_is_a_working_directory_or_a_program(pod: Pod) -> None:
    """CVE-2024-21626: a leaked descriptor, named by /proc/self/fd/N, in run and in exec."""
    (pod.base / "canary").write_text("canary")
    assert pod.sandbox.shim_pid
    open_there = [int(name) for name in os.listdir(f"/proc/{pod.sandbox.shim_pid}/fd")]
    numbers = range(3, max(open_there) + 12)
    for number in numbers:
        (pod.layer / f"l{number}").symlink_to(f"/proc/self/fd/{number}")
    await pod.client.start(pod.request("victim", process("sleep", "100")))
    good = await pod.client.exec_sync("victim", process("ls", "bin"), timeout=5)
    assert b"sleep" in good.stdout
    for number in numbers:
        here = f"/proc/self/fd/{number}"
        for directory in (here, f"{here}/../..", f"/l{number}", f"/l{number}/.."):
            with pytest.raises(ShimError):
                await pod.client.exec_sync("victim", process("ls", cwd=directory), timeout=5)
        for program in (here, f"{here}/bin/ls", f"{here}/../../../bin/ls", f"/l{number}/bin/ls"):
            with pytest.raises(ShimError):
                await pod.client.exec_sync("victim", process(program), timeout=5)
        searched = process("ls")
        searched["env"] = [f"PATH={here}:{here}/bin:{here}/../../bin"]
        with pytest.raises(ShimError):
            await pod.client.exec_sync("victim", searched, timeout=5)
    for number in {*open_there, numbers[-1]} - {0, 1, 2}:
        for name, directory in (("d", f"/proc/self/fd/{number}"), ("l", f"/l{number}")):
            with pytest.raises(ShimError):
                await pod.run(f"{name}{number}", process("ls", "..", cwd=directory))


def test_a_leaked_descriptor_would_be_refused_all_the_same(tmp_path: Path) -> None:
    """The look-up itself refuses: nobody has to rely on nothing being leaked."""
    leaked = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        path = f"/proc/self/fd/{leaked}"
        assert os.path.samestat(os.stat(path), os.stat(tmp_path))
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
    finally:
        os.close(leaked)
        os.close(root)


def test_a_process_has_three_descriptors_and_its_own_environment(node: Node) -> None:
    """CVE-2024-21626, CVE-2016-9962: whatever the way it is started."""
    look = """
fds = sorted(int(name) for name in os.listdir("/proc/self/fd"))
print("DESCRIPTORS", [fd for fd in fds if os.path.exists(f"/proc/self/fd/{fd}")])
words = open("/proc/self/environ").read().split("\\0")
print("ENVIRONMENT", sorted(word.partition("=")[0] for word in words if word))
"""
    expected = "DESCRIPTORS [0, 1, 2]"
    names = "ENVIRONMENT ['HOME', 'HOSTNAME', 'PATH']"
    marked = os.environ[TOKEN_VARIABLE]
    assert marked in Path(f"/proc/{node.daemon.pid}/environ").read_text()
    ids = [cri.IDMapping(host_id=300_000, container_id=0, length=65_536)]
    mapped = cri.NamespaceOption(
        pid=cri.CONTAINER, userns_options=cri.UserNamespace(mode=cri.POD, uids=ids, gids=ids)
    )
    for options in (cri.NamespaceOption(pid=cri.CONTAINER), mapped):
        security = {"namespace_options": options}
        with node.pod(namespaces=options) as sandbox:
            mounts = python_mounts()
            outputs = [attack(node, sandbox, look, name="run", security=security)]
            outputs += [attack(node, sandbox, look, name="tty", tty=True, security=security)]
            held = node.run(sandbox, *SLEEP, name="exec", mounts=mounts, security=security)
            outputs += [node.exec(held, *command(look)).stdout.decode()]
            assert marked not in node.shell(held, "cat /proc/[0-9]*/environ")
            outputs += [on_terminal(node, held, *command(look))]
        for output in outputs:
            assert expected in output, output
        assert [names in output for output in outputs] == [True, False, True, False]
        assert all("'TERM'" in outputs[number] for number in (1, 3))


WATCH = """
print("begin", flush=True)
names = ("kubeletpy-shim", "kubeletpy-exec")
seen, hits = {name: set() for name in names}, []
own = {int(name) for name in os.listdir("/proc") if name.isdigit()}
def comm(pid):
    with open(f"/proc/{pid}/comm") as stream:
        return stream.read().strip()
def memory(pid):
    os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))
attempts = {
    "root": lambda pid: os.listdir(f"/proc/{pid}/root/"),
    "cwd": lambda pid: os.readlink(f"/proc/{pid}/cwd"),
    "exe": lambda pid: os.readlink(f"/proc/{pid}/exe"),
    "fd": lambda pid: [os.stat(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")],
    "environ": lambda pid: open(f"/proc/{pid}/environ").read(),
    "mem": memory,
    "ns": lambda pid: os.readlink(f"/proc/{pid}/ns/mnt"),
    "trace": lambda pid: call("ptrace", 0x4206, pid, 0, 0),
}
while not os.path.exists("/gate/stop"):
    for pid in {int(name) for name in os.listdir("/proc") if name.isdigit()} - own:
        for what, attempt in attempts.items():
            try:
                name = comm(pid)
                if name not in names:
                    break
                seen[name].add(pid)
                attempt(pid)
                # What it was before and after, it was meanwhile: still the runtime's.
                if comm(pid) == name:
                    hits.append(what)
            except OSError:
                pass
    try:
        # What is traced ends for its own parent only when its tracer has taken note (ptrace(2)).
        while os.waitpid(-1, os.WNOHANG | 0x40000000)[0]:
            pass
    except ChildProcessError:
        pass
print("seen", *(len(seen[name]) for name in names), "hits", sorted(set(hits)))
"""


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[cri.Mount]:
    directory = tmp_path / "gate"
    directory.mkdir()
    yield cri.Mount(container_path="/gate", host_path=str(directory))
    (directory / "stop").touch()


def test_a_process_on_its_way_in_cannot_be_looked_at(node: Node, gate: cri.Mount) -> None:
    """CVE-2016-9962: in the container's PID namespace, it is still half the host's."""
    with node.pod() as sandbox:
        mounts = [*python_mounts(), gate]
        watcher = node.run(sandbox, *command(WATCH), mounts=mounts)
        for _ in range(EXECS):
            node.exec(watcher, "true")
        for _ in range(TERMINALS):
            on_terminal(node, watcher, "true")
        (Path(gate.host_path) / "stop").touch()
        output = node.output(node.wait_exited(watcher))
    found = re.search(r"seen (\d+) (\d+) hits \[(.*)\]", output)
    assert found, output
    seen = int(found[1]), int(found[2])
    assert seen[0] > TERMINALS / 4, "the attack has not seen what it is to attack"
    assert seen[1] > EXECS / 4 or platform.machine() != "x86_64", "likewise"
    assert found[3] == ""
