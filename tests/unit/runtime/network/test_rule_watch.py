"""Which messages of nftables are a reason to look at our rules."""

from __future__ import annotations

import struct

import pytest

from runtime.network.rule_watch import takes_away

NEEDLE = b"KUBELETPY-KP0\0"
NEW_RULE, DELETED_TABLE, DELETED_CHAIN, DELETED_RULE = 6, 2, 5, 8


def message(kind: int, body: bytes, subsystem: int = 10) -> bytes:
    """A message with its header, padded."""
    head = struct.pack("=IHHII", 16 + len(body), subsystem << 8 | kind, 0, 0, 7)
    return head + body + b"\0" * (-len(body) % 4)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (message(DELETED_RULE, b"x" + NEEDLE), True),
        (message(DELETED_CHAIN, NEEDLE), True),
        (message(DELETED_TABLE, NEEDLE), True),
        (message(NEW_RULE, NEEDLE), False),
        (message(DELETED_RULE, b"KUBELETPY-KP0-hp\0"), False),
        (message(DELETED_RULE, NEEDLE, subsystem=1), False),
        (message(NEW_RULE, NEEDLE) + message(DELETED_RULE, b"other\0"), False),
        (message(NEW_RULE, b"abc") + message(DELETED_RULE, NEEDLE), True),
        (b"", False),
        (b"\0" * 64, False),
    ],
)
def test_only_the_loss_of_ours(data: bytes, expected: bool) -> None:
    assert takes_away(data, NEEDLE) == expected


def test_cut_short_is_no_harm() -> None:
    whole = message(DELETED_RULE, NEEDLE)
    for length in range(len(whole)):
        takes_away(whole[:length], NEEDLE)
