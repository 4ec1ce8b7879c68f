"""Disks, clock, identity, ports, neighbours: recorded and made-up machines."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from kubeletpy.doctor import clock, disks, identity, neighbours, ports, programs
from kubeletpy.doctor.processes import Process
from kubeletpy.doctor.purpose import NODE, SERVER, UP, Directory, Purpose
from tests.unit.kubeletpy.doctor.test_machine import named

GIB = 1 << 30
IMAGES = Directory(Path("/var/lib/kubeletpy/runtime"), overlay=True, bytes_needed=512 << 20)
PLAIN = Directory(Path("/var/log/pods"))
ROOMY = disks.Space(size=20 * GIB, free=10 * GIB, inodes=1_000_000, inodes_free=900_000)


def mount(kind: str, *options: str) -> disks.Mount:
    return disks.Mount("/", kind, frozenset(options or ("rw", "relatime")))


def space(**changes: object) -> disks.Space:
    return dataclasses.replace(ROOMY, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "expected", "says"),
    [
        (disks.Facts(IMAGES, mount("ext4"), ROOMY), ["ok", "ok"], ""),
        (disks.Facts(IMAGES, mount("xfs"), ROOMY), ["ok", "ok"], ""),
        (disks.Facts(IMAGES, mount("xfs"), space(d_type=False)), ["error", "ok"], "ftype=0"),
        (disks.Facts(IMAGES, mount("overlay"), ROOMY), ["error", "ok"], "overlayfs is not put"),
        (disks.Facts(IMAGES, mount("nfs4"), ROOMY), ["error", "ok"], "NFS keeps no"),
        (disks.Facts(PLAIN, mount("nfs4"), ROOMY), ["ok", "ok"], ""),
        (disks.Facts(IMAGES, mount("fuse.sshfs"), ROOMY), ["warning", "ok"], "its server"),
        (disks.Facts(IMAGES, mount("ext4", "rw", "noexec"), ROOMY), ["error", "ok"], "noexec"),
        (disks.Facts(IMAGES, mount("ext4", "rw", "nosuid"), ROOMY), ["warning", "ok"], "nosuid"),
        (disks.Facts(PLAIN, mount("ext4", "rw", "noexec"), ROOMY), ["ok", "ok"], ""),
        (disks.Facts(PLAIN, mount("ext4", "ro"), ROOMY), ["error", "ok"], "is read-only"),
        (disks.Facts(IMAGES, mount("ext4"), space(free=100 << 20)), ["ok", "error"], "full: 100"),
        (disks.Facts(IMAGES, mount("ext4"), space(free=GIB)), ["ok", "warning"], "below 10 %"),
        (disks.Facts(IMAGES, mount("tmpfs"), space(free=GIB)), ["ok", "ok"], ""),
        (disks.Facts(IMAGES, mount("ext4"), space(inodes_free=10)), ["ok", "error"], "inodes"),
        (disks.Facts(IMAGES, mount("ext4"), space(inodes_free=20_000)), ["ok", "warning"], "5 %"),
        (disks.Facts(IMAGES, mount("btrfs"), space(inodes=0, inodes_free=0)), ["ok", "ok"], ""),
        (disks.Facts(IMAGES, mount("nfs"), None, "no answer within 2 s"), ["error"], "no answer"),
        (disks.Facts(IMAGES, None, ROOMY), ["ok"], ""),
    ],
)
def test_disks(facts: disks.Facts, expected: list[str], says: str) -> None:
    found = disks.judge(facts)
    assert [finding.verdict for finding in found] == expected
    bad = [finding for finding in found if finding.verdict != "ok"]
    assert not says or says in bad[0].found
    assert all(finding.remedy for finding in bad)


def test_the_mount_of_a_path_is_the_last_and_nearest_one() -> None:
    text = (
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "40 22 8:2 / /var/lib rw - xfs /dev/sdb1 ro,attr2\n"
        "41 22 0:9 / /var/my\\040disk rw - tmpfs tmpfs rw\n"
        "42 40 0:8 / /var/lib rw - btrfs /dev/sdc rw\n"
        "short line\n"
    )
    found = disks.mounts(text)
    assert [one.point for one in found] == ["/", "/var/lib", "/var/my disk", "/var/lib"]
    assert "ro" in found[1].options
    for path, kind in [
        ("/var/lib/kubeletpy", "btrfs"), ("/var/library", "ext4"), ("/var/my disk/x", "tmpfs"),
    ]:  # fmt: skip
        one = disks.mount_of(Path(path), found)
        assert one is not None
        assert one.kind == kind
    assert disks.mount_of(Path("/x"), []) is None


def test_space_is_measured_where_the_directory_will_be(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    where, measured = disks.measure(tmp_path / "link/not/yet/there")
    assert where == tmp_path.resolve()
    assert 0 < measured.free <= measured.size


NOW = 1.8e9
KEPT = clock.Facts(synchronised=True, largest_error=0.01, now=NOW, made=NOW - 1e6)


@pytest.mark.parametrize(
    ("change", "purpose", "name", "verdict", "says"),
    [
        ({}, NODE, "clock", "ok", "synchronised"),
        ({"synchronised": False}, NODE, "clock", "warning", "nobody keeps it"),
        ({"synchronised": False}, UP, "clock", "ok", "nobody keeps it"),
        ({"synchronised": None}, NODE, "clock", "ok", "does not tell"),
        ({"now": 0.0}, NODE, "date", "error", "1970-01-01 00:00"),
        ({"server": "https://a", "skew": 1.5}, NODE, "clock and API server", "ok", "less than 5"),
        ({"server": "https://a", "skew": -9.0}, NODE, "clock and API server", "warning",
         "9 s behind that of https://a"),
        ({"server": "https://a", "skew": 3600.0}, NODE, "clock and API server", "error",
         "3600 s ahead of"),
        ({"server": "https://a", "problem": "refused"}, NODE, "clock and API server", "warning",
         "refused"),
    ],
)  # fmt: skip
def test_clock(
    change: dict[str, float], purpose: Purpose, name: str, verdict: str, says: str
) -> None:
    one = named(clock.judge(dataclasses.replace(KEPT, **change), purpose), name)  # type: ignore[arg-type]
    assert one.verdict == verdict
    assert says in one.found


@pytest.mark.parametrize("url", ["http://a", "a:6443", "https://"])
def test_no_url_of_an_api_server(url: str) -> None:
    with pytest.raises(ValueError, match="is not like https"):
        clock.server_skew(url)


WHO = identity.Facts(
    hostname="node-1", addresses=("192.0.2.1",), problem="",
    machine_id="3d1219c7c4c5404aaa1f6d2a48adfda4",
    product_uuid="c0a80101-8d3f-4b5e-9d2a-0242ac110002", nameservers=("192.0.2.53",),
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "purpose", "name", "verdict"),
    [
        ({}, NODE, "host name", "ok"),
        ({"hostname": "Node-1"}, NODE, "host name", "ok"),
        ({"hostname": "node_1"}, NODE, "host name", "error"),
        ({"hostname": "localhost"}, NODE, "host name", "error"),
        ({"hostname": "localhost.localdomain"}, SERVER, "host name", "error"),
        ({"hostname": "localhost"}, UP, "host name", "ok"),
        ({"addresses": (), "problem": "unknown"}, NODE, "host name's address", "warning"),
        ({}, NODE, "machine id", "ok"),
        ({"machine_id": ""}, NODE, "machine id", "warning"),
        ({"machine_id": "uninitialized"}, NODE, "machine id", "warning"),
        ({"machine_id": "0" * 32}, NODE, "machine id", "warning"),
        ({"machine_id": ""}, UP, "machine id", "ok"),
        ({}, NODE, "product UUID", "ok"),
        ({"product_uuid": "03000200-0400-0500-0006-000700080009"}, NODE, "product UUID", "warning"),
        ({}, NODE, "name servers", "ok"),
        ({"nameservers": ()}, NODE, "name servers", "warning"),
        ({"nameservers": ("127.0.0.53",)}, NODE, "name servers", "warning"),
        ({"nameservers": ("127.0.0.53",), "real_resolv_conf": True}, NODE, "name servers", "ok"),
        ({"nameservers": ("127.0.0.1", "192.0.2.1")}, NODE, "name servers", "ok"),
        ({"nameservers": ("odd",)}, NODE, "name servers", "ok"),
    ],
)
def test_identity(change: dict[str, object], purpose: Purpose, name: str, verdict: str) -> None:
    facts = dataclasses.replace(WHO, **change)  # type: ignore[arg-type]
    one = named(identity.judge(facts, purpose), name)
    assert one.verdict == verdict
    assert bool(one.remedy) == (verdict != "ok")


def test_nameservers_of_resolv_conf() -> None:
    text = (
        "# nameserver 9.9.9.9\nsearch x\nnameserver 192.0.2.1\nnameserver\nnameserver fe80::1%e\n"
    )
    assert identity.nameservers(text) == ("192.0.2.1", "fe80::1%e")


TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1A0B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 911 1 x
   1: 0100007F:1A0B 0100007F:D2F0 01 00000000:00000000 00:00000000 00000000     0        0 912 1 x
   2: 00000000:280A 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 913 1 x
"""
NGINX = Process(811, "nginx", ("nginx: master process",))
KUBELET = Process(812, "python3", ("/opt/x/python3", "-P", "-m", "kubeletpy.kubelet_main"))


