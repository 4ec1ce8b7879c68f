"""Addresses that a link answers for, seen from a neighbour."""

from __future__ import annotations

import ipaddress
import subprocess
import sys

import pytest

from controlplane.controllers.loadbalancer.announcer import AnnounceError, Announcer
from tests.support.namespaces import in_new_network
from tests.support.proxylab.proxies import deadline

pytestmark = pytest.mark.root
_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 9), timeout=5)"


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def addresses() -> list[str]:
    lines = run("ip", "-o", "addr", "show", "dev", "here").splitlines()
    return [line.split()[3] for line in lines if "fe80" not in line]


def test_a_neighbour_reaches_them_and_they_go() -> None:
    first, second = ipaddress.ip_address("192.0.2.7"), ipaddress.ip_address("2001:db8::7")

    def inside() -> None:
        # The neighbour is a namespace of the process that listens in it.
        start = ["unshare", "--net", "sh", "-c", "echo; exec sleep 60"]
        with subprocess.Popen(start, stdout=subprocess.PIPE) as neighbour:
            try:
                assert neighbour.stdout is not None
                neighbour.stdout.readline()  # it is in its namespace now
                run("ip", "link", "add", "here", "type", "veth", "peer", "name", "there")
                run("ip", "link", "set", "there", "netns", str(neighbour.pid))
                run("ip", "addr", "add", "192.0.2.1/24", "dev", "here")
                run("ip", "addr", "add", "2001:db8::1/64", "dev", "here", "nodad")
                run("ip", "link", "set", "here", "up")
                enter = ("nsenter", f"--net=/proc/{neighbour.pid}/ns/net")
                for command in (
                    "ip addr add 192.0.2.100/24 dev there",
                    "ip addr add 2001:db8::100/64 dev there nodad", "ip link set there up",
                ):  # fmt: skip
                    run(*enter, *command.split())
                own = addresses()
                announcer = Announcer("here")
                # The neighbour knows both elsewhere, and learns of their coming by itself.
                for address in (first, second):
                    run(*enter, *f"ip neigh add {address} lladdr 02:00:00:00:00:09 dev there "
                        "nud stale".split())  # fmt: skip
                announcer.announce([first, second])
                own_mac = run("ip", "-o", "link", "show", "dev", "here").split("link/ether ")[1][
                    :17
                ]
                with deadline(5, "the neighbour hears of the addresses") as turn:
                    while (known := run(*enter, "ip", "neigh", "show")).count(own_mac) < 2:
                        turn(known)
                announcer.announce([first, second])
                # Deprecated: a packet of ours never has it as its source by itself.
                assert sorted(addresses()) == sorted([*own, "192.0.2.7/32", "2001:db8::7/128"])
                assert "deprecated" in run("ip", "addr", "show", "dev", "here")
                for address in (first, second):
                    answer = subprocess.run(
                        [*enter, sys.executable, "-c", _CONNECT, str(address)],
                        capture_output=True, text=True, check=False,
                    )  # fmt: skip
                    # Nobody listens there; that somebody says so is what is to be seen.
                    assert "ConnectionRefusedError" in answer.stderr
                announcer.announce([second])
                assert sorted(addresses()) == sorted([*own, "2001:db8::7/128"])
                announcer.announce([])
                assert sorted(addresses()) == sorted(own)
                with pytest.raises(AnnounceError, match="no link 'gone'"):
                    Announcer("gone").announce([first])
            finally:
                neighbour.kill()

    in_new_network(inside)
