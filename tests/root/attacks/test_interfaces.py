"""What others may talk to: sockets, directories, the streaming server."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import stat
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from runtime.config import ConfigError, load_config
from tests.root.runtime.cri.node import SLEEP, Node, wait_process_end
from tests.root.runtime.cri.stream_clients import exec_url, forward_url, in_network_of
from tests.root.runtime.cri.test_recovery import shim_of

pytestmark = pytest.mark.root

METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE")
# What kubelets, containerd, CRI-O and Go programs serve, some of it without asking who it is.
ENDPOINTS = (
    "/ /exec /exec/ /attach/ /portforward/ /exec/x /attach/x /portforward/x /exec/../exec/x "
    "//exec//x /%2e%2e/etc/passwd /exec/%2e%2e%2f%2e%2e%2fetc%2fpasswd /debug/pprof/ /debug/vars "
    "/debug/flags/v /metrics /healthz /configz /stats /pods /runningpods/ /checkpoint/a/b/c "
    "/containerLogs/a/b/c /info /config /containers/x /pause/x /unpause/x /logs/ /run/a/b/c "
    "/cri/exec/x /v1/metrics http://169.254.169.254/latest /exec/x?command=id "
    "/exec/a/b/c?command=id"
).split()


def test_every_endpoint_of_the_streaming_server_wants_a_token(node: Node) -> None:
    """CVE-2019-11248, CVE-2025-0426, CVE-2020-8559: nothing is told, and nobody is redirected."""
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        parts = urlsplit(exec_url(node, container, "touch", "/evil"))
        websocket = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "x" * 22 + "==",
            "Sec-WebSocket-Version": "13",
        }
        spdy = {"Upgrade": "SPDY/3.1", "Connection": "Upgrade"}

        async def scenario() -> set[int]:
            seen = set()
            plain: list[tuple[str, dict[str, str]]] = [(method, {}) for method in METHODS]
            for path in ENDPOINTS:
                for method, headers in (*plain, ("GET", spdy), ("GET", websocket)):
                    status, head = await request(parts.port or 0, method, path, headers)
                    assert 400 <= status < 500, (method, path, headers, head)
                    assert b"\nlocation:" not in head.lower()
                    seen.add(status)
            return seen

        assert 404 in in_network_of(node, scenario())
        assert node.exec(container, "ls", "/evil").exit_code == 1


async def request(port: int, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Send a request as it is, which no client library would; return status and answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"{method} {path} HTTP/1.1", "Host: x"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return int(answer.split()[1]), answer


def test_no_session_is_redirected_from_or_into_a_pod(node: Node) -> None:
    """CVE-2020-8559: neither the server nor what a container answers sends a client elsewhere."""
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        urls = [exec_url(node, container, "true"), forward_url(node, sandbox)]

        async def scenario() -> None:
            async with aiohttp.ClientSession() as session:
                for url in urls:
                    for address in (url, f"{url}/", f"{url}/../x", url.replace("//1", "///1")):
                        try:
                            async with session.get(address, allow_redirects=False) as answer:
                                assert answer.status in (400, 404)
                                assert "Location" not in answer.headers
                        except aiohttp.ClientError:
                            continue

        in_network_of(node, scenario())


def test_tokens_expire_and_serve_once(node: Node) -> None:
    """The life of a token, by the server's own clock, is that of runtime/streaming/tokens.py."""
    from runtime.streaming.tokens import LIFETIME, TOKEN_BYTES, Tokens

    now = [0.0]
    tokens: Tokens[str] = Tokens(lambda: now[0])
    first = tokens.issue("session")
    now[0] = LIFETIME - 1
    second = tokens.issue("session")
    now[0] = LIFETIME
    assert tokens.take(first) is None
    assert tokens.take(second) == "session"
    assert tokens.take(second) is None
    assert (LIFETIME, TOKEN_BYTES) == (60.0, 32)
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        tokens_seen = {exec_url(node, container, "true").rsplit("/", 1)[1] for _ in range(50)}
    assert len(tokens_seen) == 50
    assert all(len(token) == 43 and token not in node.daemon.log() for token in tokens_seen)


def test_connections_that_say_nothing_do_not_stop_the_daemon(node: Node) -> None:
    """A pod in the host's network reaches the loopback address, and may keep connections open."""
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        port = urlsplit(exec_url(node, container, "true")).port
        sockets = []
        try:
            with in_namespace(node.place.netns):
                for _ in range(900):
                    client = socket.create_connection(("127.0.0.1", port), timeout=5)
                    sockets.append(client)
                    client.send(b"GET /exec/x HTTP/1.1\r\n")
            assert node.shell(container, "echo alive") == "alive"
            assert node.run_to_end(sandbox, "true", name="next").exit_code == 0
        finally:
            for client in sockets:
                client.close()


