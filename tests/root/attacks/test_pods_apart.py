"""One pod against another, and against the daemon: signals, tracing, memory, sockets, network."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from kubeletpy_proto import cri_pb2 as cri
from tests.root.attacks.attacker import attack, command, python_mounts
from tests.root.runtime.cri.node import SLEEP, Node
from tests.root.runtime.cri.test_recovery import processes_titled, shim_of

pytestmark = pytest.mark.root

POD_PIDS = cri.NamespaceOption(pid=cri.POD)
HOST_PIDS = cri.NamespaceOption(pid=cri.NODE)


def mapped(first: int) -> cri.NamespaceOption:
    ids = [cri.IDMapping(host_id=first, container_id=0, length=65_536)]
    users = cri.UserNamespace(mode=cri.POD, uids=ids, gids=ids)
    return cri.NamespaceOption(pid=cri.CONTAINER, userns_options=users)


def secured(options: cri.NamespaceOption, *added: str) -> dict[str, object]:
    capabilities = cri.Capability(add_capabilities=added)
    return {"namespace_options": options, "capabilities": capabilities}


@pytest.mark.parametrize("options", [cri.NamespaceOption(pid=cri.CONTAINER), POD_PIDS])
def test_signals_and_tracing_do_not_leave_the_pod(node: Node, options: cri.NamespaceOption) -> None:
    """With CAP_KILL and CAP_SYS_PTRACE, at every process id that there may be."""
    program = """
reached = set()
for pid in sorted({*range(2, 300), *map(int, sys.argv[1:])}):
    if pid in (1, os.getpid()):
        continue
    for what, function in (
        ("signal", lambda: os.kill(pid, 0)),
        ("trace", lambda: call("ptrace", 0x4206, pid, 0, 0)),
        ("look", lambda: os.stat(f"/proc/{pid}")),
    ):
        try:
            function()
            reached.add((what, open(f"/proc/{pid}/comm").read().strip()))
        except OSError:
            pass
print("reached", sorted(reached), flush=True)
child = os.fork()
if child == 0:
    time.sleep(1000)
print("LIVE", call("ptrace", 0x4206, child, 0, 0), os.kill(child, 9))
os.kill(-1, signal.SIGKILL)
"""
    with node.pod() as victim, node.pod(namespaces=options) as sandbox:
        bystander = node.run(victim, *SLEEP)
        pids = [name for name in os.listdir("/proc") if name.isdigit()]
        output = attack(node, sandbox, program, *pids, security=secured(options, "SYS_PTRACE"))
        assert "reached []" in output, output
        assert "LIVE 0 None" in output
        assert node.shell(bystander, "echo alive") == "alive"
        # The pod itself, with its first process if it has one, takes the next container.
        security = {"namespace_options": options}
        assert node.run_to_end(sandbox, "true", name="next", security=security).exit_code == 0


def test_with_the_hosts_pids_the_host_is_still_not_to_be_entered(node: Node) -> None:
    """A pod with the host's PIDs and the default capabilities sees names, nothing behind them."""
    marked = node.place.directory / "canary"
    marked.write_text("canary")
    with node.pod(namespaces=HOST_PIDS) as sandbox, node.pod() as other:
        bystander = node.run(other, *SLEEP)
        pids = [1, node.daemon.pid, shim_of(sandbox), shim_of(other),
                *processes_titled("kubeletpy-spawner")]  # fmt: skip
        program = f"""
for pid in {pids}:
    tried("root", lambda: os.listdir(f"/proc/{{pid}}/root/"))
    tried("canary", lambda: open(f"/proc/{{pid}}/root{marked}").read())
    tried("cwd", lambda: os.listdir(f"/proc/{{pid}}/cwd/"))
    tried("environ", lambda: open(f"/proc/{{pid}}/environ").read())
    tried("mem", lambda: open(f"/proc/{{pid}}/mem").close())
    tried("fd", lambda: os.stat(f"/proc/{{pid}}/fd/0"))
    tried("exe", lambda: os.readlink(f"/proc/{{pid}}/exe"))
    tried("trace", lambda: call("ptrace", 0x4206, pid, 0, 0))
    tried("namespace", lambda: os.stat(f"/proc/{{pid}}/ns/mnt"))
    print("LIVE", open(f"/proc/{{pid}}/comm").read().strip())
"""
        output = attack(node, sandbox, program, security={"namespace_options": HOST_PIDS})
        assert output.count("LIVE") == len(pids)
        assert "DID" not in output, output
        assert output.count("failed EACCES") + output.count("failed EPERM") == 9 * len(pids)
        assert node.shell(bystander, "echo alive") == "alive"


