"""Objects of the host that a container's process holds: it can use them, never change them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kubeletpy_proto import cri_pb2 as cri
from tests.root.attacks.attacker import attack, command, python_mounts
from tests.root.runtime.cri.node import SLEEP, Node

pytestmark = pytest.mark.root

NULL = Path("/dev/null")
SHARED_PIDS = cri.NamespaceOption(pid=cri.POD)
CHANGES = """
import os
def changes(path):
    tried("chmod", lambda: os.chmod(path, 0o600))
    tried("chown", lambda: os.chown(path, 1, 1))
    tried("utime", lambda: os.utime(path, (1, 1)))
    tried("xattr", lambda: os.setxattr(path, "security.evil", b"x"))
"""


@pytest.mark.parametrize("start", ["run", "exec"])
def test_the_null_device_of_the_host_cannot_be_changed(node: Node, start: str) -> None:
    """Root of a container holds the host's /dev/null as its input: chmod would stop the node."""
    before = NULL.lstat()
    program = (
        CHANGES
        + """
assert os.fstat(0).st_rdev == os.makedev(1, 3)
changes(0)
changes("/proc/self/fd/0")
assert os.read(0, 1) == b""
"""
    )
    with node.pod() as sandbox:
        if start == "run":
            output = attack(node, sandbox, program)
        else:
            container = node.run(sandbox, *SLEEP, mounts=python_mounts())
            result = node.exec(container, *command(program))
            assert result.exit_code == 0, result
            output = result.stdout.decode()
        assert output.split().count("EROFS") == 8, output
        assert "DID" not in output
    after = NULL.lstat()
    assert (after.st_mode, after.st_uid, after.st_gid, after.st_mtime_ns) == (
        before.st_mode, before.st_uid, before.st_gid, before.st_mtime_ns,
    )  # fmt: skip


def test_what_masks_a_path_cannot_be_changed(node: Node) -> None:
    """Behind a masked file is the host's /dev/null as well."""
    before = NULL.lstat()
    masked = "/proc/timer_list"
    assert Path(masked).exists()
    program = (
        CHANGES
        + f"""
changes("{masked}")
assert open("{masked}").read() == ""
"""
    )
    with node.pod() as sandbox:
        output = attack(node, sandbox, program, security={"masked_paths": [masked]})
        assert output.split().count("EROFS") == 4, output
    assert (NULL.lstat().st_mode, NULL.lstat().st_uid) == (before.st_mode, before.st_uid)


def test_the_hosts_devices_stay_when_dev_is_a_volume(node: Node, tmp_path: Path) -> None:
    """A pod with the host's /dev at /dev: nothing is removed from it, made in it, or changed."""
    devices = tmp_path / "dev"
    for name in ("pts", "shm"):
        (devices / name).mkdir(parents=True)
    os.mknod(devices / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    (devices / "zero").write_text("canary")
    (devices / "full").symlink_to("/nowhere")

    def seen() -> dict[str, tuple[int, int, int]]:
        found = {path.name: path.lstat() for path in devices.iterdir()}
        return {name: (f.st_ino, f.st_mode, f.st_rdev) for name, f in found.items()}

    before = seen()
    mounts = [cri.Mount(container_path="/dev", host_path=str(devices))]
    asked = [cri.Device(host_path="/dev/full", container_path="/dev/asked", permissions="r")]
    with node.pod(privileged=True) as sandbox:
        for security in ({}, {"privileged": True}):
            container = node.run(sandbox, *SLEEP, name=f"c{len(security)}", mounts=mounts,
                                 security=security, devices=asked)  # fmt: skip
            assert node.shell(container, "cat /dev/zero") == "canary"
    assert seen() == before


def test_containers_do_not_share_session_keys_with_each_other_or_the_host(node: Node) -> None:
    """The session keyring comes with fork and execve, through every namespace (keyrings(7))."""
    canary = "kubeletpy-canary"
    # KEY_SPEC_SESSION_KEYRING is -3; keyctl 0 tells its number, 10 searches it.
    add = f"""
print("ring", call("keyctl", 0, -3, 0))
print("key", call("add_key", b"user", b"{canary}", b"secret", 6, -3))
time.sleep(float(sys.argv[1]) if len(sys.argv) > 1 else 0)
"""
    look = f"""
print("ring", call("keyctl", 0, -3, 0))
tried("search", lambda: call("keyctl", 10, -3, b"user", b"{canary}", 0))
"""
    with node.pod() as sandbox, node.pod() as other:
        mounts = python_mounts()
        owner = node.run(sandbox, *command(add), "1000", name="owner", mounts=mounts)
        outputs = [
            attack(node, sandbox, look, name="beside"),
            attack(node, other, look, name="elsewhere"),
            node.exec(owner, *command(look)).stdout.decode(),
        ]
        # The attack is live: whoever has the key in its ring does find it.
        assert "search DID" in attack(node, other, add + look, name="live")
        rings = {output.split("\n")[0] for output in outputs}
        assert len(rings) == 3
        for output in outputs:
            assert "search failed ENOKEY" in output


def test_the_first_process_of_shared_pids_gives_nothing_away(node: Node) -> None:
    """With CAP_SYS_PTRACE, as people add it for debugging, /proc/1/root was the host's root."""
    look = """
for name in ("root", "cwd", "exe", "ns/mnt", "ns/net", "ns/ipc", "ns/uts", "environ"):
    tried(name, lambda: os.stat(f"/proc/1/{name}").st_ino)
print("files", os.listdir("/proc/1/root"), os.listdir("/proc/1/cwd/"))
print("descriptors", os.listdir("/proc/1/fd"))
print(open("/proc/1/status").read())
tried("trace", lambda: call("ptrace", 16, 1, 0, 0))
for name in ("net", "ipc", "uts"):
    print(name, os.readlink(f"/proc/1/ns/{name}") == os.readlink(f"/proc/self/ns/{name}"))
print("mnt", os.readlink("/proc/1/ns/mnt"))
tried("write", lambda: os.open("/proc/1/root/evil", os.O_CREAT | os.O_WRONLY))
"""
    added = cri.Capability(add_capabilities=["SYS_PTRACE"])
    with node.pod(namespaces=SHARED_PIDS) as sandbox:
        security = {"namespace_options": SHARED_PIDS}
        bare = attack(node, sandbox, """
tried("root", lambda: os.listdir("/proc/1/root"))
tried("trace", lambda: call("ptrace", 16, 1, 0, 0))
""", name="bare", security=security)  # fmt: skip
        assert "DID" not in bare
        output = attack(node, sandbox, look, name="tracer",
                        security={**security, "capabilities": added})  # fmt: skip
    # It is live: with the capability the process can be looked at and traced.
    assert "root DID" in output
    assert "trace DID" in output
    assert "files [] []" in output
    assert "descriptors []" in output
    for words in ("CapEff:\t0000000000000000", "CapPrm:\t0000000000000000",
                  "CapBnd:\t0000000000000000", "Uid:\t65534\t65534", "NoNewPrivs:\t1",
                  "net True", "ipc True", "uts True", "write failed EROFS"):  # fmt: skip
        assert words in output, output
    assert os.readlink("/proc/self/ns/mnt") not in output