def test_listening_ports_are_read() -> None:
    assert ports.sockets("tcp", TABLE) == [
        ports.Socket("tcp", 6667, 911), ports.Socket("tcp", 10250, 913),
    ]  # fmt: skip
    assert ports.sockets("tcp", "") == []


@pytest.mark.parametrize(
    ("sockets", "holders", "name", "verdict", "says"),
    [
        ([], {}, "port 10250/tcp", "ok", "free"),
        ([ports.Socket("tcp", 10250, 5)], {5: NGINX}, "port 10250/tcp", "error", "nginx (pid 811)"),
        ([ports.Socket("tcp", 10250, 5)], {5: KUBELET}, "port 10250/tcp", "ok", "our own"),
        ([ports.Socket("tcp", 10250, 5)], {}, "port 10250/tcp", "error", "another user's"),
        ([ports.Socket("udp", 10250, 5)], {5: NGINX}, "port 10250/tcp", "ok", "free"),
        ([ports.Socket("udp", 4789, 77)], {}, "port 4789/udp", "warning", "VXLAN device"),
        ([ports.Socket("tcp", 6443, 5)], {5: NGINX}, "port 6443/tcp", "error", "nginx"),
    ],
)
def test_ports(
    sockets: list[ports.Socket], holders: dict[int, Process], name: str, verdict: str, says: str
) -> None:
    one = named(ports.judge(ports.Facts(tuple(sockets), holders), SERVER), name)
    assert one.verdict == verdict
    assert says in one.found


