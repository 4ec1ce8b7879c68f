from __future__ import annotations

from pathlib import Path

import pytest

from kubeletpy.api.pod import HostAlias
from kubeletpy.volumes.hosts import host_network_hosts, pod_hosts, write_in_place

STANDARD = """\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""
ALIASES = [HostAlias(ip="10.0.0.1", hostnames=["a", "b.example"]), HostAlias("::5", ["c"])]
ALIAS_LINES = "\n# Entries added by HostAliases.\n10.0.0.1\ta\tb.example\n::5\tc\n"


def test_pod() -> None:
    assert pod_hosts(["10.88.0.2", "fd88::2"], "web", "", []) == (
        STANDARD + "10.88.0.2\tweb\nfd88::2\tweb\n"
    )
    assert pod_hosts(["10.88.0.2"], "web", "sub.example", ALIASES) == (
        STANDARD + "10.88.0.2\tweb.sub.example\tweb\n" + ALIAS_LINES
    )


def test_host_network() -> None:
    assert host_network_hosts("127.0.0.1 localhost\n", ALIASES) == (
        "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n" + ALIAS_LINES
    )


def test_written_in_place(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    write_in_place(path, "a long first version", 0o644)
    inode = path.stat().st_ino
    write_in_place(path, "short", 0o644)
    assert path.read_text() == "short"
    assert path.stat().st_ino == inode
    assert path.stat().st_mode & 0o777 == 0o644


def test_not_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "canary").write_text("alive")
    (tmp_path / "hosts").symlink_to(tmp_path / "canary")
    with pytest.raises(OSError, match="symbolic"):
        write_in_place(tmp_path / "hosts", "x", 0o644)
    assert (tmp_path / "canary").read_text() == "alive"
