"""Bad conditions made for real, in namespaces: each is found, and its remedy mends it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kubeletpy.doctor import disks
from kubeletpy.doctor.finding import Finding
from kubeletpy.doctor.purpose import UP, Directory, Purpose
from kubeletpy_common.linux import mounts
from tests.support.circumstances import patient
from tests.support.disks import filled, small_disk

pytestmark = pytest.mark.root

_LOOK = """
import importlib, json, sys
from dataclasses import asdict
from kubeletpy.doctor.purpose import PURPOSES
look = importlib.import_module("kubeletpy.doctor." + sys.argv[1]).look
print(json.dumps([asdict(one) for one in look(PURPOSES[sys.argv[2]])]))
"""


class Place:
    """Namespaces of a process that does nothing; what is done in them is gone with it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def sh(self, script: str) -> str:
        """Run a script of the shell in them; return what it prints."""
        command = ["nsenter", f"--target={self.pid}", "--net", "--mount", "sh", "-ec", script]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=patient(60), check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def look(self, group: str, purpose: str = "node") -> dict[str, Finding]:
        """Return what a group of the doctor finds there, by name."""
        enter = ["nsenter", f"--target={self.pid}", "--net", "--mount"]
        command = [*enter, sys.executable, "-P", "-c", _LOOK, group, purpose]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=patient(60), check=False
        )
        assert done.returncode == 0, done.stderr
        return {one["name"]: Finding(**one) for one in json.loads(done.stdout)}

    def mend(self, finding: Finding) -> None:
        """Do what a finding's remedy says, without what is to outlast a boot."""
        self.sh(finding.remedy.partition("; to keep it")[0])


