"""What is said on netlink sockets, apart from rules."""

from __future__ import annotations

import errno
import struct

import pytest

from proxy.model.portal import Family
from proxy.nftables import transaction
from proxy.nftables.layout import SERVICE_ENDPOINTS, TABLES
from proxy.nftables.portals import bounds
from proxy.nftables.ruleset import Element, Encoder, intervals
from proxy.nftables.tables import explained
from proxy.nftables.watch import foreign_change
from proxy.nftables.wire import HEADER, Kind, Message, attributes, generic, messages, string

OURS, OTHERS = 4711, 4712
V4, V6 = 2, 10


def announced(kind: int, table: str, port: int, family: int = V4, subsystem: int = 10) -> bytes:
    body = generic(family) + string(1, table)
    return HEADER.pack(HEADER.size + len(body), subsystem << 8 | kind, 0, 0, port) + body


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (announced(Kind.DELETE_RULE, TABLES[0], OTHERS), "delete rule"),
        (announced(Kind.NEW_ELEMENTS, TABLES[1], OTHERS), "new elements"),
        (announced(Kind.DELETE_TABLE, TABLES[1], OTHERS), "delete table"),
        (announced(Kind.DELETE_RULE, TABLES[0], OURS), ""),
        (announced(Kind.DELETE_RULE, TABLES[0], OTHERS, family=V6), ""),
        (announced(Kind.DELETE_RULE, "filter", OTHERS), ""),
        (announced(Kind.DELETE_RULE, TABLES[0] + "x", OTHERS), ""),
        (announced(Kind.NEW_GENERATION, TABLES[0], OTHERS), ""),
        (announced(Kind.DELETE_RULE, TABLES[0], OTHERS, subsystem=1), ""),
        (
            announced(Kind.NEW_RULE, "filter", OTHERS) + announced(Kind.NEW_SET, TABLES[0], OTHERS),
            "new set",
        ),
        (b"", ""),
        (announced(Kind.DELETE_RULE, TABLES[0], OTHERS)[:18], ""),
        (HEADER.pack(4, 10 << 8, 0, 0, OTHERS) * 3, ""),
        (HEADER.pack(HEADER.size + 2, 10 << 8, 0, 0, OTHERS) + b"\2\0", ""),
    ],
)
def test_only_changes_of_others_to_our_tables_count(data: bytes, reason: str) -> None:
    found = foreign_change(data, V4, OURS)
    assert found.partition(": ")[2] == reason
    assert bool(found) == bool(reason)


def test_malformed_attributes_end_the_reading() -> None:
    good = string(1, "t")
    assert list(attributes(good + struct.pack("=HH", 2, 9))) == [(1, b"t\0")]
    assert list(attributes(good + struct.pack("=HH", 200, 9))) == [(1, b"t\0")]
    assert list(attributes(b"\1")) == []
    assert [each.kind for each in messages(announced(1, "t", 1) + b"\1\2")] == [10 << 8 | 1]


def test_transactions_are_bounded_and_keep_the_order() -> None:
    encoder = Encoder("t", Family.V4)
    elements = [Element(struct.pack(">4I", n, 6, 80, 0), None, bytes(8)) for n in range(5000)]
    whole = list(encoder.add_elements(SERVICE_ENDPOINTS, elements))
    assert all(len(each.body) < 1 << 16 for each in whole)
    batches = list(transaction.batches(whole, 120_000))
    assert [each for batch in batches for each in batch] == whole
    assert len(batches) > 1
    assert all(transaction.size_of(batch) <= 120_000 for batch in batches)
    assert transaction.size_of(batches[0]) > 60_000
    big = Message(Kind.NEW_SET, bytes(500), "one that is larger than a batch is sent alone")
    assert list(transaction.batches([big, big], 100)) == [[big], [big]]


@pytest.mark.parametrize(
    ("cidrs", "expected"),
    [
        (["10.0.0.0/8"], ["10.0.0.0-10.255.255.255"]),
        (["10.1.0.0/16", "10.0.0.0/16"], ["10.0.0.0-10.1.255.255"]),
        (["10.0.0.0/8", "10.9.0.0/16", "11.0.0.1/32"], ["10.0.0.0-10.255.255.255", "11.0.0.1"]),
        (["255.0.0.0/8"], ["255.0.0.0-255.255.255.255"]),
        (["0.0.0.0/0"], ["0.0.0.0-255.255.255.255"]),
        ([], []),
    ],
)
def test_networks_become_intervals(cidrs: list[str], expected: list[str]) -> None:
    def show(data: bytes) -> str:
        return ".".join(map(str, data))

    found = [
        show(first) if first == last else f"{show(first)}-{show(last)}"
        for first, last in intervals(bounds(cidrs), 4)
    ]
    assert found == expected


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EINVAL, "use iptables mode"),
        (errno.EOPNOTSUPP, "use iptables mode"),
        (errno.EPERM, "needs CAP_NET_ADMIN"),
        (errno.ENOBUFS, "netlink failed"),
    ],
)
def test_a_failure_says_what_to_do(number: int, words: str) -> None:
    assert words in explained(OSError(number, "reason"))
    assert "reason" in explained(OSError(number, "reason"))
