"""Pods with a user namespace of their own (KEP-127) on the real kernel."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from kubeletpy_common.cgroups import detect
from kubeletpy_proto import cri_pb2 as cri
from runtime.hostfacts import tmpfs_maps_ids
from tests.root.runtime.cri.node import SLEEP, Node, refused
from tests.root.runtime.cri.stream_clients import exec_url, in_network_of, spdy
from tests.support.circumstances import patient
from tests.support.ociimage import File

pytestmark = pytest.mark.root

BASE, SIZE = 300_000, 65_536
IDS = [cri.IDMapping(host_id=BASE, container_id=0, length=SIZE)]
NAMESPACES = cri.NamespaceOption(
    pid=cri.CONTAINER, userns_options=cri.UserNamespace(mode=cri.POD, uids=IDS, gids=IDS)
)
SECURITY: dict[str, Any] = {"namespace_options": NAMESPACES}


def run(node: Node, sandbox: str, *, security: dict[str, Any] | None = None, **more: Any) -> str:
    return node.run(sandbox, *SLEEP, security=SECURITY | (security or {}), **more)


def init_pid(node: Node, sandbox: str, container: str) -> int:
    """Return a process of the container, from its cgroup."""
    found = detect().cgroup(node.place.container_cgroup(sandbox, container)).processes()
    return min(found)


def test_root_inside_is_nobody_outside(node: Node) -> None:
    with node.pod(namespaces=NAMESPACES) as sandbox:
        container = run(node, sandbox)
        assert node.shell(container, "cat /proc/self/uid_map").split() == [
            "0",
            str(BASE),
            str(SIZE),
        ]
        assert node.shell(container, "id -u; id -g; id -G").split() == ["0", "0", "0"]
        # Within the pod's cgroup and no other (CVE-2025-47291).
        pid = init_pid(node, sandbox, container)
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{BASE}\t{BASE}\t{BASE}\t{BASE}" in status
        assert f"Gid:\t{BASE}\t{BASE}\t{BASE}\t{BASE}" in status
        places = [
            line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        ]
        joined = {path for _, names, path in places if "memory" in names or "pids" in names}
        assert joined <= {node.place.container_cgroup(sandbox, container)}
        # One user namespace for the pod, which owns what a second container joins as well.
        other = run(
            node, sandbox, name="other", security={"run_as_user": cri.Int64Value(value=1000)}
        )
        pids = [pid, init_pid(node, sandbox, other)]
        for kind in ("user", "net", "ipc", "uts"):
            ours = os.readlink(f"/proc/self/ns/{kind}")
            assert {os.readlink(f"/proc/{p}/ns/{kind}") for p in pids} & {ours} == set()
            assert len({os.readlink(f"/proc/{p}/ns/{kind}") for p in pids}) == 1
        assert f"Uid:\t{BASE + 1000}\t" in Path(f"/proc/{pids[1]}/status").read_text()
        assert node.shell(other, "id -u; id -G").split() == ["1000", "1000", "2000"]
        assert node.shell(other, "echo out > /dev/stdout; echo n > /dev/null") == "out"


def test_files_of_the_image_and_new_ones(node: Node) -> None:
    files = {"owned": File(b"x", uid=1000, gid=2000), "beyond": File(b"x", uid=SIZE)}
    image = cri.ImageSpec(image=node.pull(node.push("tests/userns", files)))
    with node.pod(namespaces=NAMESPACES) as sandbox:
        container = run(node, sandbox, image=image)
        paths = "/ /owned /beyond /dev/null /dev /etc/hostname /dev/shm"
        seen = node.shell(container, f"stat -c '%u %g' {paths} | tr '\\n' ','")
        # A tmpfs, as the pod's own files may be on, cannot be mapped before Linux 6.3.
        of_pod = "0 0" if tmpfs_maps_ids(os.uname().release) else "65534 65534"
        assert seen == f"0 0,1000 2000,65534 0,0 0,0 0,{of_pod},{of_pod},"
        # A change copies the file up, and keeps the owner.
        node.shell(container, "echo more >> /owned; mkdir /new; touch /new/file /dev/shm/file")
        assert node.shell(container, "stat -c '%u %g' /owned /new/file").split("\n") == [
            "1000 2000", "0 0",
        ]  # fmt: skip
        assert node.exec(container, "chown", "7", "/beyond").exit_code != 0
        pid = init_pid(node, sandbox, container)
        assert os.stat(f"/proc/{pid}/root/new/file").st_uid == BASE
        assert os.stat(f"/proc/{pid}/root/owned").st_uid == BASE + 1000
        # The layer itself, which other pods share, is as it was.
        plain = node.run(sandbox_id := node.run_pod(), *SLEEP, image=image)
        assert node.shell(plain, "stat -c '%u %g %s' /owned /beyond").split("\n") == [
            "1000 2000 1", f"{SIZE} 0 1",
        ]  # fmt: skip
        node.remove_pod(sandbox_id)


def test_volumes(node: Node, tmp_path: Path) -> None:
    mapped, plain = tmp_path / "mapped", tmp_path / "plain"
    for directory in (mapped, plain):
        directory.mkdir(mode=0o755)
        (directory / "old").write_text("x")
    mounts = [
        cri.Mount(container_path="/mapped", host_path=str(mapped), uidMappings=IDS,
                  gidMappings=IDS),
        cri.Mount(container_path="/plain", host_path=str(plain)),
    ]  # fmt: skip
    with node.pod(namespaces=NAMESPACES) as sandbox:
        container = run(node, sandbox, mounts=mounts)
        assert node.shell(container, "stat -c %u /mapped/old /plain/old").split() == ["0", "65534"]
        node.shell(container, "touch /mapped/new && chown 5:6 /mapped/new && echo y > /mapped/old")
        # On disk stand the container's own numbers, so that another pod's mapping fits as well.
        facts = (mapped / "new").stat()
        assert (facts.st_uid, facts.st_gid) == (5, 6)
        assert (mapped / "old").stat().st_uid == 0
        result = node.exec(container, "touch", "/plain/new")
        assert b"Permission denied" in result.stderr
        assert not (plain / "new").exists()


def test_a_file_system_without_mapped_ids_is_a_clear_error(node: Node) -> None:
    mount = cri.Mount(
        container_path="/x", host_path="/sys/kernel", uidMappings=IDS, gidMappings=IDS
    )
    with node.pod(namespaces=NAMESPACES) as sandbox:
        config = node.container_config(*SLEEP, security=SECURITY, mounts=[mount])
        container = node.create(sandbox, config)
        error = refused(lambda: node.start(container))
        assert "cannot be mounted with mapped ids" in (error.details() or "")


def test_capabilities_end_at_the_namespace(node: Node) -> None:
    name = socket.gethostname()
    everything = cri.Capability(add_capabilities=["ALL"])
    security = {
        "capabilities": everything,
        "masked_paths": ["/proc/meminfo"],
        "readonly_paths": ["/proc/sys"],
        "readonly_rootfs": True,
    }
    with node.pod(namespaces=NAMESPACES) as sandbox:
        container = run(node, sandbox, security=security)
        # What its own namespaces allow.
        node.shell(container, "mount -t tmpfs none /tmp && hostname inside && ip link set lo down")
        assert socket.gethostname() == name
        # What was hidden or made read-only stays so, and nothing reaches the host.
        for command in (
            "umount /proc/meminfo",
            "mount -o remount,rw /proc/sys",
            "mount -o remount,bind,rw /",
            "echo x > /proc/sys/kernel/core_pattern",
            "mknod /tmp/kmsg c 1 11",
            "umount /proc",
        ):
            assert node.exec(container, "sh", "-c", command).exit_code != 0, command
        assert node.shell(container, "wc -c < /proc/meminfo") == "0"
        # busybox's date says so on stderr alone.
        assert b"not permitted" in node.exec(container, "date", "-s", "2001-01-01").stderr


@pytest.mark.parametrize("user", [0, 1000])
def test_a_terminal_and_a_filter(node: Node, user: int) -> None:
    security = SECURITY | {
        "run_as_user": cri.Int64Value(value=user),
        "seccomp": cri.SecurityProfile(profile_type=cri.SecurityProfile.RuntimeDefault),
    }
    script = "tty && stat -c %u $(tty) /dev/console && grep Seccomp: /proc/self/status"
    with node.pod(namespaces=NAMESPACES) as sandbox:
        status = node.run_to_end(sandbox, "sh", "-c", script, tty=True, security=security)
        assert node.output(status).split() == [
            "/dev/pts/0", str(user), str(user), "Seccomp:", "2",
        ]  # fmt: skip


@pytest.mark.parametrize("user", [0, 1000])
def test_exec_with_a_terminal(node: Node, user: int) -> None:
    security = {"run_as_user": cri.Int64Value(value=user)}
    with node.pod(namespaces=NAMESPACES) as sandbox:
        container = run(node, sandbox, security=security)
        script = "stat -c 'owner %u.' $(tty) && echo written > $(tty)"
        url = exec_url(node, container, "sh", "-c", script, tty=True, stdin=True, stdout=True)

        async def scenario() -> None:
            async with spdy(url) as client:
                error = await client.open(streamType="error")
                await client.open(streamType="stdin")
                stdout = await client.open(streamType="stdout")
                await client.open(streamType="resize")
                assert b'"Success"' in await client.all_of(error)
                output = await client.all_of(stdout)
                assert output == f"owner {user}.\r\nwritten\r\n".encode()

        in_network_of(node, scenario())


def test_a_shared_pid_namespace_and_a_restarted_daemon(node: Node) -> None:
    options = cri.NamespaceOption(pid=cri.POD, userns_options=NAMESPACES.userns_options)
    with node.pod(namespaces=options) as sandbox:
        first = run(node, sandbox, security={"namespace_options": options})
        node.restart()
        second = run(node, sandbox, name="two", security={"namespace_options": options})
        assert node.shell(second, "cat /proc/1/comm") == "pause"
        assert node.shell(first, "id -u") == "0"
        # Processes of one user in one user namespace: the one may signal the other.
        find = "grep -l sleep /proc/[0-9]*/comm | head -n 1 | cut -d/ -f3"
        node.shell(second, f"kill -0 $({find})")


def test_mappings_that_are_refused_leave_nothing(node: Node) -> None:
    for ids in (
        [cri.IDMapping(host_id=1, container_id=0, length=(1 << 32) - 1)],
        [cri.IDMapping(host_id=0, container_id=0, length=1)],
        [cri.IDMapping(host_id=9, container_id=0, length=9)] * 2,
        [cri.IDMapping(host_id=9 + n, container_id=n, length=1) for n in range(400)],
    ):
        asked = cri.UserNamespace(mode=cri.POD, uids=ids, gids=ids)
        error = refused(lambda a=asked: node.run_pod(  # type: ignore[misc]
            namespaces=cri.NamespaceOption(pid=cri.CONTAINER, userns_options=a)))  # fmt: skip
        assert "userns_options.uids" in (error.details() or "")


def test_the_status_says_so(node: Node) -> None:
    handlers = node.runtime.Status(cri.StatusRequest(), timeout=patient(10)).runtime_handlers
    assert all(handler.features.user_namespaces for handler in handlers)