@pytest.fixture
def place() -> Iterator[Place]:
    """Give namespaces of the network and of mounts."""
    command = ["unshare", "--net", "--mount", "sh", "-c", "ip link set lo up; echo; exec sleep 100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield Place(process.pid)
        finally:
            process.kill()


def test_forwarding_is_off(place: Place) -> None:
    place.sh("echo 0 > /proc/sys/net/ipv4/ip_forward")
    found = place.look("forwarding")["IPv4 forwarding"]
    assert found.verdict == "warning"
    place.mend(found)
    assert place.look("forwarding")["IPv4 forwarding"].verdict in ("ok", "warning")
    assert place.sh("cat /proc/sys/net/ipv4/ip_forward") == "1\n"
    place.sh("echo 0 > /proc/sys/net/ipv4/ip_forward; mount --bind -o ro /proc/sys /proc/sys")
    found = place.look("forwarding")["IPv4 forwarding"]
    assert (found.verdict, "read-only" in found.found) == ("error", True)


def test_a_chain_that_drops(place: Place) -> None:
    assert {one.verdict for one in place.look("firewalls").values()} == {"ok"}
    place.sh(
        "nft add table inet mine; nft 'add chain inet mine f { type filter hook forward priority "
        "5; policy drop; }'; nft 'add chain inet mine i { type filter hook input priority 5; "
        "policy drop; }'; nft 'add chain inet mine o { type filter hook output priority 5; }'"
    )
    found = place.look("firewalls")
    forward, into = found["nftables chain inet mine f"], found["nftables chain inet mine i"]
    assert (forward.verdict, into.verdict) == ("error", "warning")
    assert "nftables chain inet mine o" not in found
    place.mend(forward)
    place.mend(into)
    assert {one.verdict for one in place.look("firewalls").values()} == {"ok"}


def test_iptables_that_drop(place: Place) -> None:
    place.sh("iptables -P FORWARD DROP; iptables -P INPUT DROP; iptables -N DOCKER")
    found = place.look("firewalls")
    assert "docker's" in found["policy of FORWARD"].found
    assert found["policy of INPUT"].verdict == "warning"
    place.mend(found["policy of INPUT"])
    assert place.look("firewalls")["policy of INPUT"].verdict == "ok"


def test_firewalls_by_their_chains(place: Place) -> None:
    place.sh(
        "nft add table inet firewalld; nft 'add chain inet firewalld filter_INPUT { type filter "
        "hook input priority 10; }'; iptables -N ufw-user-input; iptables -P INPUT DROP; "
        "iptables -A ufw-user-input -p tcp --dport 10250 -j ACCEPT"
    )
    found = place.look("firewalls")
    assert found["firewalld"].verdict == found["ufw"].verdict == "error"
    assert "--add-port=10250/tcp" in found["firewalld"].remedy
    assert "ufw allow 10256/tcp" in found["ufw"].remedy
    assert "10250" not in found["ufw"].remedy


def test_ports_and_who_has_them(place: Place) -> None:
    script = (
        "import socket, sys; server = socket.create_server(('', 10250)); print('.', flush=True); "
        "sys.stdin.read()"
    )
    enter = ["nsenter", f"--target={place.pid}", "--net"]
    with subprocess.Popen(
        [*enter, "python3", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        place.sh("ip link add vx type vxlan id 7 dstport 4789 local 127.0.0.1; ip link set vx up")
        found = place.look("ports")
        other.communicate(timeout=patient(60))
    assert found["port 10250/tcp"].verdict == "error"
    assert f"(pid {other.pid})" in found["port 10250/tcp"].found
    assert found["port 4789/udp"].verdict == "warning"
    assert found["port 10256/tcp"].verdict == "ok"


def looked(path: Path, purpose: Purpose = UP) -> dict[str, str]:
    """Return the verdicts on a directory that images are kept in."""
    purpose = replace(purpose, directories=(Directory(path, overlay=True, bytes_needed=1 << 20),))
    return {one.name.split()[0]: one.verdict for one in disks.look(purpose)}


@contextmanager
def overlay(path: Path) -> Iterator[Path]:
    """Mount an overlay, such as a container's own file system is."""
    for name in ("lower", "upper", "work", "merged"):
        (path / name).mkdir()
    options = ",".join(f"{name}dir={path / name}" for name in ("lower", "upper", "work"))
    mounts.mount("overlay", path / "merged", "overlay", 0, options)
    try:
        yield path / "merged"
    finally:
        mounts.umount(path / "merged")


def test_disks_that_cannot_be_used(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, 8 << 20):
        data = disk / "data"
        assert looked(data) == {"file": "ok", "disk": "ok"}
        with filled(disk):
            assert looked(data) == {"file": "ok", "disk": "error"}
        mounts.mount("small", disk, "", mounts.MS_REMOUNT, "nr_inodes=100")
        assert looked(data) == {"file": "ok", "disk": "error"}
        mounts.mount("small", disk, "", mounts.MS_REMOUNT | mounts.MS_RDONLY, "nr_inodes=100000")
        assert looked(data) == {"file": "error", "disk": "ok"}
        mounts.mount("small", disk, "", mounts.MS_REMOUNT | mounts.MS_NOEXEC, "")
        assert looked(data)["file"] == "error"
        mounts.mount("small", disk, "", mounts.MS_REMOUNT, "")
        with overlay(disk) as merged:
            assert looked(merged / "data")["file"] == "error"


def start_of_runtime(root: Path) -> str:
    """Return what the runtime says when it does not start."""
    command = [sys.executable, "-P", "-m", "runtime", "--root", str(root / "root")]
    command += ["--state", str(root / "state"), "--address", f"unix://{root}/socket"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=patient(100), check=False
    )
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_the_runtime_says_what_is_wrong_with_its_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, 2 << 20):
        with overlay(disk) as merged:
            said = start_of_runtime(merged)
        assert f"file system of root ({merged}/root is on overlay" in said
        assert "a volume" in said
        mounts.mount("small", disk, "", mounts.MS_REMOUNT | mounts.MS_RDONLY, "")
        said = start_of_runtime(disk)
        assert said.endswith(
            f"prepare the directory {disk}/root: Read-only file system; remount it writable, or "
            "name another directory"
        )
        mounts.mount("small", disk, "", mounts.MS_REMOUNT, "")
        with filled(disk):
            said = start_of_runtime(disk)
        assert "No space left on device; free space or inodes there" in said


def test_the_whole_command_changes_nothing_and_ends(place: Place) -> None:
    enter = ["nsenter", f"--target={place.pid}", "--net", "--mount"]
    command = [sys.executable, "-P", "-m", "kubeletpy", "doctor", "--for", "up", "-o", "json"]
    done = subprocess.run(
        [*enter, *command], capture_output=True, text=True, timeout=patient(100), check=False
    )
    found = {one["name"]: one for one in json.loads(done.stdout)}
    bad = [name for name, one in found.items() if one["verdict"] == "error"]
    assert (done.returncode, bad) == (0, [])
    assert found["overlayfs"]["needed_by"] == "runtime"
    version = found["cgroup version"]
    assert version["verdict"] == ("ok" if version["found"] == "v2" else "warning")
