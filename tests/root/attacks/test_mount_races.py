"""Races on what a runtime looks up before it mounts, masks or enters it."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from kubeletpy_common.linux.libc import AT_FDCWD, check, libc
from kubeletpy_proto import cri_pb2 as cri
from tests.root.attacks.attacker import command, python_mounts
from tests.root.runtime.cri.node import Node, refused, wait_until

pytestmark = pytest.mark.root

STARTS = 100
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
_RENAME_EXCHANGE = 2


@pytest.fixture(autouse=True)
def core_pattern() -> Iterator[None]:
    """The favourite of attackers: a program that the kernel runs as root of the host."""
    before = CORE_PATTERN.read_text()
    yield
    assert CORE_PATTERN.read_text() == before


@contextmanager
def exchanging(one: Path, other: Path) -> Iterator[list[int]]:
    """Exchange two directory entries over and over, atomically, as fast as it goes."""
    stop, counts = threading.Event(), [0]
    names = [os.fsencode(path) for path in (one, other)]

    def exchange() -> None:
        while not stop.is_set():
            done = libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], _RENAME_EXCHANGE)
            check(done, "renameat2", one, other)
            counts[0] += 1

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        yield counts
    finally:
        stop.set()
        thread.join()


def test_a_race_on_a_mount_target_never_shows_or_changes_the_host(
    node: Node, tmp_path: Path
) -> None:
    """CVE-2021-30465, CVE-2024-45310: a target is swapped for a link between look and mount."""
    outside, volume, payload = (tmp_path / name for name in ("outside", "volume", "payload"))
    for directory in (outside, volume, payload, volume / "target"):
        directory.mkdir()
    (outside / "canary").write_text("host")
    (payload / "inside").write_text("payload")
    (volume / "link").symlink_to("../" * 20 + str(outside).lstrip("/"))
    mounts = [
        cri.Mount(container_path="/volume", host_path=str(volume)),
        cri.Mount(container_path="/volume/target/deep", host_path=str(payload)),
    ]
    script = "cat /volume/*/canary /volume/*/deep/* 2>/dev/null; true"
    started, failures = 0, list[str]()
    with node.pod() as sandbox, exchanging(volume / "target", volume / "link") as exchanges:
        for number in range(STARTS):
            config = node.container_config("sh", "-c", script, name=f"c{number}", mounts=mounts)
            container = node.create(sandbox, config)
            try:
                node.start(container)
            except grpc.RpcError as error:
                failures.append(error.details() or "")
            else:
                started += 1
                assert "host" not in node.output(node.wait_exited(container))
            node.remove(container)
            # Neither a directory made nor a mount left on the host.
            assert os.listdir(outside) == ["canary"]
    assert started > 0
    # A start may fail, as long as it says where.
    assert [text for text in failures if "/volume/target" not in text] == []
    assert exchanges[0] > STARTS


def test_a_swapped_console_is_not_followed(node: Node, tmp_path: Path) -> None:
    """CVE-2025-52565: /dev/console or /dev/pts lead to what the attacker wants writable."""
    devices = tmp_path / "dev"
    devices.mkdir()
    (devices / "console").symlink_to(CORE_PATTERN)
    (devices / "pts").symlink_to("/proc/sys/kernel")
    mounts = [cri.Mount(container_path="/dev", host_path=str(devices))]
    script = f"echo '|/evil' > /dev/console; echo '|/evil' > {CORE_PATTERN}"
    security = {"readonly_paths": ["/proc/sys"]}
    with node.pod() as sandbox:
        config = node.container_config("sh", "-c", script, tty=True, mounts=mounts,
                                       security=security)  # fmt: skip
        container = node.create(sandbox, config)
        error = refused(lambda: node.start(container))
        assert "devpts" in (error.details() or "")


def test_a_mount_that_races_never_lands_on_procfs(node: Node, tmp_path: Path) -> None:
    """CVE-2025-52881, CVE-2019-16884: a target becomes a link to /proc at the last moment."""
    volume, payload = tmp_path / "volume", tmp_path / "payload"
    for directory in (volume, payload, volume / "target"):
        directory.mkdir()
    (volume / "link").symlink_to("/proc/self/attr")
    mounts = [
        cri.Mount(container_path="/volume", host_path=str(volume)),
        cri.Mount(container_path="/volume/target", host_path=str(payload)),
    ]
    script = "grep -c ' /proc/.' /proc/mounts"
    outcomes = {"volume": 0, "refused": 0}
    with node.pod() as sandbox, exchanging(volume / "target", volume / "link") as exchanges:
        for number in range(STARTS):
            config = node.container_config("sh", "-c", script, name=f"c{number}", mounts=mounts)
            container = node.create(sandbox, config)
            try:
                node.start(container)
            except grpc.RpcError as error:
                # It is live: the target did lead to procfs.
                outcomes["refused"] += "procfs" in (error.details() or "")
            else:
                outcomes["volume"] += 1
                assert node.output(node.wait_exited(container)) == "0"
            node.remove(container)
    assert min(outcomes.values()) > 0, outcomes
    assert exchanges[0] > STARTS


def test_a_swapped_null_device_is_not_what_masks(node: Node, tmp_path: Path) -> None:
    """CVE-2025-31133: /dev/null is a link to what the attacker wants writable, now and then."""
    devices = tmp_path / "dev"
    (devices / "shm").mkdir(parents=True)
    (devices / "null").symlink_to(CORE_PATTERN)
    os.mknod(devices / "other", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    mounts = [cri.Mount(container_path="/dev", host_path=str(devices))]
    masked = "/proc/timer_list"
    script = f"stat -c %t:%T {masked}; echo '|/evil' > {masked}; echo '|/evil' > {CORE_PATTERN}"
    security = {"masked_paths": [masked], "readonly_paths": ["/proc/sys"]}
    with node.pod() as sandbox, exchanging(devices / "null", devices / "other") as exchanges:
        for number in range(STARTS // 4):
            status = node.run_to_end(sandbox, "sh", "-c", script, name=f"c{number}",
                                     mounts=mounts, security=security)  # fmt: skip
            output = node.output(status)
            assert output.startswith("1:3"), output
            # It is live: a plain write to the target is refused only because that is read-only.
            assert "Read-only file system" in output
            node.remove(status.id)
    assert exchanges[0] > STARTS


def test_a_directory_that_is_swapped_while_a_command_enters_it(node: Node, tmp_path: Path) -> None:
    """The working directory of ExecSync, exchanged for links by the container itself."""
    canary = tmp_path / "canary"
    canary.write_text("host canary")
    program = f"""
