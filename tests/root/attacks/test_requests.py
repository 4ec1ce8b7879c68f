"""Requests and images that ask for more than they may have: users, sysctls, annotations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import SLEEP, Node, refused

pytestmark = pytest.mark.root

CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")


@pytest.fixture(autouse=True)
def core_pattern() -> Iterator[None]:
    """The favourite of attackers: a program that the kernel runs as root of the host."""
    before = CORE_PATTERN.read_text()
    yield
    assert CORE_PATTERN.read_text() == before


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
        cgroup = node.place.container_cgroup(sandbox, container)
        v1 = node.cgroup_file(cgroup, "memory", "memory.limit_in_bytes")
        file = v1 if v1.exists() else node.cgroup_file(cgroup, "memory", "memory.max")
        assert int(file.read_text()) == 32 << 20
        assert node.shell(container, "grep Seccomp: /proc/self/status").endswith("2")


def test_a_restart_of_the_daemon_changes_no_user(node: Node) -> None:
    """CVE-2019-11245: the first container runs as asked, what comes after a restart as root."""
    reference = node.push("tests/user-again", User="web")
    image = cri.ImageSpec(image=node.pull(reference))
    asked = {"run_as_user": cri.Int64Value(value=1234)}
    with node.pod() as sandbox:
        created = node.create(sandbox, node.container_config(*SLEEP, name="created", image=image))
        running = node.run(sandbox, *SLEEP, name="running", security=asked)
        node.restart()
        node.start(created)
        assert node.shell(created, "id -u") == "1000"
        assert node.shell(running, "id -u") == "1234"
        again = node.run(sandbox, *SLEEP, name="again", image=image)
        assert node.shell(again, "id -u") == "1000"
        assert node.status(running).user.linux.uid == 1234