def test_memory_and_queues_of_a_pod_are_its_own(node: Node) -> None:
    """/dev/shm, System V IPC and POSIX message queues: shared in a pod, never beyond."""
    make = """
open("/dev/shm/canary", "w").write("canary")
open("/dev/mqueue/canary", "w").close()
number = libc.shmget(0x6b75, 4096, 0o1666)
print("made", number >= 0)
"""
    look = """
print("shm", os.listdir("/dev/shm"), "mqueue", os.listdir("/dev/mqueue"),
      "sysv", libc.shmget(0x6b75, 4096, 0) >= 0)
"""
    options = cri.NamespaceOption(pid=cri.CONTAINER, ipc=cri.POD)
    with node.pod(namespaces=options) as sandbox, node.pod(namespaces=options) as other:
        security = {"namespace_options": options}
        assert "made True" in attack(node, sandbox, make, name="make", security=security)
        inside = attack(node, sandbox, look, name="look", security=security)
        assert inside == "shm ['canary'] mqueue ['canary'] sysv True"
        outside = attack(node, other, look, security=security)
        assert outside == "shm [] mqueue [] sysv False"
    assert not Path("/dev/shm/canary").exists()


def test_the_node_has_no_abstract_sockets_and_pods_share_none(node: Node) -> None:
    """CVE-2020-15257: none of the runtime's processes listens where a host's pod can connect."""
    listen = """
server = socket.socket(socket.AF_UNIX)
server.bind("\\0kubeletpy-canary")
server.listen()
print("listening", flush=True)
time.sleep(1000)
"""
    connect = """
client = socket.socket(socket.AF_UNIX)
tried("connect", lambda: client.connect("\\0kubeletpy-canary"))
"""
    with node.pod() as sandbox, node.pod() as other:
        listener = node.run(sandbox, *command(listen), name="a", mounts=python_mounts())
        log = Path(node.status(listener).log_path)
        while "listening" not in log.read_text():
            assert node.status(listener).state == cri.CONTAINER_RUNNING
        assert "connect DID" in attack(node, sandbox, connect, name="b")
        assert "connect failed ECONNREFUSED" in attack(node, other, connect)
        ours = {node.daemon.pid, shim_of(sandbox), *processes_titled("kubeletpy-")}
        inodes = set[str]()
        for pid in ours:
            for name in os.listdir(f"/proc/{pid}/fd"):
                try:
                    inodes |= set(re.findall(r"socket:\[(\d+)\]",
                                             os.readlink(f"/proc/{pid}/fd/{name}")))  # fmt: skip
                except FileNotFoundError:
                    continue
        assert len(inodes) >= 5
        for pid in ours:
            lines = Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]
            abstract = [f for line in lines if len(f := line.split()) > 7 and f[7].startswith("@")]
            assert [fields for fields in abstract if fields[6] in inodes] == []


def test_user_namespaces_of_two_pods_have_nothing_in_common(node: Node, tmp_path: Path) -> None:
    """CVE-2025-47291 and beyond: maps cannot be widened, files of the other pod not be touched."""
    os.chmod(tmp_path, 0o777)
    volume = cri.Mount(container_path="/volume", host_path=str(tmp_path))
    make = """
open("/volume/secret", "w").write("canary")
os.chmod("/volume/secret", 0o600)
"""
    program = """
print(open("/proc/self/uid_map").read().split())
tried("read", lambda: open("/volume/secret").read())
tried("own", lambda: os.chown("/volume/secret", 0, 0))
tried("map", lambda: os.write(os.open("/proc/self/uid_map", os.O_WRONLY), b"0 0 4294967295"))
tried("setuid", lambda: os.setuid(70000))
tried("device", lambda: os.mknod("/tmp/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3)))
# A user namespace of one's own may map what this one has, and no more.
call("unshare", 0x10000000)
child = os.fork()
if child == 0:
    tried("nested", lambda: os.write(os.open("/proc/self/uid_map", os.O_WRONLY), b"0 70000 1"))
    os._exit(0)
os.waitpid(child, 0)
"""
    one, two = mapped(300_000), mapped(400_000)
    with node.pod(namespaces=one) as sandbox, node.pod(namespaces=two) as other:
        attack(node, sandbox, make, security=secured(one), mounts=[volume])
        assert (tmp_path / "secret").stat().st_uid == 300_000
        output = attack(node, other, program, security=secured(two), mounts=[volume])
        assert "['0', '400000', '65536']" in output
        assert "DID" not in output, output
        assert output.count("failed") == 6
    assert (tmp_path / "secret").read_text() == "canary"


