"""Requests that cannot be honoured: a clear error each, and nothing left of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import SLEEP, Node, refused
from tests.support.circumstances import CGROUP_DRIVER

pytestmark = pytest.mark.root

INVALID = grpc.StatusCode.INVALID_ARGUMENT
Profile = cri.SecurityProfile
OF_OTHER_DRIVER = "/kubepods/pod1" if CGROUP_DRIVER == "systemd" else "kubepods.slice"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hostname": "a b"}, "hostname"),
        ({"hostname": "x" * 65}, "hostname"),
        ({"sysctls": {"kernel.core_pattern": "|/evil"}}, "kernel.core_pattern"),
        ({"sysctls": {"kernel.shm_rmid_forced": "1+kernel.core_pattern=x\n"}}, "one line"),
        ({"sysctls": {"kernel/../vm/swappiness": "1"}}, "malformed"),
        ({"dns_config": cri.DNSConfig(servers=["1.1.1.1\noptions x"])}, "dns_config.servers"),
        ({"dns_config": cri.DNSConfig(searches=["a\nnameserver 6.6.6.6"])}, "dns_config.searches"),
        ({"cgroup_parent": OF_OTHER_DRIVER}, "systemd"),
        ({"cgroup_parent": "/../../etc"}, ".."),
        ({"cgroup_parent": "relative"}, "slice" if CGROUP_DRIVER == "systemd" else "absolute"),
        ({"port_mappings": [cri.PortMapping(container_port=0, host_port=80)]}, "container port"),
    ],
)
def test_sandboxes_that_cannot_be(node: Node, fields: dict[str, Any], words: str) -> None:
    error = refused(lambda: node.run_pod(**fields))
    assert (error.code(), words in (error.details() or "")) == (INVALID, True), error.details()


def test_a_sysctl_that_the_kernel_does_not_have_is_named(node: Node) -> None:
    error = refused(lambda: node.run_pod(sysctls={"net.core.nothing": "1"}))
    assert "/proc/sys/net/core/nothing" in (error.details() or "")


def test_a_sandbox_with_host_namespaces_sets_no_sysctl_of_the_host(node: Node) -> None:
    host = cri.NamespaceOption(network=cri.NODE, ipc=cri.NODE, pid=cri.CONTAINER)
    for name in ("net.ipv4.tcp_syncookies", "kernel.shm_rmid_forced"):
        error = refused(lambda n=name: node.run_pod(namespaces=host, sysctls={n: "1"}))  # type: ignore[misc]
        assert "would change the host" in (error.details() or "")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"security": {"run_as_user": cri.Int64Value(value=1 << 31)}}, "out of range"),
        ({"security": {"run_as_user": cri.Int64Value(value=-1)}}, "out of range"),
        ({"security": {"run_as_username": "nobody-here"}}, "nobody-here"),
        ({"security": {"run_as_group": cri.Int64Value(value=1)}}, "run_as_group"),
        ({"security": {"seccomp": Profile(profile_type=Profile.Localhost)}}, "absolute path"),
        (
            {
                "security": {
                    "seccomp": Profile(
                        profile_type=Profile.Localhost, localhost_ref="/nowhere.json"
                    )
                }
            },
            "/nowhere.json",
        ),
        ({"security": {"apparmor": Profile(profile_type=Profile.RuntimeDefault)}}, "apparmor"),
        ({"security": {"privileged": True}}, "privileged"),
        (
            {"security": {"capabilities": cri.Capability(add_capabilities=["FLY"])}},
            "CAP_FLY",
        ),
        ({"log_path": "../../escape.log"}, "log_path"),
        ({"log_path": "/etc/escape.log"}, "log_path"),
        ({"working_dir": "relative"}, "working directory"),
        ({"env": {"A=B": "x"}}, "A=B"),
        ({"env": {"A": "x\0y"}}, "NUL"),
        ({"mounts": [cri.Mount(container_path="/x", host_path="relative")]}, "absolute"),
        ({"mounts": [cri.Mount(container_path="/", host_path="/tmp")]}, "root"),
        ({"mounts": [cri.Mount(container_path="/proc", host_path="/tmp")]}, "/proc"),
        (
            {"mounts": [cri.Mount(container_path="/x", image=cri.ImageSpec(image="y"))]},
            "read-only",
        ),
        (
            {"mounts": [cri.Mount(container_path="/x", host_path="/tmp", mount_options=["z"])]},
            "mount_options",
        ),
        ({"devices": [cri.Device(host_path="/etc/passwd", permissions="r")]}, "no device"),
        ({"devices": [cri.Device(host_path="/dev/null", permissions="x")]}, "rwm"),
        ({"CDI_devices": [cri.CDIDevice(name="v/c=d")]}, "'v/c=d' is unknown"),
        ({"resources": {"oom_score_adj": 2000}}, "oom_score_adj"),
        ({"resources": {"memory_limit_in_bytes": -5}}, "memory"),
    ],
)
def test_containers_that_cannot_be(node: Node, fields: dict[str, Any], words: str) -> None:
    with node.pod() as sandbox:
        config = node.container_config("true", **fields)
        error = refused(lambda: node.create(sandbox, config))
        assert (error.code(), words in (error.details() or "")) == (INVALID, True), error.details()
        # Nothing is left of it: its name is free.
        assert node.run_to_end(sandbox, "true").exit_code == 0


def test_unknown_handlers_containers_and_pods(node: Node) -> None:
    request = cri.RunPodSandboxRequest(config=node.pod_config(), runtime_handler="gvisor")
    assert refused(lambda: node.runtime.RunPodSandbox(request)).code() == INVALID
    nobody = "f" * 64
    for call in (
        lambda: node.status(nobody),
        lambda: node.start(nobody),
        lambda: node.exec(nobody, "true"),
        lambda: node.pod_status(nobody),
        lambda: node.create(nobody, node.container_config("true")),
    ):
        assert refused(call).code() == grpc.StatusCode.NOT_FOUND


def test_a_log_directory_with_a_link_is_refused(node: Node, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "main").symlink_to(outside)
    config = node.pod_config()
    config.log_directory = str(logs)
    sandbox = node.run_pod(config)
    try:
        container = node.container_config("true", log_path="main/0.log")
        error = refused(lambda: node.create(sandbox, container))
        assert error.code() == INVALID
        assert list(outside.iterdir()) == []
    finally:
        node.remove_pod(sandbox)


def test_an_oversized_password_file_is_refused(node: Node) -> None:
    image = node.pull(node.push("tests/bomb", {"etc/passwd": b"x:x:1:1::/:\n" * 200_000}))
    with node.pod() as sandbox:
        config = node.container_config("true", image=cri.ImageSpec(image=image))
        error = refused(lambda: node.create(sandbox, config))
        assert "/etc/passwd" in (error.details() or "")


def test_creating_in_a_pod_while_another_one_runs_on(node: Node) -> None:
    with node.pod() as good:
        container = node.run(good, *SLEEP)
        refused(lambda: node.run_pod(hostname="a b"))
        assert node.shell(container, "echo alive") == "alive"
