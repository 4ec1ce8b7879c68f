"""Which messages of nftables are about our chains."""

from __future__ import annotations

import struct

import pytest

from proxy.iptables.kernel import harm, loss

NEW_CHAIN, DELETED_CHAIN, NEW_RULE, DELETED_RULE, DELETED_TABLE, NEW_SET = 3, 5, 6, 8, 2, 9


def body(table: str, chain: str, kind: int, rest: bytes = b"") -> bytes:
    """The body of a message: nfgenmsg, the table's name, the chain's name, something more."""
    name = 3 if kind in (NEW_CHAIN, DELETED_CHAIN) else 2
    made = struct.pack("=BBH", 2, 0, 0)
    for number, text in ((1, table), (name, chain)):
        value = text.encode() + b"\0"
        made += struct.pack("=HH", 4 + len(value), number) + value + b"\0" * (-len(value) % 4)
    return made + rest


@pytest.mark.parametrize(
    ("kind", "table", "chain", "rest", "expected"),
    [
        (DELETED_TABLE, "nat", "", b"", "table nat was deleted"),
        (DELETED_TABLE, "firewalld", "", b"", ""),
        (DELETED_CHAIN, "nat", "KUBE-SVC-X", b"", "chain KUBE-SVC-X was deleted"),
        (DELETED_CHAIN, "nat", "DOCKER", b"", ""),
        (NEW_CHAIN, "nat", "KUBE-SVC-X", b"", ""),
        (NEW_SET, "nat", "KUBE-SVC-X", b"", ""),
        (
            DELETED_RULE,
            "nat",
            "KUBE-SERVICES",
            b"",
            "a rule of table nat was deleted from chain KUBE-SERVICES",
        ),
        (
            NEW_RULE,
            "filter",
            "KUBE-FORWARD",
            b"",
            "a rule of table filter was added to chain KUBE-FORWARD",
        ),
        (NEW_RULE, "other", "KUBE-FORWARD", b"", ""),
        (NEW_RULE, "nat", "PREROUTING", b"KUBE-SERVICES\0", ""),
        (DELETED_RULE, "nat", "PREROUTING", b"DOCKER\0", ""),
        (
            DELETED_RULE,
            "nat",
            "PREROUTING",
            b"KUBE-SERVICES\0",
            "a rule of table nat was deleted from chain PREROUTING",
        ),
        (NEW_RULE, "filter", "KUBE-FIREWALL", b"", ""),
        (
            DELETED_RULE,
            "filter",
            "KUBE-FIREWALL",
            b"",
            "a rule of table filter was deleted from chain KUBE-FIREWALL",
        ),
    ],
)
def test_only_what_harms_us_is_told(
    kind: int, table: str, chain: str, rest: bytes, expected: str
) -> None:
    assert harm(kind, body(table, chain, kind, rest)) == expected


def test_a_message_that_is_cut_short_is_none_of_our_business() -> None:
    whole = body("nat", "KUBE-SERVICES", DELETED_RULE)
    for length in range(len(whole)):
        harm(DELETED_RULE, whole[:length])
    assert harm(DELETED_RULE, struct.pack("=BBHHH", 2, 0, 0, 0, 1)) == ""


@pytest.mark.parametrize(
    ("kind", "table", "chain", "rest", "expected"),
    [
        (DELETED_TABLE, "filter", "", b"", "table filter was deleted"),
        (DELETED_TABLE, "nat", "", b"", ""),
        (DELETED_CHAIN, "filter", "OURS", b"", "chain OURS was deleted"),
        (DELETED_CHAIN, "filter", "OURS-TOO", b"", ""),
        (DELETED_RULE, "filter", "OURS", b"", "a rule of table filter was deleted from chain OURS"),
        (
            DELETED_RULE, "filter", "FORWARD", b"OURS\0",
            "a rule of table filter was deleted from chain FORWARD",
        ),
        (DELETED_RULE, "filter", "FORWARD", b"OURS-TOO\0", ""),
        (DELETED_RULE, "nat", "OURS", b"", ""),
        (NEW_RULE, "filter", "OURS", b"", ""),
        (NEW_CHAIN, "filter", "OURS", b"", ""),
    ],
)  # fmt: skip
def test_only_the_loss_of_a_chain_is_told(
    kind: int, table: str, chain: str, rest: bytes, expected: str
) -> None:
    assert loss(kind, body(table, chain, kind, rest), "filter", "OURS") == expected


def test_a_loss_that_is_cut_short_is_none() -> None:
    for kind in (DELETED_TABLE, DELETED_CHAIN, DELETED_RULE):
        whole = body("filter", "OURS", kind)
        for length in range(len(whole)):
            loss(kind, whole[:length], "filter", "OURS")