@pytest.mark.parametrize(
    ("process", "ours"),
    [
        (KUBELET, True),
        (Process(1, "kubeletpy-shim", ("kubeletpy-shim: pod",)), True),
        (Process(1, "python3", ("python3", "-m", "runtime")), True),
        (Process(1, "python3", ("python3", "-m", "proxy.podnetwork")), True),
        (Process(1, "python3", ("python3", "/usr/bin/kubeletpy", "up")), True),
        (Process(1, "python3", ("python3", "-m", "http.server")), False),
        (Process(1, "kubelet", ("/usr/bin/kubelet", "--config", "x")), False),
        (Process(1, "python3", ("python3", "-m")), False),
    ],
)
def test_whose_a_process_is(process: Process, ours: bool) -> None:
    assert process.ours is ours


@pytest.mark.parametrize(
    ("names", "purpose", "verdict"),
    [
        ([], NODE, "ok"),
        (["kubelet"], NODE, "error"),
        (["kubelet"], UP, "warning"),
        (["k3s-server", "containerd"], SERVER, "error"),
        (["etcd"], SERVER, "error"),
        (["etcd"], NODE, "ok"),
        (["dockerd", "containerd"], SERVER, "ok"),
    ],
)
def test_other_nodes(names: list[str], purpose: Purpose, verdict: str) -> None:
    others = tuple(Process(n, name, (name,)) for n, name in enumerate(names))
    found = neighbours.judge(neighbours.Facts(others), purpose)
    one = named(found, "other nodes")
    assert one.verdict == verdict
    assert bool(one.remedy) == (verdict != "ok")
    if "containerd" in names:
        assert "containerd (pid 1)" in named(found, "other runtimes").found


def test_missing_programs() -> None:
    wanted = programs.gather(NODE).wanted
    found = programs.judge(programs.Facts(wanted, wanted[:1]), NODE)
    assert [one.verdict for one in found] == ["warning"] + ["ok"] * (len(wanted) - 1)
    assert found[0].remedy == f"apt-get install {wanted[0].name}"
