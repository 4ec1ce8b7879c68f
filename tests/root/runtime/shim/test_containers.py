from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from runtime.shim.client import ShimError
from runtime.shim.messages import SandboxSpec
from runtime.spawner.client import SpawnError
from runtime.spawner.sandbox import destroy_sandbox_mounts
from tests.root.runtime.cri.node import wait_until
from tests.root.runtime.shim.pod import Pod, process
from tests.support.circumstances import patient
from tests.support.disks import filled, small_disk

pytestmark = pytest.mark.root


async def test_output_goes_to_the_log_in_cri_format(pod: Pod) -> None:
    await pod.run("c", process("sh", "-c", "echo out; echo err >&2; printf unfinished"))
    entries = pod.log("c")
    assert ("stdout", "F", "out") in entries
    assert ("stderr", "F", "err") in entries
    assert ("stdout", "P", "unfinished") in entries


@pytest.mark.parametrize("code", [0, 7, 255])
async def test_exit_codes(pod: Pod, code: int) -> None:
    record = await pod.run("c", process("sh", "-c", f"exit {code}"))
    assert record.exit_code == code
    on_disk = json.loads((pod.base / "containers/c/exit.json").read_text())
    assert on_disk["exit_code"] == code
    assert on_disk["exited_at_ns"] == record.exited_at_ns


async def test_a_killed_container(pod: Pod) -> None:
    await pod.client.start(pod.request("c", process("sleep", "100")))
    await pod.client.kill("c", signal.SIGKILL)
    assert (await pod.exited("c")).exit_code == 128 + signal.SIGKILL


async def test_namespaces_are_the_pods_and_its_own(pod: Pod) -> None:
    await pod.run("c", process("sh", "-c", "hostname; echo $$; ls /proc/self/ns -l"))
    text = pod.text("c")
    assert text.startswith("pod-host\n1\n")
    for kind in ("net", "ipc", "uts", "pid", "mnt", "cgroup"):
        host = os.readlink(f"/proc/self/ns/{kind}")
        assert host not in text, f"the container is in the host's {kind} namespace"
    network = os.stat(pod.sandbox.namespaces["network"]).st_ino
    assert f"net:[{network}]" in text


async def test_nothing_of_a_container_is_mounted_on_the_host(pod: Pod) -> None:
    await pod.client.start(pod.request("c", process("sleep", "100")))
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(pod.base / "containers") not in mounts
    assert mounts.count(str(pod.base)) == 4, "the three pinned namespaces and /dev/shm"


async def test_descriptors_of_a_fresh_process(pod: Pod) -> None:
    await pod.client.start(pod.request("c", process("sleep", "100")))
    for target in ("1", "$$"):
        # The trailing command keeps the shell from becoming ls, which opens the directory itself.
        listing = process("sh", "-c", f"ls /proc/{target}/fd; true")
        result = await pod.client.exec_sync("c", listing, timeout=patient(5))
        assert result.stdout.split() == [b"0", b"1", b"2"]


async def test_exec_sync(pod: Pod) -> None:
    await pod.client.start(pod.request("c", process("sleep", "100")))
    command = process("sh", "-c", "echo $$; echo no >&2; exit 4")
    result = await pod.client.exec_sync("c", command, timeout=patient(5))
    assert int(result.stdout) > 1
    assert result.stderr == b"no\n"
    assert (result.exit_code, result.timed_out) == (4, False)


async def test_exec_sync_is_killed_when_its_time_is_up(pod: Pod) -> None:
    await pod.client.start(pod.request("c", process("sleep", "100")))
    result = await pod.client.exec_sync("c", process("sleep", "100"), timeout=0.2)
    assert result.timed_out
    assert result.exit_code == 128 + signal.SIGKILL


async def test_exec_sync_is_killed_when_its_caller_gives_up(pod: Pod) -> None:
    await pod.client.start(pod.request("c", process("sleep", "100")))
    task = asyncio.create_task(
        pod.client.exec_sync("c", process("sh", "-c", "sleep 77"), timeout=None)
    )
    counted = process("sh", "-c", "grep -lsx 'Name:\tsleep' /proc/[0-9]*/status | wc -l")
    for expected in (b"2\n", b"1\n"):
        async with asyncio.timeout(patient(10)):
            while (await pod.client.exec_sync("c", counted, timeout=patient(5))).stdout != expected:
                pass
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_exec_sync_does_not_wait_for_what_it_left_behind(pod: Pod) -> None:
    await pod.client.start(pod.request("c", process("sleep", "100")))
    command = process("sh", "-c", "sleep 50 & echo done")
    result = await pod.client.exec_sync("c", command, timeout=patient(10))
    assert (result.stdout, result.exit_code, result.timed_out) == (b"done\n", 0, False)


async def test_exec_sync_keeps_a_bounded_part_of_endless_output(pod: Pod) -> None:
    await pod.client.start(pod.request("c", process("sleep", "100")))
    command = process("sh", "-c", "cat /dev/zero")
    result = await pod.client.exec_sync("c", command, timeout=1)
    assert len(result.stdout) == 16 << 20
    assert result.timed_out


