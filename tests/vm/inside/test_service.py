"""A Service by the proxy's rules on this kernel: a node, its pod, and objects of a file."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from tests.support.circumstances import patient
from tests.support.proxylab import proxies
from tests.support.proxylab.clients import REFUSED, Answer, ask
from tests.support.proxylab.objects import LOCAL, PORT, Json, node, service, slices
from tests.support.proxylab.proxies import Settings
from tests.support.proxylab.topology import FAMILIES, Namespace, gateway

pytestmark = pytest.mark.root

_LENGTH = {4: 24, 6: 64}


@pytest.fixture
def host() -> Iterator[Namespace]:
    """A node, and behind it a pod that says who it is and whom it sees."""
    with ExitStack() as stack:
        host, pod = Namespace(), Namespace()
        stack.callback(host.close)
        stack.callback(pod.close)
        pod.run(
            f"ip link set lo up; ip link add eth0 type veth peer name pod netns {host.path}; "
            "ip link set eth0 up"
        )
        host.run("ip link set lo up; ip link set pod up")
        for family in FAMILIES:
            more = "nodad" if family == 6 else ""
            for space, link, address in (
                (host, "pod", gateway("node", family)),
                (pod, "eth0", LOCAL[0].address(family)),
            ):
                space.run(f"ip address add {address}/{_LENGTH[family]} dev {link} {more}")
            # What is translated has to have been on its way to somewhere.
            host.run(f"ip -{family} route add default via {LOCAL[0].address(family)}")
        yield stack.enter_context(_Answering(host, pod))


class _Answering:
    """Answers in the pod while the block lasts; gives the node."""

    def __init__(self, host: Namespace, pod: Namespace) -> None:
        self._host, self._pod = host, pod
        self._script = """
import selectors, socket, sys
look = selectors.DefaultSelector()
for family, address in ((socket.AF_INET, sys.argv[1]), (socket.AF_INET6, sys.argv[2])):
    made = socket.socket(family)
    made.bind((address, int(sys.argv[3])))
    made.listen()
    look.register(made, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in look.select():
        asked, peer = key.fileobj.accept()
        own = key.fileobj.getsockname()
        asked.sendall(f"{own[0]} {own[1]} {peer[0]}".encode())
        asked.close()
"""

    def __enter__(self) -> Namespace:
        words = [LOCAL[0].address(family) for family in FAMILIES]
        with in_namespace(self._pod.path):
            self._process = subprocess.Popen(
                ["python3", "-I", "-c", self._script, *words, str(PORT)], stdout=subprocess.PIPE
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self._host

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=patient(10))


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_a_service_is_reached(host: Namespace, mode: str, tmp_path: Path) -> None:
    served, empty = service("web"), service("empty")
    objects = [node(), served, *slices("web", LOCAL[:1]), empty]
    file = tmp_path / "objects.json"
    file.write_text(json.dumps({"kind": "List", "items": objects}))
    settings = Settings(mode)
    words = proxies.command(settings, tmp_path, "http://127.0.0.1:9")
    with in_namespace(host.path):
        done = subprocess.run(
            proxies.inside_mounts([*words, "--objects", str(file), "--once"]),
            env=proxies.environment(settings, tmp_path), cwd=proxies.REPOSITORY,
            capture_output=True, text=True, timeout=patient(60),
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for family in FAMILIES:
        pod = LOCAL[0].address(family)
        reached = asyncio.run(ask(host, _address(served, family), 80))
        assert reached == Answer(f"{pod}:{PORT}", gateway("node", family)), family
        assert asyncio.run(ask(host, _address(empty, family), 80)) == REFUSED, family


def _address(made: Json, family: int) -> str:
    addresses: list[str] = made["spec"]["clusterIPs"]
    return addresses[FAMILIES.index(family)]
