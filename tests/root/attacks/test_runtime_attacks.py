"""Published attacks on container runtimes, tried through CRI with canaries on the host."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from kubeletpy_common.linux.libc import AT_FDCWD, check, libc
from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import SLEEP, Node, refused

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


def test_a_user_beyond_the_numbers_is_not_root(node: Node) -> None:
    """CVE-2024-40635: USER of the image overflows to 0."""
    for number, user in enumerate(("2147483648", "4294967296", "4294967296:0", "0:4294967296")):
        reference = node.push(f"tests/overflow{number}", User=user)
        image = cri.ImageSpec(image=node.pull(reference))
        with node.pod() as sandbox:
            config = node.container_config("true", image=image)
            error = refused(lambda s=sandbox, c=config: node.create(s, c))  # type: ignore[misc]
            assert "out of range" in (error.details() or "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/evil"),
        ("kernel.shm_rmid_forced", "1\nkernel.core_pattern=|/evil"),
        ("kernel.shm_rmid_forced+kernel.core_pattern", "|/evil"),
        ("net.ipv4.../../kernel.core_pattern", "|/evil"),
        ("net/ipv4/../../kernel/core_pattern", "|/evil"),
        ("kernel.core_pattern", "|/evil"),
    ],
)
def test_a_sysctl_that_carries_another(node: Node, name: str, value: str) -> None:
    """CVE-2022-0811, CVE-2022-0532: a value or a name smuggles in a sysctl of the host."""
    refused(lambda: node.run_pod(sysctls={name: value}))


def test_annotations_of_a_pod_are_no_settings(node: Node) -> None:
    """CVE-2023-6476, CVE-2024-3154: annotations lift limits or reach systemd."""
    annotations = {
        "io.kubernetes.cri-o.UnifiedCgroup.main": "memory.max=max",
        "cpu-load-balancing.crio.io": "disable",
        "org.systemd.property.ExecStart": "/evil",
        "run.oci.keep_original_groups": "1",
        "seccomp.security.alpha.kubernetes.io/pod": "unconfined",
    }
    limits = {"memory_limit_in_bytes": 32 << 20}
    with node.pod(annotations=annotations) as sandbox:
        container = node.run(
            sandbox, *SLEEP, resources=limits, annotations=annotations,
            security={"seccomp": cri.SecurityProfile()},
        )  # fmt: skip
        cgroup = f"{node.place.cgroup}/{sandbox}/{container}"
        v1 = node.cgroup_file(cgroup, "memory", "memory.limit_in_bytes")
        file = v1 if v1.exists() else node.cgroup_file(cgroup, "memory", "memory.max")
        assert int(file.read_text()) == 32 << 20
        assert node.shell(container, "grep Seccomp: /proc/self/status").endswith("2")