@pytest.mark.parametrize(
    ("args", "cwd", "code"),
    [
        (["/no/such"], "/", "not-found"),
        (["nosuch"], "/", "not-found"),
        (["/bin"], "/", "not-executable"),
        (["true"], "/bin/true", "setup"),
    ],
)
async def test_a_failed_start_says_why_and_leaves_nothing(
    pod: Pod, args: list[str], cwd: str, code: str
) -> None:
    with pytest.raises(ShimError) as error:
        await pod.client.start(pod.request("c", process(*args, cwd=cwd)))
    assert error.value.code == code
    assert args[0] in str(error.value) or cwd in str(error.value)
    assert await pod.client.containers() == []
    children = Path(f"/proc/{pod.sandbox.shim_pid}/task/{pod.sandbox.shim_pid}/children")
    async with asyncio.timeout(patient(5)):
        while children.read_text():
            await pod.client.containers()


async def test_users_and_limits(pod: Pod) -> None:
    proc = process("sh", "-c", "id -u; id -G; ulimit -n; umask", uid=1234)
    proc["user"]["additionalGids"] = [5, 1234, 6]
    proc["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 100}]
    await pod.run("c", proc)
    uid, groups, files, umask = pod.text("c").splitlines()
    assert uid == "1234"
    assert sorted(map(int, groups.split())) == [5, 6, 1234]
    assert (files, umask) == ("99", "0022")


@pytest.mark.parametrize("uid", [0, 1000])
async def test_capabilities(pod: Pod, uid: int) -> None:
    show = process("cat", "/proc/self/status", uid=uid, noNewPrivileges=True)
    await pod.client.start(pod.request("c", process("sleep", "100")))
    result = await pod.client.exec_sync("c", show, timeout=patient(5))
    await pod.run("d", show)
    for text in (result.stdout.decode(), pod.text("d")):
        facts = dict(line.split(":", 1) for line in text.splitlines())
        facts = {key: value.strip() for key, value in facts.items()}
        assert int(facts["CapInh"], 16) == 0
        assert int(facts["CapAmb"], 16) == 0
        granted = 0b1000000000000000000011100011 | 1 << 27
        assert int(facts["CapBnd"], 16) == granted
        assert int(facts["CapEff"], 16) == (granted if uid == 0 else 0)
        assert facts["NoNewPrivs"] == "1"
        assert facts["SigIgn"] == facts["SigBlk"] == "0000000000000000"


async def test_a_terminal(pod: Pod) -> None:
    proc = process("sh", "-c", "tty; ls -l /proc/self/fd/0; echo err >&2; ls -l /dev/console")
    await pod.run("c", proc, terminal=True)
    text = pod.text("c")
    assert "/dev/pts/0" in text or "/dev/console" in text
    assert "err" in text, "a terminal has one stream"


async def test_a_read_only_root(pod: Pod) -> None:
    command = process("sh", "-c", "echo x > /file; echo y > /dev/x && echo dev")
    await pod.run("c", command, readonly=True)
    assert any("Read-only file system" in text for _, _, text in pod.log("c"))
    assert pod.text("c") == "dev"


async def test_masked_and_read_only_paths(pod: Pod) -> None:
    command = "cat /proc/keys; ls /sys/firmware; echo 1 > /proc/sys/vm/swappiness; echo end"
    await pod.run("c", process("sh", "-c", command))
    assert pod.text("c") == "end"
    assert any("Read-only file system" in text for _, _, text in pod.log("c"))


async def test_bind_mounts(pod: Pod, tmp_path: Path) -> None:
    source = tmp_path / "volume"
    source.mkdir()
    file = source / "file"
    file.write_text("hello")
    mounts = [
        {"destination": "/a/b", "type": "bind", "source": str(source), "options": ["rbind"]},
        {"destination": "/c", "type": "bind", "source": str(file), "options": ["bind", "ro"]},
    ]
    command = "cat /a/b/file /c; echo > /a/b/made; echo > /c"
    await pod.run("c", process("sh", "-c", command), mounts=mounts)
    assert pod.text("c") == "hellohello"
    assert (source / "made").exists()
    assert any("Read-only file system" in text for _, _, text in pod.log("c"))


async def test_a_daemon_that_dies_loses_nothing(pod: Pod) -> None:
    command = "read -t 1 x; for i in 1 2 3; do echo line $i; done; exit 9"
    await pod.client.start(pod.request("c", process("sh", "-c", command), stdin=True))
    await pod.client.close()
    exit_file = pod.base / "containers/c/exit.json"
    client = await pod.connect()
    async with asyncio.timeout(patient(10)):
        while not exit_file.exists():
            await client.containers()
    pod.client = client
    (report,) = await client.containers()
    assert report.exit is not None
    assert report.exit.exit_code == 9
    assert pod.text("c").splitlines() == ["line 1", "line 2", "line 3"]


async def test_a_killed_shim_takes_its_containers_along(pod: Pod, tmp_path: Path) -> None:
    started = await pod.client.start(pod.request("c", process("sleep", "100")))
    watched = os.pidfd_open(started.pid)
    os.kill(pod.sandbox.shim_pid, signal.SIGKILL)
    await asyncio.wait_for(pod.lost.wait(), patient(5))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(watched, ended.set)
    await asyncio.wait_for(ended.wait(), patient(5))
    asyncio.get_running_loop().remove_reader(watched)
    os.close(watched)
    with pytest.raises(ShimError, match="has ended"):
        await pod.client.containers()


async def test_a_killed_spawner_is_replaced(pod: Pod, tmp_path: Path) -> None:
    first = pod.spawner.pid
    assert first is not None
    started = await pod.client.start(pod.request("c", process("sleep", "100")))
    os.kill(first, signal.SIGKILL)
    directory = tmp_path / "other"
    directory.mkdir()
    spec = SandboxSpec("other", directory)
    async with asyncio.timeout(patient(10)):
        while True:
            try:
                other = await pod.spawner.spawn_sandbox(spec)
                break
            except SpawnError:
                # The request met the dying process; the next one finds its successor.
                continue
    assert pod.spawner.pid != first
    assert os.path.exists(f"/proc/{started.pid}")
    neighbour = Pod(tmp_path, pod.spawner, other, None)  # type: ignore[arg-type]
    neighbour.client = await neighbour.connect()
    await neighbour.client.shutdown()
    destroy_sandbox_mounts(directory)


async def test_a_sandbox_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    pod = await Pod.create(tmp_path)
    directory = tmp_path / "bad"
    directory.mkdir()
    spec = SandboxSpec("bad", directory, sysctls={"kernel.no_such": "1"})
    with pytest.raises(SpawnError, match="no_such"):
        await pod.spawner.spawn_sandbox(spec)
    assert str(directory) not in Path("/proc/self/mountinfo").read_text()
    await pod.destroy()


async def test_a_shared_pid_namespace(tmp_path: Path) -> None:
    pod = await Pod.create(tmp_path, shared_pid=True)
    for name in ("a", "b"):
        await pod.client.start(pod.request(name, process("sleep", "100"), own_pid=False))
    command = process("sh", "-c", "cat /proc/[0-9]*/comm")
    result = await pod.client.exec_sync("b", command, timeout=patient(5))
    assert result.stdout.split()[:3] == [b"pause", b"sleep", b"sleep"]
    await pod.destroy()


async def test_the_first_process_of_shared_pids_is_small_reaps_and_goes_with_the_shim(
    tmp_path: Path,
) -> None:
    pod = await Pod.create(tmp_path, shared_pid=True)
    await pod.client.start(pod.request("a", process("sleep", "100"), own_pid=False))
    [first] = [child for child in psutil.Process(pod.sandbox.shim_pid).children()
               if child.cmdline() == ["kubeletpy-pause"]]  # fmt: skip
    assert first.name() == "pause"
    assert first.memory_info().rss < 100 << 10
    # Left to it twice: while they run, and as a zombie that its parent has not asked for.
    orphans = process("sh", "-c", "(true & exec sleep 0.1) & (sleep 0.1 &) & echo left")
    assert (await pod.client.exec_sync("a", orphans, timeout=patient(5))).stdout == b"left\n"

    def alone() -> bool:
        return not first.children()

    await asyncio.to_thread(wait_until, alone, "the orphans to be reaped", 10)
    # Not dumpable: what is in /proc is root's, whoever the process is.
    assert os.stat(f"/proc/{first.pid}/maps").st_uid == 0
    assert first.uids().real == 65534
    os.kill(pod.sandbox.shim_pid, signal.SIGKILL)
    await asyncio.to_thread(
        wait_until, lambda: not psutil.pid_exists(first.pid), "it to go with the shim", 10
    )
    await pod.destroy()


async def test_an_exit_is_told_on_a_full_disk_and_written_when_there_is_room(pod: Pod) -> None:
    request = pod.request("c", process("sh", "-c", "exit 7"))
    bundle = pod.base / "containers/c"
    config = (bundle / "config.json").read_bytes()
    with small_disk(bundle, 64 << 10):
        (bundle / "rootfs").mkdir()
        (bundle / "config.json").write_bytes(config)
        with filled(bundle):
            await pod.client.start(request.replaced(log_path=None))
            assert (await pod.exited("c")).exit_code == 7
            assert not (bundle / "exit.json").exists()
            [report] = await pod.client.containers()
            assert report.exit is not None
            assert report.exit.exit_code == 7
        await asyncio.to_thread(
            wait_until, (bundle / "exit.json").exists, "the record of the exit", 10
        )
        assert json.loads((bundle / "exit.json").read_text())["exit_code"] == 7
