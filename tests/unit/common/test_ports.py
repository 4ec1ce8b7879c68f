"""Ports that stay free."""

from __future__ import annotations

import socket

import pytest

from kubeletpy_common.ports import free_port, free_ports, ports_to_choose_from


@pytest.mark.parametrize(
    ("ephemeral", "first", "last"),
    [
        ("32768\t60999\n", 11_000, 29_999),
        ("20000\t60999\n", 11_000, 19_999),
        ("", 11_000, 29_999),
        ("none here\n", 11_000, 29_999),
    ],
)
def test_neither_ephemeral_ports_nor_node_ports_are_chosen(
    ephemeral: str, first: int, last: int
) -> None:
    found = ports_to_choose_from(ephemeral)
    assert (found[0], found[-1]) == (first, last)


def test_where_all_are_ephemeral_there_is_nothing_to_choose_from() -> None:
    assert not ports_to_choose_from("1024\t65535\n")


def test_ports_differ_and_can_be_listened_on() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET, kind) as one:
                one.bind(("127.0.0.1", port))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_in_use_is_passed_over(
    kind: socket.SocketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("0.0.0.0", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(
            "kubeletpy_common.ports.ports_to_choose_from", lambda text: range(port, port + 1)
        )
        assert free_port() != port