def test_the_administrator_of_a_pods_network_is_none_of_the_nodes(node: Node) -> None:
    """CAP_NET_ADMIN and CAP_NET_RAW in the pod's own network namespace."""
    program = """
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
print("LIVE", sorted(name for _, name in socket.if_nameindex()))
for name in ("core/bpf_jit_enable", "netfilter/nf_conntrack_max", "core/bpf_jit_harden"):
    path = f"/proc/sys/net/{name}"
    if os.path.exists(path):
        tried(name, lambda: os.open(path, os.O_WRONLY))
tried("enter", lambda: os.open("/proc/1/ns/net", os.O_RDONLY) and libc.setns(
    os.open("/proc/1/ns/net", os.O_RDONLY), 0x40000000) == -1 and os.open("/nowhere", 0))
"""
    with in_namespace(node.place.netns):
        before = Path("/proc/thread-self/net/dev").read_text().splitlines()
        forwarding = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    with node.pod() as sandbox:
        security = {"capabilities": cri.Capability(add_capabilities=["NET_ADMIN", "NET_RAW"])}
        output = attack(node, sandbox, program, security=security)
        assert "LIVE ['eth0', 'lo']" in output, output
        assert "DID" not in output, output
        container = node.run(sandbox, *SLEEP, name="ip", security=security)
        for change in ("link set eth0 down", "link set lo down", "route flush table main"):
            node.shell(container, f"ip {change}")
        with in_namespace(node.place.netns):
            assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == forwarding
            now = Path("/proc/thread-self/net/dev").read_text().splitlines()
            names = {line.split(":")[0] for line in before}
            assert names <= {line.split(":")[0] for line in now}
        with node.pod() as other:
            assert node.run_to_end(other, "sh", "-c", f"ping -c 1 {gateway(node)}").exit_code == 0


def gateway(node: Node) -> str:
    assert node.place.bridge
    return "10.87.0.1"


def test_a_pod_cannot_become_the_nodes_router(node: Node) -> None:
    """CVE-2020-10749: forged IPv6 router advertisements, sent to the node's end of the link."""
    program = """
import struct
sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)
index = socket.if_nametoindex("eth0")
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
# Type 134: hop limit, flags, lifetime of a default router; then a prefix for addresses.
prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + socket.inet_pton(
    socket.AF_INET6, "fd66:6::")
message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 9000, 0, 0) + prefix
for _ in range(20):
    sock.sendto(message, ("ff02::1", 0, 0, index))
    time.sleep(0.02)
print("LIVE sent")
"""

    with node.pod() as sandbox:
        with in_namespace(node.place.netns):
            received = advertisements()
        assert "LIVE sent" in attack(node, sandbox, program)
        with in_namespace(node.place.netns):
            # It is live: they do arrive.
            assert advertisements() > received
            accepted = Path(f"/proc/sys/net/ipv6/conf/{node.place.bridge}/accept_ra").read_text()
            addresses = Path("/proc/thread-self/net/if_inet6").read_text()
            routes = Path("/proc/thread-self/net/ipv6_route").read_text()
        assert accepted == "0\n"
        for table in (addresses, routes):
            assert "fd660006" not in table


def advertisements() -> int:
    """Return how many router advertisements this network namespace has received."""
    counters = Path("/proc/thread-self/net/snmp6").read_text()
    return int(dict(re.findall(r"(\S+)\s+(\d+)", counters))["Icmp6InRouterAdvertisements"])
