"""Who a container is, what it may do, and what it sees of the host."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from kubeletpy_common.cgroups import detect
from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import SLEEP, Node
from tests.support.ociimage import Directory, File

pytestmark = pytest.mark.root


def capabilities(node: Node, container: str) -> dict[str, int]:
    lines = node.shell(container, "grep Cap /proc/self/status").splitlines()
    return {line.split(":")[0]: int(line.split()[1], 16) for line in lines}


def number(value: int) -> cri.Int64Value:
    return cri.Int64Value(value=value)


@pytest.mark.parametrize(
    ("security", "expected", "user"),
    [
        ({}, "0 0 0", (0, 0, [0])),
        ({"run_as_user": number(1000)}, "1000 1000 1000 2000", (1000, 1000, [1000, 2000])),
        ({"run_as_username": "web"}, "1000 1000 1000 2000", (1000, 1000, [1000, 2000])),
        ({"run_as_user": number(5000)}, "5000 0 0", (5000, 0, [0])),
        (
            {"run_as_user": number(1000), "run_as_group": number(3000)},
            "1000 3000 3000 2000",
            (1000, 3000, [2000, 3000]),
        ),
        (
            {"run_as_user": number(1000), "supplemental_groups": [70, 80]},
            "1000 1000 70 80 1000 2000",
            (1000, 1000, [70, 80, 1000, 2000]),
        ),
        (
            {
                "run_as_user": number(1000),
                "supplemental_groups": [70],
                "supplemental_groups_policy": cri.Strict,
            },
            "1000 1000 70 1000",
            (1000, 1000, [70, 1000]),
        ),
    ],
)
def test_users_and_groups(
    node: Node, security: dict[str, Any], expected: str, user: tuple[int, int, list[int]]
) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, security=security)
        seen = node.shell(container, "echo $(id -u) $(id -g) $(id -G)").split()
        assert seen[:2] == expected.split()[:2]
        assert set(seen[2:]) == set(expected.split()[2:])
        status = node.status(container).user.linux
        assert (status.uid, status.gid, list(status.supplemental_groups)) == user


def test_the_images_user_is_the_default(node: Node) -> None:
    image = node.pull(node.push("tests/user", User="web:extra"))
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, image=cri.ImageSpec(image=image))
        assert node.shell(container, "id -u; id -g; echo $HOME").split() == [
            "1000", "2000", "/home",
        ]  # fmt: skip


def test_capabilities_default_dropped_added_and_none_inheritable(node: Node) -> None:
    net_admin, chown = 1 << 12, 1 << 0
    with node.pod() as sandbox:
        plain = capabilities(node, node.run(sandbox, *SLEEP, name="plain"))
        assert plain["CapInh"] == plain["CapAmb"] == 0
        assert plain["CapEff"] == plain["CapBnd"] == 0xA80425FB
        changed = cri.Capability(add_capabilities=["NET_ADMIN"], drop_capabilities=["ALL"])
        container = node.run(sandbox, *SLEEP, name="net", security={"capabilities": changed})
        assert capabilities(node, container)["CapEff"] == net_admin
        dropped = cri.Capability(drop_capabilities=["CHOWN"])
        container = node.run(sandbox, *SLEEP, name="drop", security={"capabilities": dropped})
        assert capabilities(node, container)["CapEff"] == 0xA80425FB & ~chown


def test_ambient_capabilities_reach_another_user(node: Node) -> None:
    net_admin = 1 << 12
    asked = cri.Capability(drop_capabilities=["ALL"], add_ambient_capabilities=["NET_ADMIN"])
    security = {"capabilities": asked, "run_as_user": number(1000)}
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, security=security)
        found = capabilities(node, container)
        assert found["CapAmb"] == found["CapEff"] == found["CapInh"] == net_admin
        node.shell(container, "ip link set lo down")


def test_privileged(node: Node) -> None:
    with node.pod(privileged=True) as sandbox:
        container = node.run(sandbox, *SLEEP, security={"privileged": True})
        own = int(
            next(
                line.split()[1]
                for line in Path("/proc/self/status").read_text().splitlines()
                if line.startswith("CapBnd")
            ),
            16,
        )
        assert capabilities(node, container)["CapEff"] == own
        assert node.shell(container, "test -c /dev/kmsg && echo yes") == "yes"
        # The host's multiplexer would hand out terminals of a devpts that is not mounted here.
        assert node.shell(container, "readlink /dev/ptmx") == "pts/ptmx"
        assert " ro," not in node.shell(container, "grep ' /sys ' /proc/mounts")


def test_no_new_privileges_and_a_read_only_root(node: Node) -> None:
    with node.pod() as sandbox:
        security = {"no_new_privs": True, "readonly_rootfs": True}
        container = node.run(sandbox, *SLEEP, security=security)
        assert node.shell(container, "grep NoNewPrivs /proc/self/status").endswith("1")
        for path in ("/file", "/etc/hostname", "/etc/resolv.conf"):
            result = node.exec(container, "sh", "-c", f"echo x > {path}")
            assert b"Read-only file system" in result.stderr
        node.shell(container, "echo x > /dev/shm/file")


def test_masked_and_read_only_paths(node: Node) -> None:
    with node.pod() as sandbox:
        security = {"masked_paths": ["/proc/kcore", "/sys/firmware", "/proc/none"],
                    "readonly_paths": ["/proc/sys"]}  # fmt: skip
        container = node.run(sandbox, *SLEEP, security=security)
        assert node.shell(container, "cat /proc/kcore | wc -c") == "0"
        assert node.shell(container, "ls /sys/firmware") == ""
        result = node.exec(container, "sh", "-c", "echo x > /proc/sys/kernel/core_pattern")
        assert b"Read-only file system" in result.stderr


def test_the_host_is_not_to_be_seen(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        names = set(node.shell(container, "cat /proc/[0-9]*/comm").split())
        assert names == {"sh", "sleep", "cat"}
        write = (
            "for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do "
            "mkdir $d/evil 2>/dev/null && echo made $d/evil; done; true"
        )
        assert node.shell(container, write) == ""
        # Version 2 only where the limits are in it.
        second = node.shell(container, "grep -c ' cgroup2 ' /proc/mounts || true")
        assert second == ("1" if detect().version == 2 else "0")
        # What is executed has a cgroup of its own below the container's, which is all it sees.
        others = "grep -vE ':/(exec-[0-9]+)?$' /proc/self/cgroup || echo none"
        assert node.shell(container, others) == "none"
        assert node.shell(container, "grep -v ':/$' /proc/1/cgroup || echo none") == "none"


def test_sysctls_of_the_host_cannot_be_written(node: Node) -> None:
    # Each with a value that would change nothing, should the write succeed.
    paths = {"network": "net/ipv4/tcp_fin_timeout", "uts": "kernel/hostname", "ipc": "kernel/sem"}
    network = cri.NamespaceOption(pid=cri.CONTAINER, network=cri.NODE)
    ipc = cri.NamespaceOption(pid=cri.CONTAINER, ipc=cri.NODE)
    for options, shared in ((network, ("network", "uts")), (ipc, ("ipc",))):
        with node.pod(namespaces=options) as sandbox:
            container = node.run(sandbox, *SLEEP, security={"namespace_options": options})
            for name in shared:
                path = f"/proc/sys/{paths[name]}"
                result = node.exec(
                    container, "sh", "-c", f"cat {path} > /tmp/x; cat /tmp/x > {path}"
                )
                assert b"Read-only file system" in result.stderr, name
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        node.shell(container, "echo 33 > /proc/sys/net/ipv4/tcp_fin_timeout")


def test_the_pods_files(node: Node, tmp_path: Path) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        hosts = Path("/etc/hosts").read_text()
        assert node.shell(container, "cat /etc/hosts") == hosts.strip()
        assert node.shell(container, "cat /etc/hostname") == node.shell(container, "hostname")
        # A change is the pod's alone, and seen by all of it.
        node.shell(container, "echo 10.0.0.1 other >> /etc/hosts")
        assert Path("/etc/hosts").read_text() == hosts
        second = node.run(sandbox, *SLEEP, name="second")
        assert node.shell(second, "tail -n 1 /etc/hosts") == "10.0.0.1 other"
        (tmp_path / "hosts").write_text("127.0.0.1 given\n")
        mount = cri.Mount(container_path="/etc/hosts", host_path=str(tmp_path / "hosts"))
        third = node.run(sandbox, *SLEEP, name="third", mounts=[mount])
        assert node.shell(third, "cat /etc/hosts") == "127.0.0.1 given"


def test_a_host_name_beside_that_of_the_host(node: Node) -> None:
    options = cri.NamespaceOption(pid=cri.CONTAINER, network=cri.NODE)
    with node.pod(namespaces=options, hostname="asked-for") as sandbox:
        container = node.run(sandbox, *SLEEP, security={"namespace_options": options})
        assert node.shell(container, "hostname") == socket.gethostname()
        assert node.shell(container, "cat /etc/hostname; echo $HOSTNAME").split() == [
            "asked-for", "asked-for",
        ]  # fmt: skip
    assert '"hostname": "asked-for"' in node.daemon.log()


def test_mounts(node: Node, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("from the host\n")
    (tmp_path / "link").symlink_to("data")
    mounts = [
        cri.Mount(container_path="/rw", host_path=str(tmp_path / "data")),
        cri.Mount(container_path="/ro", host_path=str(tmp_path / "link"), readonly=True),
        cri.Mount(container_path="/etc/one", host_path=str(tmp_path / "data" / "file")),
        cri.Mount(container_path="/made", host_path=str(tmp_path / "missing" / "deep")),
        cri.Mount(
            container_path="/rro",
            host_path=str(tmp_path / "data"),
            readonly=True,
            recursive_read_only=True,
        ),
    ]
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, mounts=mounts)
        assert node.shell(container, "cat /ro/file /etc/one | uniq") == "from the host"
        node.shell(container, "echo back > /rw/new")
        assert (tmp_path / "data" / "new").read_text() == "back\n"
        for path in ("/ro", "/rro"):
            result = node.exec(container, "sh", "-c", f"echo x > {path}/x")
            assert b"Read-only file system" in result.stderr
        assert (tmp_path / "missing" / "deep").is_dir()
        assert len(node.status(container).mounts) == len(mounts)


def test_image_volumes_hold_the_images_files_and_cannot_escape(node: Node) -> None:
    files = {
        "data": Directory(mode=0o750, uid=1000, gid=2000),
        "data/seed": File(b"seed\n", mode=0o640, uid=1000, gid=2000),
    }
    volumes: dict[str, Any] = {"/data": {}, "../../etc/canary": {}, "/empty": {}}
    image = node.pull(node.push("tests/volumes", files, Volumes=volumes))
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, image=cri.ImageSpec(image=image),
                             security={"readonly_rootfs": True})  # fmt: skip
        assert node.shell(container, "cat /data/seed; stat -c '%a %u %g' /data /data/seed") == (
            "seed\n750 1000 2000\n640 1000 2000"
        )
        node.shell(container, "echo more > /data/more; echo x > /empty/x")
        assert node.shell(container, "ls /etc/canary") == ""
        assert not Path("/etc/canary").exists()
        directory = node.place.root / "volumes" / container
        assert len(list(directory.iterdir())) == 3
        node.stop(container, timeout=10)
        node.remove(container)
        assert not directory.exists()


def test_environment_command_and_working_directory(node: Node) -> None:
    image = node.pull(
        node.push(
            "tests/process",
            Env=["PATH=/bin", "A=image", "B=image"],
            Entrypoint=["sh", "-c"],
            Cmd=["echo default"],
            WorkingDir="/tmp",
        )
    )
    spec = cri.ImageSpec(image=image)
    with node.pod() as sandbox:
        default = node.run_to_end(sandbox, name="default", image=spec)
        assert node.output(default) == "default"
        script = "echo $A $B $C $(pwd)"
        changed = node.run_to_end(sandbox, name="changed", image=spec, args=[script],
                                  env={"B": "request", "C": "also"})  # fmt: skip
        assert node.output(changed) == "image request also /tmp"
        replaced = node.run_to_end(sandbox, "pwd", name="replaced", image=spec, working_dir="/etc")
        assert node.output(replaced) == "/etc"


def test_a_terminal(node: Node) -> None:
    with node.pod() as sandbox:
        status = node.run_to_end(sandbox, "sh", "-c", "tty; echo $TERM; stty size", tty=True)
        assert node.output(status).split()[:2] == ["/dev/pts/0", "xterm"]


def test_oom_score_adj_is_as_near_as_allowed(node: Node) -> None:
    with node.pod() as sandbox:
        for name, asked in (("high", 900), ("low", -900)):
            container = node.run(sandbox, *SLEEP, name=name, resources={"oom_score_adj": asked})
            seen = int(node.shell(container, "cat /proc/1/oom_score_adj"))
            lowest = -900 if _may_lower() else int(Path("/proc/self/oom_score_adj").read_text())
            assert seen == max(asked, lowest)


def _may_lower() -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff"))
    return bool(int(effective.split()[1], 16) >> 24 & 1)