@pytest.mark.parametrize("address", ["10.0.0.1", "::", "0.0.0.0", "2001:db8::1"])
def test_beyond_loopback_it_speaks_tls_or_nothing(tmp_path: Path, address: str) -> None:
    path = tmp_path / "runtime.toml"
    path.write_text(f'[streaming]\naddress = "{address}"\n')
    with pytest.raises(ConfigError, match=r"tls_cert|none that clients"):
        load_config(path, {})


def test_everything_below_the_runtimes_directories_is_roots_alone(node: Node) -> None:
    """CVE-2021-41103, CVE-2024-25621: whoever is not root comes to nothing, whatever its mode."""
    config = node.pod_config()
    sandbox = node.run_pod(config)
    try:
        container = node.run(sandbox, *SLEEP)
        node.shell(container, "cp /bin/busybox /tmp/s && chmod 4755 /tmp/s && mkdir -m 777 /tmp/d")
        place = node.place
        for top in (place.root, place.state):
            facts = top.lstat()
            assert (stat.S_IMODE(facts.st_mode), facts.st_uid) == (0o700, 0), top
        for top in (place.state / "sandboxes", place.state / "containers", place.root / "volumes",
                    place.state / "sandboxes" / sandbox, place.state / "containers" / container,
                    place.state / "sandboxes" / sandbox / "ns",
                    place.state / "sandboxes" / sandbox / "shm/.."):  # fmt: skip
            assert stat.S_IMODE(top.stat().st_mode) == 0o700, top
        loose = []
        for directory, names, files in os.walk(place.state):
            names[:] = [name for name in names if name not in ("rootfs", "shm")]
            for name in files:
                path = Path(directory) / name
                facts = path.lstat()
                if stat.S_ISSOCK(facts.st_mode):
                    assert stat.S_IMODE(facts.st_mode) == 0o600, path
                    assert facts.st_uid == 0
                elif facts.st_mode & 0o077 and "ns/" not in str(path):
                    loose.append(path.name)
        # What every user of a container reads, behind directories of 0700.
        assert set(loose) <= {"hostname", "resolv.conf", "hosts", "config.json", "seccomp.bpf",
                              "exit.json", "rootfs.json"}, loose  # fmt: skip
        assert stat.S_IMODE(place.socket.stat().st_mode) == 0o600
        # It is live: somebody who is not root tries.
        for closed in (place.root, place.state):
            assert "Permission denied" in unprivileged(closed)
    finally:
        node.remove_pod(sandbox)


def unprivileged(directory: Path) -> str:
    """Return what a user without privileges is told who lists a directory, by its parent."""
    parent = os.open(directory.parent, os.O_PATH)
    try:
        listed = subprocess.run(
            ["ls", f"/proc/self/fd/{parent}/{directory.name}"],
            user=65534, group=65534, extra_groups=[], pass_fds=(parent,), cwd="/",
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    finally:
        os.close(parent)
    return listed.stderr or listed.stdout


def dies_with_a_core(pid: int) -> bool:
    """Have a child of this process end as by a crash; tell whether it left its memory."""
    resource.prlimit(pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
    os.kill(pid, signal.SIGABRT)
    return os.WCOREDUMP(os.waitpid(pid, 0)[1])


@pytest.mark.timeout(60)
def test_neither_daemon_nor_shim_leaves_its_memory_in_a_core_dump(
    node: Node, tmp_path: Path
) -> None:
    """Credentials of registries and tokens of sessions are in the one, descriptors in the other."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    ordinary = subprocess.Popen(["sleep", "100"], cwd=tmp_path)
    # It is live where the kernel writes dumps to files at all.
    assert dies_with_a_core(ordinary.pid) or pattern.startswith("|") or not pattern.strip()
    ordinary.returncode = 0
    with node.pod() as sandbox:
        shim = shim_of(sandbox)
        before = os.listdir("/")
        resource.prlimit(shim, resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
        os.kill(shim, signal.SIGABRT)
        wait_process_end(shim)
        assert os.listdir("/") == before
    try:
        assert not dies_with_a_core(node.daemon.pid)
    finally:
        node.daemon.start()
        node.connect()