os.mkdir("/other")
targets = ["/proc/1/root", "/proc/1/cwd/../../..", "../" * 30, "/proc/self/fd/3", "{tmp_path}"]
for number, target in enumerate(targets):
    os.symlink(target, f"/link{{number}}")
count = 0
print("begun", flush=True)
while not os.path.exists("/tmp/stop"):
    for number in range(len(targets)):
        # RENAME_EXCHANGE, there and back.
        for _ in range(2):
            call("renameat2", -100, b"/work", -100, f"/link{{number}}".encode(), 2)
            count += 1
print("exchanged", count)
"""
    script = f"cat canary ./{tmp_path.name}/canary .{canary} {canary} 2>/dev/null; true"
    entered, refusals = 0, list[str]()
    with node.pod() as sandbox:
        container = node.run(sandbox, *command(program), mounts=python_mounts(),
                             working_dir="/work")  # fmt: skip
        log = Path(node.status(container).log_path)
        wait_until(lambda: "begun" in log.read_text(), "the exchange to begin", 10)
        for _ in range(STARTS // 2):
            try:
                result = node.exec(container, "sh", "-c", script)
            except grpc.RpcError as error:
                refusals.append(error.details() or "")
            else:
                entered += 1
                assert b"host" not in result.stdout
        stopped = False
        while not stopped:
            try:
                stopped = node.exec(container, "touch", "/tmp/stop").exit_code == 0
            except grpc.RpcError:
                continue
        output = node.output(node.wait_exited(container))
    assert entered > 0
    assert [text for text in refusals if "working directory" not in text] == []
    assert int(output.split()[-1]) > 10 * STARTS
